"""The files of a run and of a sweep: their names, what they hold, how they are read and written.

Training writes these files, launchers and analysis read them. No other room spells one of their names.

    runs/<sweep>/                 SweepDirectory
        sweep.json                what it is: its runs and the command that asks for them (core/sweep_file.py)
        prepared.json             what each run is to read, as the launcher found it
        held_back.json            runs that wait for their forecast
        forecast/                 that forecast, the table and the fit behind it, its score
        plan/expected.json        what the sweep was expected to teach before its first run
        report/                   made from the logs by analysis
        slurm/  skypilot/  ...    what was submitted
        .launcher.lock .workers/  of the local launcher
        .sweep.lock               held while sweep.json is written
        <run_id>/                 RunDirectory
            spec.json             what is trained: a RunSpec (training/spec.py)
            tokenizer.json        what it reads its text with; none for bytes
            env.json              where and with what, attempt by attempt
            ledger.json           parameters and FLOPs
            metrics.jsonl         one row a step
            evals.jsonl           one row an evaluated number
            tasks.json            the held-out tasks that are scored
            task_items.jsonl      the scores of every item of them, and of held-out text (core/items.py)
            result.json           written last: the mark of a complete run
            error.txt             why the last attempt failed
            worker.log            what libraries said of it, where a run is trained by itself
            checkpoints/<tokens>/
            profile/              of --profile
            .lock  .lease.<n>     who trains it
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from core.codec import typed
from core.errors import BadInput
from core.files import json_lines, lines_of, read_json, read_object, read_rows, write_atomic, write_json
from core.reading import LOG_BYTES, RECORD_BYTES, Unreadable, opened, path_exists, read_bytes
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
from core.seal import FILES, covers, difference, is_sealed, is_whole, itself, sealed

T = TypeVar("T")

SPEC: Final = "spec.json"
ENVIRONMENT: Final = "env.json"
TOKENIZER: Final = "tokenizer.json"
LOSS_BY_POSITION: Final = "loss_by_position.json"
LEDGER: Final = "ledger.json"
METRICS: Final = "metrics.jsonl"
EVALUATIONS: Final = "evals.jsonl"
TASKS: Final = "tasks.json"
TASK_ITEMS: Final = "task_items.jsonl"
RESULT: Final = "result.json"
ERROR: Final = "error.txt"
CHECKPOINTS: Final = "checkpoints"
PROFILE: Final = "profile"
WORKER_LOG: Final = "worker.log"
LOCK: Final = ".lock"
LEASE: Final = re.compile(r"\.lease\.(\d+)")

SWEEP: Final = "sweep.json"
PREPARED: Final = "prepared.json"
HELD_BACK: Final = "held_back.json"
FORECAST: Final = "forecast"
FORECAST_RESULT: Final = "forecast.json"
FORECAST_TABLE: Final = "table.csv"
FORECAST_FIT: Final = "fit.json"
FORECAST_SCORE: Final = "score.json"
PLAN: Final = "plan"
EXPECTED: Final = "expected.json"
REPORT: Final = "report"
SLURM: Final = "slurm"
LAUNCHER_LOCK: Final = ".launcher.lock"
SWEEP_LOCK: Final = ".sweep.lock"
WORKERS: Final = ".workers"


# What a complete run's result.json holds the checksums of.
SEALED: Final = (SPEC, TOKENIZER, ENVIRONMENT, LEDGER, METRICS, EVALUATIONS, TASKS, TASK_ITEMS)
# What only a run has: its directory is known by one of them.
OF_A_RUN: Final = (SPEC, RESULT, METRICS, ENVIRONMENT, CHECKPOINTS)


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
    tokenizer = Inside(TOKENIZER)
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
    worker_log = Inside(WORKER_LOG)

    @property
    def name(self) -> str:
        """run_id."""
        return self.path.name or self.path.absolute().name

    def checkpoint(self, tokens: int | None) -> Path:
        """Folder of a checkpoint, there once it is whole: Orbax renames it into place."""
        return self.checkpoints / str(tokens)

    def checkpoint_tokens(self) -> list[int]:
        """Token counts of the checkpoints that are whole, ascending. Raises Unreadable where they cannot be listed."""
        try:
            names = os.listdir(self.checkpoints)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unreadable(self.checkpoints, f"cannot be read ({error.strerror})") from None
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 20)

    def lease(self, generation: int) -> Path:
        return self.path / f".lease.{generation}"

    def is_run(self) -> bool:
        """Whether this is the directory of a run: it has a spec.json, or had one and still has other files of a run."""
        return any(path_exists(self.path / name) for name in OF_A_RUN)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file by its name, None where there is none. Raises Unreadable."""
        try:
            return read_bytes(self.path / name, LOG_BYTES if name.endswith(".jsonl") else RECORD_BYTES)
        except FileNotFoundError:
            return None

    def completion(self) -> Completion:
        """Whether the run is complete, and what is wrong with a result.json that does not count."""
        try:
            payload = self.read(RESULT)
        except Unreadable as error:
            return Completion(problem=error.why)
        if payload is None:
            return Completion()
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

    def read_tokenizer(self, most_bytes: int) -> str | None:
        """The run's own tokenizer.json; None where it keeps none."""
        if not path_exists(self.tokenizer):
            return None
        return read_bytes(self.tokenizer, most_bytes).decode("utf-8", "replace")

    def write_tokenizer(self, content: str) -> None:
        if content and not path_exists(self.tokenizer):
            write_atomic(self.tokenizer, content)

    def read_ledger(self) -> Ledger:
        return _checked(Ledger, self.ledger)

    def write_ledger(self, ledger: Ledger) -> None:
        write_json(self.ledger, ledger)

    def read_result(self) -> RunResult:
        return _checked(RunResult, self.result)

    def write_result(self, result: RunResult) -> None:
        write_json(self.result, result)

    def seal(self, result: RunResult) -> RunResult:
        """A result with the checksums of the run's other files, as they are now, and its own."""
        return cast(RunResult, sealed(result, self._contents()))

    def _contents(self) -> dict[str, bytes]:
        return {name: payload for name in SEALED if (payload := self.read(name)) is not None}

    def is_intact(self, name: str) -> bool:
        """Whether a file still holds what it held when the run was complete; so does one without a checksum."""
        cover = covers(self.completion().result or {}).get(name)
        payload = self.read(name)
        return cover is None or (payload is not None and not difference(cover, payload))

    def seal_again(self, *names: str) -> None:
        """Renew the checksums of files that were intact and changed on purpose; a result without any stays without."""
        result = self.completion().result
        if result is None or not (is_sealed(result) and is_whole(result)):
            return
        fresh = covers(sealed(result, self._contents()))
        renewed = {name: fresh[name] for name in names if name in fresh}
        write_json(self.result, itself({**result, FILES: covers(result) | renewed}))

    def read_tasks(self) -> dict[str, TaskRecord]:
        """Tasks by name; none where there is no tasks.json."""
        if not path_exists(self.tasks):
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
        with contextlib.suppress(FileNotFoundError), opened(self.metrics, LOG_BYTES) as file:
            for line in json_lines(lines_of(file)):
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

    sweep = Inside(SWEEP)
    prepared = Inside(PREPARED)
    held_back = Inside(HELD_BACK)
    forecast_folder = Inside(FORECAST)
    forecast = Inside(FORECAST, FORECAST_RESULT)
    forecast_table = Inside(FORECAST, FORECAST_TABLE)
    forecast_fit = Inside(FORECAST, FORECAST_FIT)
    forecast_score = Inside(FORECAST, FORECAST_SCORE)
    expected = Inside(PLAN, EXPECTED)
    report = Inside(REPORT)
    slurm = Inside(SLURM)
    launcher_lock = Inside(LAUNCHER_LOCK)
    sweep_lock = Inside(SWEEP_LOCK)
    workers = Inside(WORKERS)

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.path / run_id)

    def runs(self) -> list[RunDirectory]:
        """Every folder of a run, by name, one that has lost its spec.json among them.

        Raises:
          BadInput: there is no such sweep.
        """
        return [run for run in self.folders() if run.is_run()]

    def folders(self) -> list[RunDirectory]:
        """Every folder in it that is not hidden, by name.

        Raises:
          BadInput: there is no such sweep, or it cannot be listed.
        """
        try:
            names = sorted(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(f"{self.path}: no such sweep") from None
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be read ({error.strerror})") from None
        paths = [self.path / name for name in names if not name.startswith(".")]
        return [RunDirectory(path) for path in paths if os.path.isdir(path)]

    def read_prepared(self) -> dict[str, str]:
        """SHA-256 of the tokens that each run is to read, by run_id; empty where nothing was prepared."""
        return _checked(dict[str, str], self.prepared) if self.prepared.exists() else {}

    def write_prepared(self, fingerprints: Mapping[str, str]) -> None:
        """Add these to what was prepared before."""
        try:
            before = self.read_prepared()
        except BadInput:  # damaged, and written anew from what is here
            before = {}
        write_json(self.prepared, {**before, **fingerprints})

    def read_held_back(self) -> HeldBack:
        return held_back_of(read_json(self.held_back), self.held_back)

    def read_expected(self) -> dict[str, Any]:
        """What planning/plan.py expected; empty where there is none, or what is there cannot be read."""
        try:
            return read_object(self.expected)
        except (BadInput, OSError):
            return {}

    def write_held_back(self, held_back: HeldBack) -> None:
        write_json(self.held_back, held_back)


def _checked(kind: type[T], path: Path) -> T:
    value = read_object(path)
    try:
        return typed(kind, value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
