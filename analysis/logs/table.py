"""Tables that fits read: one format for a CSV, a JSON-lines file and a sweep's directory.

Whatever the source, a `Table` holds finite float64 columns under the project's names (`params`, `tokens`,
`loss`, `flops`, ...), the hash of what was read, and what a careful reader should be warned of.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.logs.cells import read_cells
from core.errors import BadInput

REQUIRED = ("params", "tokens", "loss")
OPTIONAL = ("flops", "unique_tokens", "run", "seed", "weight")
TEXT = frozenset({"run"})
POSITIVE = frozenset({"params", "tokens", "loss", "flops", "unique_tokens", "width", "depth"})
NOT_NEGATIVE = frozenset({"weight"})

# No language model that anyone fits a law to has fewer parameters or training tokens than this; a column
# that never exceeds it was most likely written in millions or billions.
SMALLEST_COUNT = 1e4
# FLOPs differ from 6 params tokens by the convention (embedding, attention), not by this factor.
FLOPS_FACTOR = 20.0


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, and where they came from.

    Attributes:
      columns: float64 arrays, finite; `run`, where there is one, an array of str. Only the columns asked for.
      path: the source as the caller named it.
      sha256: of the file's bytes; of a sweep, see `analysis.logs.load.Sweep.sha256`.
      rows: the length of every column.
      warnings: one line each, for the reader of a fit.
    """

    columns: dict[str, np.ndarray]
    path: str
    sha256: str
    rows: int
    warnings: tuple[str, ...] = ()

    def source(self) -> dict[str, str | int]:
        """The `input` entry of every result file."""
        return {"path": self.path, "sha256": self.sha256, "rows": self.rows}


def table_of_file(
    path: Path,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    rename: Mapping[str, str] | None = None,
) -> Table:
    """Read a file of numbers. Arguments and errors are those of `analysis.logs.read.read_table`."""
    cells = read_cells(path)
    found = _renamed(path, cells.columns, rename or {})
    missing = [name for name in required if name not in found]
    if missing:
        present = ", ".join([*found][:20]) + (", ..." if len(found) > 20 else "")
        raise BadInput(f"{path}: no column {', '.join(missing)}; it has {present or 'none'}")
    if cells.rows < 2:
        how_many = "only one row" if cells.rows else "no rows"
        raise BadInput(f"{path}: {how_many}; at least 2 are needed")
    wanted = [*required, *(name for name in optional if name in found and name not in required)]
    columns = {name: _column(path, name, found[name], cells.numbers_are_text) for name in wanted}
    torn = f"line {cells.torn_line} is torn (a write was cut short) and was left out"
    return Table(
        columns=columns,
        path=str(path),
        sha256=cells.sha256,
        rows=cells.rows,
        warnings=(*([torn] if cells.torn_line else []), *suspicions(columns)),
    )


