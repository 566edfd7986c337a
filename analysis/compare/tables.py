"""Sides of a comparison from a table: any file that the commands of analysis read."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.compare.metric import Metric
from analysis.compare.side import Axis, Recipe, RecipeRuns, best_tuned
from analysis.logs.cells import Cells, read_cells
from analysis.logs.read import read_table
from analysis.logs.settings import setting_warning
from analysis.logs.table import Table, TableReading
from core.errors import BadInput
from core.numbers import parse_float

RATE = "learning_rate"
OPTIONAL = ("params", "tokens", "flops", "seconds", "seed", "run", RATE)
SIX = 6.0  # FLOPs a parameter and token (Kaplan et al. 2020, arXiv 2001.08361)


def sides_of_table(
    path: str, reading: TableReading, axis: Axis, metric: Metric, where: Mapping[str, str], by: str = ""
) -> list[RecipeRuns]:
    """One side, or with `by` one for each value of a column, in the order of the rows.

    Raises:
      BadInput: no such table or column, or a side of fewer than two rows.
    """
    rename = {**({"loss": metric.column} if metric.column != "loss" else {}), **reading.rename}
    best_of = (*reading.best_of, *where, *([by] if by else [])) if reading.best_of else ()
    asked = dataclasses.replace(
        reading, rename=rename, best_of=tuple(dict.fromkeys(best_of)), spare=frozenset(OPTIONAL) - {axis},
        signed=frozenset({"loss"} if metric.share else ()), labels=frozenset({"seed"}),
    )  # fmt: skip
    required = ("loss",) if axis == "flops" else ("loss", axis)
    table = read_table(path, required, OPTIONAL, reading=asked)
    cells = read_cells(Path(path)).renamed(rename)
    for key, value in where.items():
        table = table.only(_equal(cells, table, key, value, "--where"))
        if not table.rows:
            there = ", ".join(dict.fromkeys(_texts(cells, None, key)))
            raise BadInput(f"--where {key}={value}: no row of {path} has it; there is {there:.200}")
    if not by:
        return [_side(table, cells, Path(path).name.partition(".")[0], axis, metric, reading)]
    values = list(dict.fromkeys(_texts(cells, table, by)))
    if len(values) < 2:
        raise BadInput(
            f"--by {by}: all rows of {path} have {values[0] if values else 'none'}; at least 2 values are needed"
        )
    return [
        _side(
            table.only(_equal(cells, table, by, value, "--by")), cells, f"{by}={value}", axis, metric, reading
        )
        for value in values
    ]


def _texts(cells: Cells, table: Table | None, key: str) -> list[str]:
    """A column as it was written, of the rows of a table or of all."""
    if key not in cells.columns:
        raise BadInput(f"{cells.path}: no column {key}; it has {', '.join(cells.columns)}")
    column = cells.columns[key]
    rows: Sequence[int] = range(len(column))
    if table is not None and table.row_numbers is not None:
        rows = (table.row_numbers - 1).tolist()
    return ["" if column[row] is None else str(column[row]).strip() for row in rows]


def _equal(cells: Cells, table: Table, key: str, value: str, flag: str) -> np.ndarray:
    """Which rows have this value: as text, or as the same number."""

    def number(text: str) -> float | None:
        try:
            return parse_float(text)
        except ValueError:
            return None

    wanted = number(value) if flag == "--where" else None
    return np.array(
        [text == value or (wanted is not None and number(text) == wanted) for text in _texts(cells, table, key)]
    )


def _side(
    table: Table, cells: Cells, label: str, axis: Axis, metric: Metric, reading: TableReading
) -> RecipeRuns:
    if table.rows < 2:
        raise BadInput(f"{table.path}: {label} has {table.rows} rows; at least 2 are needed")
    columns = dict(table.columns)
    warnings = [one for one in table.warnings if "their spread is taken for the noise" not in one]
    rates: int | None = None
    if RATE in columns and {"params", "tokens"} <= columns.keys() and not reading.best_of:
        rates_of = [f"{rate:g}" for rate in columns[RATE]]
        kept, rates = best_tuned(columns["params"], columns["tokens"], columns["loss"], rates_of)
        if not kept.all():
            warnings.append(
                f"of {table.rows} rows the {int(kept.sum())} of the best {RATE} at each size and data size are taken; "
                "the best of several is low by luck, too"
            )
            table = table.only(kept)
            columns = dict(table.columns)
    flops = {} if axis != "flops" else _flops(table)
    columns |= flops
    places = np.array([table.row_number(row) - 1 for row in range(table.rows)])
    recipe = Recipe(counted=frozenset({"6 N D"} if flops else ()), rates=rates)
    if not reading.best_of:
        numbers = {name: values for name, values in columns.items() if values.dtype.kind == "f"}
        written = {
            name: np.array(column, dtype=object)[places].tolist() for name, column in cells.columns.items()
        }
        warnings += setting_warning(numbers, written)
    loss = [
        metric.lowered(float(value), f"{table.path}: row {table.row_number(row)}")
        for row, value in enumerate(columns["loss"])
    ]
    return RecipeRuns(
        label=label,
        cost=columns[axis],
        loss=np.array(loss),
        params=columns.get("params"),
        tokens=columns.get("tokens"),
        luck=_luck(columns),
        source={**table.source(), "rows": table.rows},
        warnings=tuple(f"{label}: {warning}" for warning in warnings),
        recipe=recipe,
    )


def _flops(table: Table) -> dict[str, np.ndarray]:
    """6 N D where a table has no FLOPs; nothing where it has."""
    if "flops" in table.columns:
        return {}
    if not {"params", "tokens"} <= table.columns.keys():
        raise BadInput(
            f"{table.path}: no column flops, and no params and tokens to take 6 N D from; it has "
            f"{', '.join(table.header)}"
        )
    return {"flops": SIX * table.columns["params"] * table.columns["tokens"]}


def _luck(columns: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Rows of a run that repeats share their luck; else those of one size, data size and seed, on both sides."""
    if "run" in columns:
        names = columns["run"].astype(str)
        counts = {name: int((names == name).sum()) for name in np.unique(names)}
        if max(counts.values()) > 1:
            return np.array([name if counts[name] > 1 else "" for name in names])
    if not {"seed", "params", "tokens"} <= columns.keys():
        return None
    return np.array(
        [f"{seed} {params:.3g} {tokens:.3g}" if seed else "" for seed, params, tokens in
         zip(columns["seed"], columns["params"], columns["tokens"], strict=True)]
    )  # fmt: skip
