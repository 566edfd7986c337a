"""The learning rate that is best for the rows of a table that share everything else, whoever trained the models."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.learning_rate_group import LEAST_RATES, best_rate
from analysis.logs.cells import read_cells
from analysis.logs.settings import groups_of_rows, setting_columns
from analysis.logs.table import Table, TableReading, table_of_file
from core.errors import BadInput

RATE, LOSS = "learning_rate", "loss"
SHAPE = ("params", "tokens", "width", "depth")


def rates_of_table(path: Path, reading: TableReading) -> tuple[Table, list[dict[str, Any]]]:
    """The table, and an entry for each group of rows that differ in learning rate and repeat alone.

    Raises:
      BadInput: no such columns, or no group with `LEAST_RATES` learning rates.
    """
    cells = read_cells(path).renamed(reading.rename)
    shape = [name for name in SHAPE if name in cells.columns]
    settings = [name for name in setting_columns(cells.columns, cells.rows) if name not in (RATE, LOSS, *shape)]
    reading = TableReading(reading.rename, reading.drop_missing, labels=frozenset(settings))
    table = table_of_file(path, (RATE, LOSS), (*shape, *settings), reading)
    columns = table.columns
    named = [name for name in (*shape, *settings) if name in columns]
    group_R = groups_of_rows(columns, named) if named else np.zeros(table.rows, int)
    entries = []
    for group in range(int(group_R.max()) + 1):
        rows = np.flatnonzero(group_R == group)
        rates, place = np.unique(columns[RATE][rows], return_inverse=True)
        if rates.size < LEAST_RATES:
            continue
        losses = np.bincount(place.reshape(-1), columns[LOSS][rows]) / np.bincount(place.reshape(-1))
        best, best_loss, bracketed = best_rate(rates, losses)
        shared = {name: columns[name][rows[0]].item() for name in named}
        entries.append(
            {**shared, "rates": rates.tolist(), "losses": losses.tolist(), "best": best, "best_loss": best_loss,
             "bracketed": bracketed}
        )  # fmt: skip
    if not entries:
        raise BadInput(f"{path}: no rows share all but {RATE} and have {LEAST_RATES} of it")
    return table, entries


def table_sentences(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a group, and how far the best rate moves over them."""
    lines = []
    for entry in entries:
        names = list(entry)[: list(entry).index("rates")]
        of = ", ".join(
            f"{name} {entry[name]:.3g}" if name in SHAPE else f"{name} {entry[name]}" for name in names
        )
        edge = "" if entry["bracketed"] else ", at the edge of the rates tried"
        lines.append(
            f"{of or 'all rows'}: best {RATE} {entry['best']:.3g}, loss {entry['best_loss']:.4f}{edge}"
        )
    rates = [entry["best"] for entry in entries]
    if len(rates) > 1 and math.isfinite(max(rates) / min(rates)):
        lines.append(
            f"the best {RATE} moves by a factor {max(rates) / min(rates):.2f} over {len(rates)} groups"
        )
    return lines
