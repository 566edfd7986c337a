"""The cells of a task table as records: numbers read, correct items counted from accuracies, units asked for."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.logs.cells import Cells, advice
from analysis.logs.spelled import COUNTS, Spelled, spelled
from analysis.logs.suspicions import unit_question
from analysis.logs.table import NAMED_ROWS
from core.errors import BadInput

AXES = ("scale", "params", "flops", "tokens", "examples", "loss")
ACCURACY = ("n", "correct", "chance")
CONTINUOUS = ("nll", "brier", "edit_distance")
TEXT = ("task", "axis", "seed", "run", "family")
SHARES = ("accuracy", "acc", "acc_norm", "exact_match", "em", "score")  # one of them stands for `correct`
FREE_TEXT = ("exact_match", "em")  # of these: the whole answer is written, not chosen
ROW = "row of the file"  # the key of a record's number in the file, from 1
GUESSES = (0.5, 1 / 3, 0.25, 0.2, 0.1)
NEAR_GUESS = 0.02


def task_records(
    cells: Cells, drop_missing: bool, axis: str | None, chance: float | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """One record a row of the columns that are known, and what a reader should be told.

    Args:
      drop_missing: leave out rows in which a number that is needed is missing.
      axis: the axis that was asked for. chance: of all rows, where the table has no such column.

    Raises:
      BadInput: a column is missing, appears twice, or holds what is no number.
    """
    columns, warnings = dict(cells.columns), list[str]()
    share = next((name for name in SHARES if name in columns), None) if "correct" not in columns else None
    scales = [axis] if axis in columns and axis != "scale" and "axis" not in columns else [
        name for name in AXES if name in columns and name != "loss"
    ]  # fmt: skip
    scales = scales[:1] if scales[:1] == ["scale"] else scales
    counted = share is not None or any(name in columns for name in ACCURACY)
    counted |= not any(name in columns for name in CONTINUOUS)
    needed = [*scales, *(("n", share or "correct") if counted else ())]
    needed += ["chance"] if counted and "chance" in columns else []
    wanted = [*needed, *(name for name in (*CONTINUOUS, "loss") if name in columns)]
    missing = [name for name in ("task", *(needed if counted else ())) if name not in columns]
    if counted and share is None and chance is None and "chance" not in columns:
        missing.append("chance")  # a table of accuracies is asked about it
    _refuse_missing(cells, missing if scales or axis == "loss" else [*missing, "scale"])
    doubled = [name for name in ("task", *wanted) if name in cells.repeated]
    if doubled:
        raise BadInput(f"column {', '.join(doubled)} appears more than once, with different cells")
    texts = {
        name: [_share(cell) if name in (share, "chance") else cell for cell in columns[name]] for name in wanted
    }
    read = spelled(texts, COUNTS, cells.separator)
    for name in wanted:
        _refuse_words(name, columns[name], read[name])
    absent = np.any([read[name].nothing for name in needed], axis=0) if needed else np.zeros(cells.rows, bool)
    kept = np.arange(cells.rows) if not drop_missing else np.flatnonzero(~absent)
    if kept.size < cells.rows:
        rows = np.flatnonzero(absent)
        named = ", ".join(str(row + 1) for row in rows[:NAMED_ROWS]) + (
            ", ..." if rows.size > NAMED_ROWS else ""
        )
        warnings.append(f"{rows.size} of {cells.rows} rows left out by --drop-missing (row {named})")
    if not kept.size:
        raise BadInput("the task table has no rows")
    values = {name: column.values for name, column in read.items()}
    if not drop_missing:
        _refuse_absent(columns, read, wanted, needed if counted else scales)
    if share is not None:
        values["correct"] = _counted(share, values, kept, warnings)
    if counted and "chance" not in columns:
        values["chance"] = np.full(cells.rows, _chance(chance, values, kept, scales, warnings))
    elif share in FREE_TEXT:
        values["chance"] = _of_choices(share, values, kept, scales, warnings)
    for name in scales:
        if name in ("params", "tokens", "flops") and np.isfinite(values[name][kept]).all():
            warnings += unit_question(name, values[name][kept])
    records = []
    for row in kept.tolist():
        record: dict[str, Any] = {name: columns[name][row] for name in TEXT if name in columns}
        record |= {name: _given(values[name][row]) for name in values if name != share}
        records.append({**record, ROW: row + 1})
    return records, warnings


def _refuse_missing(cells: Cells, names: Sequence[str]) -> None:
    if names:
        cells.refuse_headless(names)
        present = ", ".join(list(cells.columns)[:20]) or "none"
        raise BadInput(
            f"the task table has no column {', '.join(names)}; it has {present}; needed are task, a scale, n and "
            f"correct (or accuracy) and chance (or --chance), or task, a scale and one of {', '.join(CONTINUOUS)} alone"
            f"{advice(names, cells.columns)}"
        )


def _refuse_words(name: str, cells: Sequence[Any], read: Spelled) -> None:
    """Raise BadInput at a cell that says something else than a number, or whose comma is open to question."""
    if read.unclear is not None:
        raise BadInput(
            f"row {read.unclear + 1}: {name} is {cells[read.unclear]}, a decimal comma or thousands; write it with a "
            "point, or without a comma"
        )
    wrong = np.flatnonzero(read.wrong)
    if wrong.size:
        row = int(wrong[0])
        raise BadInput(f"row {row + 1}: {name} is {cells[row]}; a finite number is needed")


def _refuse_absent(
    columns: dict[str, list[Any]], read: dict[str, Spelled], wanted: Sequence[str], needed: Sequence[str]
) -> None:
    """Raise BadInput at a cell that says nothing; only where a column is not needed may it be empty."""
    for name in wanted:
        absent = read[name].nothing.copy()
        if name not in needed:
            absent[absent] = [
                bool(str(columns[name][row] or "").strip()) for row in np.flatnonzero(absent).tolist()
            ]
        rows = np.flatnonzero(absent)
        if rows.size:
            cell = columns[name][int(rows[0])]
            blank = cell is None or not str(cell).strip()
            what = "is empty; a number is needed" if blank else f"is {cell}; a finite number is needed"
            raise BadInput(f"row {rows[0] + 1}: {name} {what} (--drop-missing leaves such rows out)")


def _share(cell: Any) -> Any:
    """25% is 0.25."""
    if not isinstance(cell, str) or not cell.strip().endswith("%"):
        return cell
    try:
        return float(cell.strip()[:-1]) / 100.0
    except ValueError:
        return cell


def _given(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _counted(share: str, values: dict[str, np.ndarray], kept: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Correct items from an accuracy: times n, rounded."""
    accuracy, n = values[share], values["n"]
    for row in kept[(accuracy[kept] < 0) | (accuracy[kept] > 1)]:
        asked = " (a percentage? divide it by 100)" if 1 < accuracy[row] <= 100 else ""
        raise BadInput(f"row {row + 1}: {share} is {accuracy[row]:g}; it must be between 0 and 1{asked}")
    warnings.append(f"the table has no column correct: {share} times n was taken, rounded to whole items")
    return np.round(accuracy * n)


