"""The learning rate that is best for the rows of a table that share everything else, whoever trained the models."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.learning_rate_group import LEAST_RATES, best_pair, best_rate
from analysis.logs.cells import read_cells
from analysis.logs.settings import groups_of_rows, setting_columns
from analysis.logs.table import Table, TableReading, table_of_file
from core.errors import BadInput

RATE, LOSS, BATCH = "learning_rate", "loss", "batch"
OTHER_NAMES = (
    "lr",
    "peak_lr",
    "max_lr",
    "peak_learning_rate",
)  # of a column that is a learning rate without asking
BATCHES = ("batch", "bs")  # how the name of a column of batches begins
SHAPE = ("params", "tokens", "width", "depth")


@dataclasses.dataclass(frozen=True)
class RateCell:
    """Rows that share all that is not tuned.

    Attributes:
      shared: what they share, by column. tuned: the best batch and whatever else was tuned beside the rate.
      rates, losses: (R,) increasing, and the lowest mean loss at each.
      best, best_loss: the best rate and its loss. bracketed: whether higher loss was measured on every side.
    """

    shared: Mapping[str, float | str]
    tuned: Mapping[str, float | str]
    rates: np.ndarray
    losses: np.ndarray
    best: float
    best_loss: float
    bracketed: bool

    def to_json(self) -> dict[str, Any]:
        """An entry of `groups` in learning_rate.json."""
        numbers = {"rates": self.rates.tolist(), "losses": self.losses.tolist(), "best": self.best}
        told = {"tuned": dict(self.tuned)} if self.tuned else {}
        return {**self.shared, **numbers, "best_loss": self.best_loss, "bracketed": self.bracketed, **told}

    def said(self) -> str:
        """The cell in one line."""
        of = ", ".join(f"{name} {told_value(value)}" for name, value in self.shared.items())
        beside = "".join(f", {name} {told_value(value)}" for name, value in self.tuned.items())
        edge = "" if self.bracketed else ", at the edge of what was tried"
        return f"{of or 'all rows'}: best {RATE} {self.best:.3g}{beside}, loss {self.best_loss:.4f}{edge}"


def told_value(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def rates_of_table(path: Path, reading: TableReading) -> tuple[Table, list[RateCell], str]:
    """The table, a cell for each group of rows, and the name of the column that holds the batch, or "".

    Rows of a cell are equal in `reading.best_of` where that is given, and the best of everything else is taken;
    otherwise they differ in learning rate and repeat alone.

    Raises:
      BadInput: no such columns, or no cell with `LEAST_RATES` learning rates.
    """
    cells = read_cells(path)
    rename, notes = dict(reading.rename), []
    found = [name for name in OTHER_NAMES if name in cells.columns]
    if RATE not in cells.columns and RATE not in rename and len(found) == 1:
        rename[RATE] = found[0]
        notes = [f"the column {found[0]} is read as {RATE}"]
    cells = cells.renamed(rename)
    shape = [name for name in SHAPE if name in cells.columns]
    settings = [name for name in setting_columns(cells.columns, cells.rows) if name not in (RATE, LOSS, *shape)]
    settings += [name for name in reading.best_of if name not in (*settings, *shape)]
    asked = TableReading(rename, reading.drop_missing, labels=frozenset(settings))
    table = table_of_file(path, (RATE, LOSS), (*shape, *settings), asked)
    read = (*shape, *settings)
    unknown = [name for name in reading.best_of if name not in table.columns]
    if unknown:
        raise BadInput(
            f"{path}: --best-of {' '.join(unknown)}: no such column; it has {', '.join(table.header)}"
        )
    spread = [line for line in table.warnings if "--best-of" not in line]  # of what is tuned here
    table = dataclasses.replace(table, warnings=(*notes, *spread))
    named = [name for name in (reading.best_of or read) if name in table.columns]
    tuned = [name for name in settings if name not in named and name in table.columns]
    columns = {name: _numbers(values) for name, values in table.columns.items()}
    batch = next((name for name in settings if name.lower().startswith(BATCHES)), "")
    batch = batch if batch and columns[batch].dtype.kind == "f" else ""
    group_R = groups_of_rows(columns, named) if named else np.zeros(table.rows, int)
    found_cells = []
    for group in range(int(group_R.max()) + 1):
        rows = np.flatnonzero(group_R == group)
        if np.unique(columns[RATE][rows]).size < LEAST_RATES:
            continue
        shared = {name: columns[name][rows[0]].item() for name in named}
        found_cells.append(_cell(columns, rows, shared, tuned, batch if batch in tuned else ""))
    if not found_cells:
        raise BadInput(f"{path}: no rows share all but {RATE} and have {LEAST_RATES} of it")
    return table, found_cells, batch


def _numbers(values: np.ndarray) -> np.ndarray:
    """Settings are read as text, since some are; the numbers among them as numbers."""
    if values.dtype.kind == "f":
        return values
    try:
        return values.astype(np.float64)
    except ValueError:
        return values


def _cell(
    columns: Mapping[str, np.ndarray],
    rows: np.ndarray,
    shared: Mapping[str, float | str],
    tuned: Sequence[str],
    batch: str,
) -> RateCell:
    """The best of one cell: of all that is tuned but rate and batch the combination with the lowest loss."""
    loss = columns[LOSS]
    others = [name for name in tuned if name != batch]
    beside: dict[str, float | str] = {}
    if others:
        combination = groups_of_rows({name: columns[name][rows] for name in others}, others)
        best = int(np.argmin(loss[rows]))
        beside = {name: columns[name][rows[best]].item() for name in others}
        rows = rows[combination == combination[best]]
    rates, place = np.unique(columns[RATE][rows], return_inverse=True)
    sizes, beside_it = np.unique(columns[batch][rows] if batch else np.ones(rows.size), return_inverse=True)
    total, count = np.zeros((rates.size, sizes.size)), np.zeros((rates.size, sizes.size))
    np.add.at(total, (place.reshape(-1), beside_it.reshape(-1)), loss[rows])
    np.add.at(count, (place.reshape(-1), beside_it.reshape(-1)), 1.0)
    mean = np.where(count > 0, total / np.maximum(count, 1.0), math.inf)
    if sizes.size < 2:
        best_at, lowest, bracketed = best_rate(rates, mean[:, 0])
    else:
        best_at, size, lowest, bracketed = best_pair(rates, sizes, mean)
        beside = {batch: size, **beside}
    if batch and sizes.size < 2:
        beside = {batch: float(sizes[0]), **beside}
    return RateCell(shared, beside, rates, mean.min(axis=1), best_at, lowest, bracketed)


def table_sentences(cells: Sequence[RateCell]) -> list[str]:
    """One line a cell, and how far the best rate moves over them."""
    lines = [cell.said() for cell in cells]
    rates = [cell.best for cell in cells]
    if len(rates) > 1 and math.isfinite(max(rates) / min(rates)):
        lines.append(
            f"the best {RATE} moves by a factor {max(rates) / min(rates):.2f} over {len(rates)} groups"
        )
    return lines
