"""Rows that differ in a setting of which the law knows nothing, such as a learning rate: named, or the best of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import BadInput

# What tells repeats of one run apart, by the beginning of its name: their spread is the noise of a run.
REPEATS = ("seed", "rep", "trial", "run", "fold", "random", "id", "name", "index")
OUTCOMES = ("loss", "weight")
# What is set before a run, by the beginning of its name: also where a random search takes no value twice.
SET_BEFORE = (
    "lr", "learning", "peak_lr", "max_lr", "bs", "batch", "wd", "weight_decay", "warmup", "beta", "momentum", "dropout",
    "clip", "sched", "optim", "decay", "cooldown", "width", "depth", "layers", "n_layers", "heads", "seq_len",
    "context", "vocab", "tokenizer", "corpus", "dataset", "mix", "arch", "epochs",
)  # fmt: skip
SHOWN = 4


def groups_of_rows(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """For each row, the number of the group of rows that are equal in `names`."""
    codes = np.stack([np.unique(columns[name], return_inverse=True)[1].reshape(-1) for name in names], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def best_rows(
    columns: Mapping[str, np.ndarray], names: Sequence[str], required: Sequence[str]
) -> tuple[np.ndarray, str]:
    """Of the rows that are equal in `names` the one of the lowest loss, in their order, and a line that says so.

    Raises:
      BadInput: the table has no loss.
    """
    if "loss" not in columns:
        raise BadInput(
            f"--best-of: the best row is that of the lowest loss, and only {', '.join(required)} is read"
        )
    group = groups_of_rows(columns, names)
    order = np.lexsort((columns["loss"], group))
    best = np.sort(order[np.unique(group[order], return_index=True)[1]])
    return best, (
        f"--best-of {' '.join(names)}: of {group.size} rows the {best.size} of the lowest loss within equal "
        f"{', '.join(names)} are kept"
    )


def setting_columns(cells: Mapping[str, Sequence[Any]], rows: int) -> list[str]:
    """Columns of settings: known by name, or of few values that come again, as what is measured hardly does."""
    found = []
    for name, written in cells.items():
        values = {"" if cell is None else str(cell).strip() for cell in written}
        told = name.lower().startswith(SET_BEFORE)
        measured = name.lower().startswith(REPEATS) or name.lower() in OUTCOMES
        if len(values) > 1 and (told or (not measured and len(values) <= rows / 2)):
            found.append(name)
    return found


def setting_warning(columns: Mapping[str, np.ndarray], cells: Mapping[str, Sequence[Any]]) -> list[str]:
    """A warning where rows share every input of the law and differ in other columns of the table.

    Args:
      columns: those that are read. cells: all columns of the table as they were written.
    """
    inputs = [
        name for name, values in columns.items()
        if values.dtype.kind == "f" and name not in OUTCOMES and not name.startswith(REPEATS)
    ]  # fmt: skip
    rows = columns["loss"].size
    if not inputs or rows < 2:
        return []
    group = groups_of_rows(columns, inputs)
    shared = np.bincount(group)[group] > 1
    if not shared.any():
        return []
    differing = []
    for name in setting_columns(cells, rows):
        if name in columns:
            continue
        texts = ["" if cell is None else str(cell).strip() for cell in cells[name]]
        code = np.unique(np.array(texts), return_inverse=True)[1].reshape(-1)
        pairs = np.unique(np.stack([group[shared], code[shared]]), axis=1).shape[1]
        if pairs > np.unique(group[shared]).size:
            differing.append(name)
    if not differing:
        return []
    named = ", ".join(differing[:SHOWN]) + (", ..." if len(differing) > SHOWN else "")
    keys = [name for name in inputs if name in ("params", "tokens")] or inputs[:2]
    return [
        f"{int(shared.sum())} rows share {', '.join(inputs)} with another and differ in {named}: their spread is taken "
        f"for the noise of a run; --best-of {' '.join(keys)} keeps the best of each"
    ]