def _of_choices(
    share: str, values: dict[str, np.ndarray], kept: np.ndarray, scales: Sequence[str], warnings: list[str]
) -> np.ndarray:
    """The column chance, or 0 where an exact match starts far below it: then it is the chance of a choice."""
    chance, n = values["chance"], values["n"]
    if not scales or not kept.size:
        return chance
    smallest = kept[np.argsort(values[scales[0]][kept], kind="stable")][: max(1, kept.size // 3)]
    items = max(float(n[smallest].sum()), 1.0)
    low, guess = float(values["correct"][smallest].sum()) / items, float(np.median(chance[smallest]))
    if not low < 0.5 * guess:
        return chance
    warnings.append(
        f"chance {guess:.3g} is that of a choice, and the smallest models score {low:.3g} in {share}: 0 was taken, an "
        "answer that no guess hits"
    )
    return np.zeros_like(chance)


def _chance(
    chance: float | None,
    values: dict[str, np.ndarray],
    kept: np.ndarray,
    scales: Sequence[str],
    warnings: list[str],
) -> float:
    if chance is not None:
        return chance
    told = ""
    if scales:
        smallest = kept[np.argsort(values[scales[0]][kept], kind="stable")][: max(1, kept.size // 3)]
        low = float(values["correct"][smallest].sum() / max(values["n"][smallest].sum(), 1.0))
        near = [guess for guess in GUESSES if abs(low - guess) < NEAR_GUESS]
        told = f"; the smallest models score {low:.3g}: is it --chance {near[0]:.3g}?" if near else ""
    warnings.append(f"the table has no column chance: 0 was taken, an answer that no guess hits{told}")
    return 0.0
