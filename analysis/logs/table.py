"""Tables that fits read: one format for a CSV, a JSON-lines file and a sweep's directory.

Whatever the source, a `Table` holds finite float64 columns under the project's names (`params`, `tokens`,
`loss`, `flops`, ...), the hash of what was read, and what a careful reader should be warned of.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

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


def read_table(
    path: str | os.PathLike,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    rename: Mapping[str, str] | None = None,
) -> Table:
    """Read a table and refuse whatever a fit could not stand on.

    Args:
      path: a .csv or .tsv file with a header, a JSON-lines file (either may be gzipped), or a sweep directory.
      required: columns that must be there, at least two rows of them.
      optional: columns that are taken where they are there.
      rename: name in the file -> name here, e.g. {"val_loss": "loss"}.

    Raises:
      BadInput: nothing readable there, a missing column, a cell that is no finite number, or a value that is
        not positive where only a positive one has a meaning. The message names row (from 1, header not
        counted), column and value.
    """
    path = Path(path)
    if path.is_dir():
        if rename:
            raise BadInput(f"{path}: columns of a sweep cannot be renamed")
        from analysis.logs import load  # load builds Tables: the import would be circular at the top

        return load.load_sweep(path).table(required, optional)
    payload = _read_bytes(path)
    text = _decompress(path, payload)
    frame, torn = _frame_of(path, text)
    frame = _renamed(path, frame, rename or {})
    missing = [name for name in required if name not in frame.columns]
    if missing:
        present = ", ".join(frame.columns[:20]) + (", ..." if len(frame.columns) > 20 else "")
        raise BadInput(f"{path}: no column {', '.join(missing)}; it has {present or 'none'}")
    if frame.height == 0:
        raise BadInput(f"{path}: no rows; at least 2 are needed")
    if frame.height == 1:
        raise BadInput(f"{path}: only one row; at least 2 are needed")
    wanted = [*required, *(name for name in optional if name in frame.columns and name not in required)]
    columns = {name: _column(path, name, frame[name]) for name in wanted}
    return Table(
        columns=columns,
        path=str(path),
        sha256=hashlib.sha256(payload).hexdigest(),
        rows=frame.height,
        warnings=(*torn, *suspicions(columns)),
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


def _read_bytes(path: Path) -> bytes:
    try:
        payload = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file or directory") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if not payload:
        raise BadInput(f"{path}: the file is empty")
    return payload


def _decompress(path: Path, payload: bytes) -> bytes:
    if not payload.startswith(b"\x1f\x8b"):
        return payload
    try:
        return gzip.decompress(payload)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged gzip file ({error})") from None


def _frame_of(path: Path, text: bytes) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """All cells still as they were written: strings of a CSV, values of JSON lines."""
    if not text.strip():
        raise BadInput(f"{path}: the file is empty")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a table (not UTF-8 text); a CSV or JSON lines are read") from None
    if "\x00" in decoded:
        raise BadInput(f"{path}: not a table (binary); a CSV or JSON lines are read")
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")) or decoded.lstrip().startswith(("{", "[")):
        return _json_lines(path, decoded)
    return _csv(path, decoded), ()


def _csv(path: Path, decoded: str) -> pl.DataFrame:
    lines = decoded.lstrip("\r\n")
    first = lines.split("\n", 1)[0]
    separator = "\t" if "\t" in first and "," not in first else ","
    header = [name.strip() for name in next(csv.reader(io.StringIO(first), delimiter=separator), [])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise BadInput(f"{path}: column {', '.join(repeated)} appears more than once")
    try:
        frame = pl.read_csv(lines.encode(), separator=separator, has_header=True, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"{path}: not a table; read as CSV: {reason}") from None
    if frame.width != len(header):
        raise BadInput(f"{path}: not a table; the header has {len(header)} columns, the rows {frame.width}")
    frame.columns = header
    # A blank line reads as a row of nulls: it says nothing, and is no row.
    return frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.height else frame


def _json_lines(path: Path, decoded: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if decoded.lstrip().startswith("["):
        raise BadInput(f"{path}: a JSON array; write one object a line instead")
    rows: list[dict] = []
    torn: tuple[str, ...] = ()
    lines = decoded.split("\n")
    last = max(number for number, line in enumerate(lines) if line.strip())
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number == last and rows:
                torn = (f"line {number + 1} is torn (a write was cut short) and was left out",)
                continue
            raise BadInput(f"{path}: line {number + 1} is not JSON; one object a line is read") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}: line {number + 1} is not a JSON object; one object a line is read")
        rows.append(row)
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {name: pl.Series(name, [row.get(name) for row in rows], dtype=pl.Object) for name in names}
    return pl.DataFrame(columns), torn


def _renamed(path: Path, frame: pl.DataFrame, rename: Mapping[str, str]) -> pl.DataFrame:
    for old, new in rename.items():
        if old not in frame.columns:
            raise BadInput(f"{path}: no column {old} to read as {new}; it has {', '.join(frame.columns)}")
    # The column that the caller chose wins over one that happens to have the name already.
    shadowed = [new for old, new in rename.items() if new in frame.columns and new != old]
    return frame.drop(shadowed).rename(dict(rename)) if rename else frame


def _column(path: Path, name: str, series: pl.Series) -> np.ndarray:
    if name in TEXT:
        return np.array(["" if value is None else str(value) for value in series.to_list()], dtype=np.str_)
    values = _text_numbers(series) if series.dtype == pl.String else _json_numbers(series)
    cells = series.to_list()
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


def _text_numbers(series: pl.Series) -> np.ndarray:
    numbers = series.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def _json_numbers(series: pl.Series) -> np.ndarray:
    def number(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return float("nan")
        try:
            return float(value)
        except OverflowError:
            return float("inf")

    return np.array([number(value) for value in series.to_list()], dtype=np.float64)


def _said(cell: object) -> str:
    """What is wrong with a cell that is no number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is missing"
    if str(cell).strip().lower().lstrip("+-") == "nan":
        return "is NaN"
    shown = repr(cell)
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} is not a number"
