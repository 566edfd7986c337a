"""Read a task table: one row per task, run and scale; from CSV, JSON lines or the directory of a sweep."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.chance import chance_of
from analysis.emergence.records import ACCURACY, AXES, CONTINUOUS, ROW, task_records
from analysis.logs.cells import read_cells
from analysis.logs.groups import labelled
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run
from analysis.logs.table import TableReading
from core.errors import BadInput
from core.files import whole_rows
from core.numbers import finite
from core.records import of_a_task
from core.rundir import EVALUATIONS

COUNTED = ("acc", "exact_match", "choice_accuracy")  # the first that a task has; `acc` is of the harness
SWEEP_METRICS = (("nll_per_token", "nll"), ("brier", "brier"), ("edit_distance", "edit_distance"))
WHOLE_TOLERANCE = 0.01  # how far `correct` may be from a whole number: it is often accuracy times n


@dataclass(frozen=True)
class TaskRows:
    """All rows of one task on one axis, in the order of the table.

    Attributes:
      coordinate_R: log10 of the scale; on the loss axis minus the loss.
      n_R, correct_R: items and successes; None in a table of continuous metrics alone.
      metrics: nll, brier, edit_distance where given (R,), NaN where a row has none.
      loss_R: pre-training loss, where given beside another scale.
    """

    name: str
    axis: str
    coordinate_R: np.ndarray
    n_R: np.ndarray | None
    correct_R: np.ndarray | None
    chance: float
    seed_R: np.ndarray | None = None
    family_R: np.ndarray | None = None
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss_R: np.ndarray | None = None


@dataclass(frozen=True)
class TaskTable:
    """Tasks by name and axis, what they were read from and how, and what a careful reader should be warned of."""

    tasks: tuple[TaskRows, ...]
    path: str
    sha256: str
    rows: int
    warnings: tuple[str, ...] = ()
    reading: TableReading = TableReading()


def read_task_table(
    path: str | Path,
    axis: str | None = None,
    reading: TableReading = TableReading(),  # noqa: B008 (frozen)
    chance: float | None = None,
) -> TaskTable:
    """Read and check a table.

    Args:
      path: CSV with a header, JSON, parquet, or a sweep's directory.
      reading: names of columns, and whether rows that miss a number are left out.
      chance: accuracy of a guess, for a table that does not say.
      axis: what scale is; by default the table's own `axis` column, or the columns named like an axis.

    Raises:
      BadInput: one line that names row, column and value.
    """
    if axis is not None and axis not in AXES:
        raise BadInput(f"--axis {axis}: unknown axis; allowed are {', '.join(AXES)}")
    path = Path(path)
    if chance is not None and not 0.0 <= chance < 1.0:
        raise BadInput(f"--chance {chance:g}: it must be at least 0 and below 1")
    if path.is_dir():
        if reading.rename:
            raise BadInput(f"{path}: columns of a sweep cannot be renamed")
        rows, digest = sweep_rows(load_sweep(path))
        return TaskTable(tuple(tasks_from_rows(rows, axis)), str(path), digest, len(rows))
    cells = read_cells(path).renamed(reading.rename)
    try:
        records, told = task_records(cells, reading.drop_missing, axis, chance)
        tasks = tasks_from_rows(records, axis)
    except BadInput as error:
        text = str(error)
        raise BadInput(text if text.startswith(("--", f"{path}:")) else f"{path}: {text}") from None
    torn = (
        [f"line {cells.torn_line} is torn (a write was cut short) and was left out"] if cells.torn_line else []
    )
    return TaskTable(tuple(tasks), str(path), cells.sha256, cells.rows, (*torn, *told), reading)


def sweep_rows(sweep: SweepLogs) -> tuple[list[dict[str, Any]], str]:
    """Rows of every complete run's last evaluation of each task; exact match, or else choices.

    Where runs differ in a setting that scale does not explain, each group of equal settings is a task of its own.
    """
    digest = hashlib.sha256(sweep.sha256.encode())
    rows = []
    for run, label in labelled(sweep.usable):
        latest: dict[str, dict[str, tuple[float, float, float]]] = {}
        if run.has_doubtful(EVALUATIONS):
            continue
        evaluations = sweep.read(run.run, EVALUATIONS) or b""
        digest.update(evaluations)
        for line in _rows_of(evaluations, run):
            named = of_a_task(str(line.get("name")))
            numbers = all(finite(line.get(key)) is not None for key in ("tokens", "value"))
            if named is None or not numbers:
                continue
            scores = latest.setdefault(named[0], {})
            if line["tokens"] >= scores.get(named[1], (-1.0, 0.0, 0.0))[0]:
                items = line["n"] if finite(line.get("n")) is not None else 0.0
                scores[named[1]] = (line["tokens"], line["value"], items)
        for task, scores in sorted(latest.items()):
            kind = next((name for name in COUNTED if name in scores), None)
            if kind is None:
                continue
            _, value, items = scores[kind]
            chance = chance_of(task, kind, {name: score[1] for name, score in scores.items()})
            row = {
                "task": f"{task} ({label})" if label else task,
                "n": items,
                "correct": round(value * items),
                "chance": chance,
                "run": run.run,
            }
            row |= {"params": run.count(), "flops": run.flops(), "tokens": run.tokens, "loss": run.final()}
            row["seed"] = run.spec.get("seed", "")
            for metric, column in SWEEP_METRICS:
                if metric in scores and column not in row:
                    row[column] = scores[metric][1]
            rows.append({key: entry for key, entry in row.items() if entry is not None})
    if not rows:
        raise BadInput(
            f"{sweep.path}: no complete run of this sweep has a task/<name>/exact_match or choice_accuracy, or an "
            "lm-eval/<name>/acc"
        )
    return rows, digest.hexdigest()


def _rows_of(evaluations: bytes, run: Run) -> list[dict[str, Any]]:
    rows, torn = whole_rows(evaluations.split(b"\n"))
    if torn:
        warnings.warn(f"{run.run}/{EVALUATIONS}: {torn} torn lines were left out", stacklevel=2)
    return rows


def tasks_from_rows(rows: Iterable[Mapping[str, Any]], axis: str | None = None) -> list[TaskRows]:
    """Group rows into tasks and check every cell. Rows count from 1, the header not counted."""
    rows = list(rows)
    if not rows:
        raise BadInput("the task table has no rows")
    columns = set().union(*(row.keys() for row in rows)) - {ROW}
    if "task" not in columns:
        raise BadInput(f"the task table has no column task; it has {', '.join(sorted(map(str, columns)))}")
    accuracy = _has_accuracy(columns)
    wide = [name for name in AXES[1:] if name in columns and name != "loss"]
    if axis is not None and axis != "scale" and axis in columns and "axis" not in columns:
        sources = [(axis, axis)]
    elif "scale" in columns:
        sources = [("scale", axis or "scale")]
    elif axis is None and wide:
        sources = [(name, name) for name in wide if len({str(row.get(name)) for row in rows}) > 1] or [
            (wide[0],) * 2
        ]
    else:
        raise BadInput(
            f"the task table has no column scale (or {', '.join(AXES[1:])}) to hold the tasks against"
        )
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for place, row in enumerate(rows, start=1):
        number = int(row.get(ROW, place))
        name = str(row.get("task") if row.get("task") is not None else "").strip()
        if not name:
            raise BadInput(f"row {number}: task is empty; every row needs a name")
        for column, label in sources:
            row_axis = str(row.get("axis") or label) if column == "scale" and axis is None else label
            if row_axis not in AXES:
                raise BadInput(f"row {number}: axis {row_axis}: unknown axis; allowed are {', '.join(AXES)}")
            groups.setdefault((name, row_axis), []).append(_checked(number, row, column, row_axis, accuracy))
    return [_task(name, row_axis, parsed) for (name, row_axis), parsed in groups.items()]


def _has_accuracy(columns: set[str]) -> bool:
    missing = [name for name in ACCURACY if name not in columns]
    if len(missing) == len(ACCURACY) and any(name in columns for name in CONTINUOUS):
        return False
    if missing:
        raise BadInput(
            f"the task table has no column {missing[0]}; needed are task, scale, n, correct, chance "
            f"(or task, scale and one of {', '.join(CONTINUOUS)} alone)"
        )
    return True


def _number(number: int, row: Mapping[str, Any], column: str, *, blank: bool = False) -> float:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        if blank:
            return math.nan
        raise BadInput(f"row {number}: {column} is empty; a number is needed")
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        parsed = math.nan
    if isinstance(value, bool) or not math.isfinite(parsed):
        raise BadInput(f"row {number}: {column} is {value}; a finite number is needed")
    return parsed


def _checked(number: int, row: Mapping[str, Any], column: str, axis: str, accuracy: bool) -> dict[str, Any]:
    parsed: dict[str, Any] = {"number": number}
    scale = _number(number, row, column)
    minus_loss = column == "scale" and (axis == "loss" or (axis == "scale" and scale < 0.0))
    if minus_loss or column == "loss":
        parsed["coordinate"] = scale if scale < 0.0 else -scale
        parsed["axis"] = "loss"
        if scale > 0.0 and column == "scale":
            raise BadInput(f"row {number}: scale is {scale:g}; on the loss axis it is minus the loss, below 0")
    elif scale <= 0.0:
        raise BadInput(f"row {number}: {column} is {scale:g}; it must be above 0 (or minus the loss, below 0)")
    else:
        parsed["coordinate"] = math.log10(scale)
    if accuracy:
        n, correct, chance = (_number(number, row, name) for name in ACCURACY)
        if n < 1 or abs(n - round(n)) > WHOLE_TOLERANCE:
            raise BadInput(f"row {number}: n is {n:g}; it must be a whole number of items, at least 1")
        if not 0.0 <= chance < 1.0:
            raise BadInput(f"row {number}: chance is {chance:g}; it must be at least 0 and below 1")
        if correct < 0 or abs(correct - round(correct)) > WHOLE_TOLERANCE:
            asked = " (an accuracy? --column accuracy=HEADER reads it as one)" if 0 < correct < 1 else ""
            raise BadInput(
                f"row {number}: correct is {correct:g}; it must be a whole number, at least 0{asked}"
            )
        if round(correct) > round(n):
            raise BadInput(f"row {number}: correct is {correct:g}, above n = {n:g}; it must be at most n")
        parsed |= {"n": float(round(n)), "correct": float(round(correct)), "chance": chance}
    for name in CONTINUOUS:
        if name in row:
            parsed[name] = _number(number, row, name, blank=True)
            if parsed[name] < 0.0:
                raise BadInput(f"row {number}: {name} is {parsed[name]:g}; it must be at least 0")
    if "loss" in row and column != "loss":
        parsed["loss"] = _number(number, row, "loss", blank=True)
    for name in ("seed", "family"):
        if str(row.get(name) if row.get(name) is not None else "").strip():
            parsed[name] = str(row[name])
    return parsed


def _task(name: str, axis: str, rows: list[dict[str, Any]]) -> TaskRows:
    if len({row.get("axis", axis) for row in rows}) > 1:
        raise BadInput(f"task {name}: scale is above 0 in some rows and below 0 (minus the loss) in others")
    axis = rows[0].get("axis", axis)
    chances = sorted({row["chance"] for row in rows if "chance" in row})
    if len(chances) > 1:
        raise BadInput(
            f"task {name}: chance is {chances[0]:g} in some rows and {chances[-1]:g} in others; one is needed"
        )

    def column(key: str) -> np.ndarray | None:
        values = [row.get(key, math.nan) for row in rows]
        present = [value for value in values if not (isinstance(value, float) and math.isnan(value))]
        return np.array(values) if present and (key in CONTINUOUS or len(present) == len(rows)) else None

    metrics = {key: values for key in CONTINUOUS if (values := column(key)) is not None}
    return TaskRows(
        name,
        axis,
        np.array([row["coordinate"] for row in rows]),
        column("n"),
        column("correct"),
        chances[0] if chances else 0.0,
        column("seed"),
        column("family"),
        metrics,
        column("loss"),
    )
