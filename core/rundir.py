"""The files of a run and of a sweep: their names, what they hold, how they are read and written.

Training writes these files, launchers and analysis read them. No other room spells one of their names.

    runs/<sweep>/                 SweepDirectory
        held_back.json            runs that wait for their forecast
        forecast/                 that forecast, the table and the fit behind it, its score
        report/                   made from the logs by analysis
        slurm/  skypilot/  ...    what was submitted
        .launcher.lock .workers/  of the local launcher
        <run_id>/                 RunDirectory
            spec.json             what is trained: a RunSpec (training/spec.py)
            env.json              where and with what, attempt by attempt
            ledger.json           parameters and FLOPs
            metrics.jsonl         one row a step
            evals.jsonl           one row an evaluated number
            tasks.json            the held-out tasks that are scored
            task_items.jsonl      the scores of every problem of them
            result.json           written last: the mark of a complete run
            error.txt             why the last attempt failed
            checkpoints/<tokens>/
            profile/              of --profile
            .lock  .lease.<n>     who trains it
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from core.codec import typed
from core.errors import BadInput
from core.files import json_lines, read_json, read_object, read_rows, write_atomic, write_json
from core.records import (
    Completion,
    Environment,
    EvaluationRow,
    HeldBack,
    Ledger,
    MetricRow,
    RunResult,
    TaskRecord,
    completion_of,
    held_back_of,
)

T = TypeVar("T")

SPEC: Final = "spec.json"
ENVIRONMENT: Final = "env.json"
LEDGER: Final = "ledger.json"
METRICS: Final = "metrics.jsonl"
EVALUATIONS: Final = "evals.jsonl"
TASKS: Final = "tasks.json"
TASK_ITEMS: Final = "task_items.jsonl"
RESULT: Final = "result.json"
ERROR: Final = "error.txt"
CHECKPOINTS: Final = "checkpoints"
PROFILE: Final = "profile"
LOCK: Final = ".lock"
LEASE: Final = re.compile(r"\.lease\.(\d+)")

HELD_BACK: Final = "held_back.json"
FORECAST: Final = "forecast"
FORECAST_RESULT: Final = "forecast.json"
FORECAST_TABLE: Final = "table.csv"
FORECAST_FIT: Final = "fit.json"
FORECAST_SCORE: Final = "score.json"
REPORT: Final = "report"
SLURM: Final = "slurm"
LAUNCHER_LOCK: Final = ".launcher.lock"
WORKERS: Final = ".workers"


class Inside:
    """A file or folder by its name: its path in the directory that it is asked of."""

    def __init__(self, *names: str):
        self.names = names

    def __get__(self, directory: "RunDirectory | SweepDirectory", owner: type) -> Path:
        return directory.path.joinpath(*self.names)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """runs/<sweep>/<run_id>. Attributes are paths. What a method reads is checked; BadInput names the file."""

    path: Path

    spec = Inside(SPEC)
    environment = Inside(ENVIRONMENT)
    ledger = Inside(LEDGER)
    metrics = Inside(METRICS)
    evaluations = Inside(EVALUATIONS)
    tasks = Inside(TASKS)
    task_items = Inside(TASK_ITEMS)
    result = Inside(RESULT)
    error = Inside(ERROR)
    checkpoints = Inside(CHECKPOINTS)
    profile = Inside(PROFILE)
    lock = Inside(LOCK)

    @property
    def name(self) -> str:
        """run_id."""
        return self.path.name or self.path.absolute().name

    def checkpoint(self, tokens: int | None) -> Path:
        """Folder of a checkpoint, there once it is whole: Orbax renames it into place."""
        return self.checkpoints / str(tokens)

    def lease(self, generation: int) -> Path:
        return self.path / f".lease.{generation}"

    def is_run(self) -> bool:
        """Whether this is the directory of a run: it has a spec.json."""
        return self.spec.exists()

    def completion(self) -> Completion:
        """Whether the run is complete, and what is wrong with a result.json that does not count."""
        try:
            payload = self.result.read_bytes()
        except FileNotFoundError:
            return Completion()
        except OSError as error:
            return Completion(problem=f"cannot be read ({error.strerror})")
        try:
            spec = self.read_spec()
        except BadInput:
            spec = None  # whoever needs the spec says what is wrong with it
        return completion_of(self.name, payload, spec)

    def is_complete(self) -> bool:
        return self.completion().result is not None

    def read_spec(self) -> dict[str, Any]:
        """spec.json as a tree; `training.spec.RunSpec` is what it describes."""
        return read_object(self.spec)

    def read_environment(self) -> Environment:
        return _checked(Environment, self.environment)

    def write_environment(self, environment: Environment) -> None:
        write_json(self.environment, environment)

    def read_ledger(self) -> Ledger:
        return _checked(Ledger, self.ledger)

    def write_ledger(self, ledger: Ledger) -> None:
        write_json(self.ledger, ledger)

    def read_result(self) -> RunResult:
        return _checked(RunResult, self.result)

    def write_result(self, result: RunResult) -> None:
        write_json(self.result, result)

    def read_tasks(self) -> dict[str, TaskRecord]:
        """Tasks by name; none where there is no tasks.json."""
        if not self.tasks.exists():
            return {}
        return _checked(dict[str, TaskRecord], self.tasks)

    def write_tasks(self, tasks: Mapping[str, TaskRecord]) -> None:
        write_json(self.tasks, dict(tasks))

    def read_metrics(self) -> tuple[list[MetricRow], int]:
        """Rows of all attempts, in the order they were written, and the number of torn lines, which are left out."""
        rows, torn = read_rows(self.metrics)
        return cast(list[MetricRow], rows), torn

    def last_metrics(self) -> tuple[MetricRow | None, int]:
        """The row that was written last, and the number of torn lines: a log of any length in little memory."""
        last, torn = None, 0
        if self.metrics.exists():
            with self.metrics.open("rb") as file:
                for line in json_lines(file):
                    if isinstance(line.value, dict):
                        last = line.value
                    else:
                        torn += 1
        return cast(MetricRow | None, last), torn

    def read_evaluations(self) -> tuple[list[EvaluationRow], int]:
        """As `read_metrics`."""
        rows, torn = read_rows(self.evaluations)
        return cast(list[EvaluationRow], rows), torn

    def write_error(self, cause: str) -> None:
        write_atomic(self.error, cause.rstrip() + "\n")

    def clear_error(self) -> None:
        self.error.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
    """runs/<sweep>: the directories of its runs, and what belongs to all of them. Attributes are paths."""

    path: Path

    held_back = Inside(HELD_BACK)
    forecast_folder = Inside(FORECAST)
    forecast = Inside(FORECAST, FORECAST_RESULT)
    forecast_table = Inside(FORECAST, FORECAST_TABLE)
    forecast_fit = Inside(FORECAST, FORECAST_FIT)
    forecast_score = Inside(FORECAST, FORECAST_SCORE)
    report = Inside(REPORT)
    slurm = Inside(SLURM)
    launcher_lock = Inside(LAUNCHER_LOCK)
    workers = Inside(WORKERS)

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.path / run_id)

    def runs(self) -> list[RunDirectory]:
        """Every folder with a spec.json, by name.

        Raises:
          BadInput: there is no such sweep.
        """
        if not self.path.is_dir():
            raise BadInput(f"{self.path}: no such sweep")
        folders = (RunDirectory(path) for path in sorted(self.path.iterdir()))
        return [run for run in folders if run.is_run()]

    def read_held_back(self) -> HeldBack:
        return held_back_of(read_json(self.held_back), self.held_back)

    def write_held_back(self, held_back: HeldBack) -> None:
        write_json(self.held_back, held_back)


def _checked(kind: type[T], path: Path) -> T:
    value = read_object(path)
    try:
        return typed(kind, value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