def constant_columns(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` whose values are all the same, so that no law's exponent in them can be told."""
    return tuple(name for name in names if name in columns and np.unique(columns[name]).size <= 1)


def suspicions(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Warnings about values that are possible yet probably mistaken: units, duplicates, loss that rises."""
    found: list[str] = []
    for name, unit in (("params", "millions"), ("tokens", "billions")):
        if name in columns and columns[name].max() < SMALLEST_COUNT:
            found.append(
                f"{name} is at most {columns[name].max():g}: is it in {unit}? "
                f"{name} are counted one by one here"
            )
    if {"params", "tokens", "flops"} <= columns.keys():
        ratio = float(np.median(columns["flops"] / (6.0 * columns["params"] * columns["tokens"])))
        if not 1.0 / FLOPS_FACTOR < ratio < FLOPS_FACTOR:
            found.append(f"flops are {ratio:.3g} times 6 params tokens in the median row: check the units")
    doubled = _duplicates(columns)
    if doubled:
        found.append(
            f"{doubled} row{'s repeat' if doubled > 1 else ' repeats'} another row exactly: each counts "
            "as if it were an independent run"
        )
    found.extend(_rising(columns))
    return tuple(found)


def _duplicates(columns: Mapping[str, np.ndarray]) -> int:
    # A repeated (params, tokens) with another loss is a second seed; the same loss to the last digit is a copy.
    numbers = [columns[name] for name in columns if name not in TEXT and name not in ("weight", "seed")]
    if not numbers:
        return 0
    stacked = np.stack(numbers, axis=1)
    return int(stacked.shape[0] - np.unique(stacked, axis=0).shape[0])


def _rising(columns: Mapping[str, np.ndarray]) -> list[str]:
    """A plane through log loss over log params and log tokens: a slope upward beyond its error is named."""
    if "loss" not in columns or columns["loss"].min() <= 0:
        return []
    names = [
        n for n in ("params", "tokens") if n in columns and columns[n].min() > 0 and np.ptp(columns[n]) > 0
    ]
    rows = columns["loss"].size
    if not names or rows < len(names) + 3:
        return []
    x = np.stack([np.log(columns[name]) for name in names], axis=1)
    design = np.column_stack([np.ones(rows), x - x.mean(axis=0)])
    response = np.log(columns["loss"])
    solution, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    if rank < design.shape[1]:
        return []
    residual = response - design @ solution
    variance = float(residual @ residual) / (rows - design.shape[1])
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return [
        f"loss rises with {name} (log-log slope {slope:+.3g} with standard error {error:.1g}): "
        "a law in which loss falls does not describe it"
        for name, slope, error in zip(names, solution[1:], errors[1:], strict=True)
        if slope > 2.0 * error and slope > 1e-9
    ]


def _renamed(path: Path, columns: dict[str, list], rename: Mapping[str, str]) -> dict[str, list]:
    for old, new in rename.items():
        if old not in columns:
            raise BadInput(f"{path}: no column {old} to read as {new}; it has {', '.join(columns)}")
    # The column that the caller chose wins over one that happens to have the name already.
    shadowed = {new for old, new in rename.items() if new != old}
    kept = {name: values for name, values in columns.items() if name in rename or name not in shadowed}
    return {rename.get(name, name): values for name, values in kept.items()}


def _column(path: Path, name: str, cells: list[Any], numbers_are_text: bool) -> np.ndarray:
    if name in TEXT:
        return np.array(["" if value is None else str(value) for value in cells], dtype=np.str_)
    values = _text_numbers(cells) if numbers_are_text else _json_numbers(cells)
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        row = int(bad[0])
        raise BadInput(f"{path}: row {row + 1}, column {name}: {_said(cells[row])}")
    check_values(str(path), name, values)
    return values


def check_values(where: str, name: str, values: np.ndarray) -> None:
    """Refuse (BadInput) an infinity anywhere, and zero or less where `name` can only be positive."""
    for wrong, said in (
        (~np.isfinite(values), "is not finite"),
        ((values <= 0) if name in POSITIVE else np.zeros(values.shape, bool), "must be positive"),
        ((values < 0) if name in NOT_NEGATIVE else np.zeros(values.shape, bool), "must not be negative"),
    ):
        rows = np.flatnonzero(wrong)
        if rows.size:
            raise BadInput(f"{where}: row {rows[0] + 1}, column {name}: {values[rows[0]]:g} {said}")
    if name == "weight" and not values.any():
        raise BadInput(f"{where}: column weight is zero in every row")


def _text_numbers(cells: list[str | None]) -> np.ndarray:
    numbers = pl.Series(cells, dtype=pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def _json_numbers(cells: list[Any]) -> np.ndarray:
    def number(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return float("nan")
        try:
            return float(value)
        except OverflowError:
            return float("inf")

    return np.array([number(value) for value in cells], dtype=np.float64)


def _said(cell: object) -> str:
    """What is wrong with a cell that is no number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is missing"
    if str(cell).strip().lower().lstrip("+-") == "nan":
        return "is NaN"
    shown = repr(cell)
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} is not a number"
