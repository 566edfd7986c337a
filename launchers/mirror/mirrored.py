"""What a tracker is given of a run: its settings, and its numbers along training, as the logs have them in the end."""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from analysis.logs.groups import flat
from analysis.logs.load_curves import EVALUATION_COLUMNS, Curves, read_curves
from analysis.logs.load_run import Run, at, number, read_run
from core.files import whole_rows
from core.numbers import finite
from core.rundir import EVALUATIONS, METRICS, RunDirectory

NO_NUMBER_OF_THE_MODEL = ("step", "tokens", "attempt")  # of a row of metrics.jsonl: where it is, not what it is
Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Point:
    """Everything that is known at one place of a run.

    Attributes:
      tokens: trained so far.
      time: seconds since 1970 when the step ended; made of the start of its attempt and the seconds of training since.
      values: by name: train/KEY for a key of metrics.jsonl, and the names of evals.jsonl.
    """

    tokens: int
    time: float
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class MirroredRun:
    """One run.

    Attributes:
      run: run_id. sweep: the name of its sweep.
      state: complete, failed or incomplete.
      settings: its RunSpec by dotted key, and its parameter counts as params.CONVENTION; what is null is left out.
      points: by tokens, each place once: of several attempts the last.
      final: numbers of the end, of a complete run.
      started: seconds since 1970; 0 where the run does not say.
    """

    run: str
    sweep: str
    state: str
    settings: Mapping[str, Value]
    points: tuple[Point, ...]
    final: Mapping[str, float]
    started: float

    @property
    def sha256(self) -> str:
        """Over everything."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def read_mirrored(directory: Path) -> tuple[MirroredRun | None, list[str]]:
    """A run of a sweep from its directory, and what was left out of it, one line each.

    None where the folder is no run, or one without a spec that can be read.
    """
    run = read_run(directory, skip=())
    if run is None:
        return None, []
    if not run.spec or run.status == "unreadable":
        return None, [f"{run.run}: left out ({run.cause})"]
    read = RunDirectory(directory).read
    payload = None if run.has_doubtful(METRICS) else read(METRICS)
    metrics = _curves(run, METRICS, {key: pl.Float64 for key in _keys(payload)}, ("tokens",))
    evaluations = _curves(run, EVALUATIONS, EVALUATION_COLUMNS, ("tokens", "name"))
    starts = [_seconds_of(attempt) for attempt in run.env.get("attempts") or ()]
    said = [f"{run.run}/{note}" for note in run.notes if not note.doubtful]
    return MirroredRun(
        run=run.run,
        sweep=directory.absolute().parent.name,
        state=run.status,
        settings=dict(_settings({**run.spec, "params": run.ledger.get("params", {})})),
        points=tuple(_points(metrics.frame, evaluations.frame, starts)),
        final=dict(_final(run.result)),
        started=starts[0] if starts else 0.0,
    ), [*said, *metrics.warnings, *evaluations.warnings]


def _curves(run: Run, name: str, columns: Mapping[str, Any], unique: tuple[str, ...]) -> Curves:
    def read(folder: str, file: str) -> bytes | None:
        return RunDirectory(run.path).read(file)

    return read_curves([run], name, columns, unique, read)


def _keys(payload: bytes | None) -> list[str]:
    """Keys of numbers in a metrics.jsonl: of its first and last whole row, since a later version may write more."""
    lines = (payload or b"").splitlines()
    rows = [row for part in (lines[:5], lines[-5:]) for row in whole_rows(part)[0]]
    found = {
        key: None for row in rows for key, value in row.items() if not isinstance(value, str | list | dict)
    }
    return list({"tokens": None, "attempt": None, **found})


def _points(metrics: pl.DataFrame, evaluations: pl.DataFrame, starts: list[float]) -> Iterator[Point]:
    values: dict[int, dict[str, float]] = {}
    times: dict[int, float] = {}
    base, attempt, last, time = 0.0, 0, 0.0, 0.0
    for row in metrics.iter_rows(named=True):
        tokens, seconds = int(row["tokens"]), finite(row.get("seconds")) or last
        if int(row["attempt"] or 0) != attempt:
            base, attempt = last, int(row["attempt"] or 0)
        begun = starts[attempt - 1] if 0 < attempt <= len(starts) else 0.0
        time, last = max(time, begun + seconds - base), seconds
        times[tokens] = time
        values[tokens] = {
            f"train/{key}": value
            for key, value in row.items()
            if key not in (*NO_NUMBER_OF_THE_MODEL, "run") and finite(value) is not None
        }
    for row in evaluations.iter_rows(named=True):
        if finite(row["value"]) is not None:
            values.setdefault(int(row["tokens"]), {})[row["name"]] = row["value"]
    time = starts[0] if starts else 0.0
    for tokens in sorted(values):
        time = times.get(tokens, time)
        if values[tokens]:
            yield Point(tokens, time, values[tokens])


def _seconds_of(attempt: Any) -> float:
    """When an attempt started, in seconds since 1970."""
    try:
        return datetime.datetime.fromisoformat(attempt["started"]).timestamp()
    except (TypeError, KeyError, ValueError, OverflowError):
        return 0.0


def _settings(tree: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Leaves by dotted key; a list as its JSON text."""
    for key, value in flat(tree).items():
        if isinstance(value, list):
            yield key, json.dumps(value)
        elif isinstance(value, bool | str) or finite(value) is not None:
            yield key, value


def _final(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in (at(result, "evals") or {}).items():
        if (found := number(value)) is not None:
            yield f"final/{name}", found
    for name in ("train_loss", "train_seconds", "tokens_per_second"):
        if (found := number(result.get(name))) is not None:
            yield f"final/{name}", found
