"""A sweep that is looked at again and again: status, speed and time left, each run read only where it has changed."""

import dataclasses
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import whole_rows
from core.numbers import finite
from core.reading import LOG_BYTES, Unreadable, opened, printable
from core.rundir import RunDirectory
from core.sweep_file import SweepRecord, known_sweep_file
from launchers.slurm.queue import Queued, read_queue
from launchers.status import RunStatus, join_queue, sweep_status
from launchers.watch.changed import RunStatuses, WhereChanged
from launchers.watch.totals import KEPT_SECONDS, RunCost, Totals, totals_of
from training.cost import counted
from training.records import read_spec

TAIL_BYTES = 1 << 14  # of metrics.jsonl: some sixty rows
QUEUE_SECONDS = 60.0  # between two questions to Slurm, which many users share


@dataclasses.dataclass(frozen=True)
class Look:
    """What is known of a sweep at one moment.

    Attributes:
      rows: as `status` shows them; empty where there is no run, `problem` says why.
      last: the newest row of metrics.jsonl of every running run, by run_id.
      record: its sweep.json.
      warnings: one line each.
    """

    rows: tuple[RunStatus, ...]
    totals: Totals
    last: Mapping[str, Mapping[str, Any]]
    record: SweepRecord | None = None
    warnings: tuple[str, ...] = ()
    problem: str = ""


class Watched:
    """The sweep at `directory`, from one look to the next."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._statuses = RunStatuses()
        self._costs = WhereChanged(_cost_of)
        self._tails = WhereChanged(newest_rows)
        self._seen: list[tuple[float, float]] = []
        self._queue: tuple[float, dict[str, Queued]] = (-QUEUE_SECONDS, {})

    def look(self) -> Look:
        """The sweep now. A folder that is empty, damaged or gone is a `problem` in one line."""
        record, damage = known_sweep_file(self.directory)
        try:
            rows = sweep_status(self.directory, (record, damage), self._statuses)
            rows, warning = join_queue(rows, self.directory, self._ask)
        except (BadInput, OSError) as error:
            return Look((), totals_of((), {}, {}), {}, record, problem=printable(str(error)))
        costs = {row.run: cost for row in rows if (cost := self._costs(self.directory / row.run)) is not None}
        tails = {row.run: self._tails(self.directory / row.run) for row in rows if row.state == "running"}
        speeds = {run: speed_of(tail) for run, tail in tails.items()}
        now = time.monotonic()
        totals = totals_of(rows, costs, speeds, self._seen, now)
        self._note(now, totals.done)
        return Look(
            rows=tuple(rows),
            totals=totals,
            last={run: tail[-1] for run, tail in tails.items() if tail},
            record=record,
            warnings=tuple(filter(None, (damage, warning))),
        )

    def _note(self, now: float, done: float) -> None:
        """Keep what was seen; where a run has begun anew, what was seen before says nothing."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen = [(at, flops) for at, flops in self._seen if now - at <= KEPT_SECONDS] + [(now, done)]

    def _ask(self, sweep: Path) -> dict[str, Queued]:
        if time.monotonic() - self._queue[0] > QUEUE_SECONDS:
            self._queue = time.monotonic(), read_queue(sweep)
        return self._queue[1]


def _cost_of(path: Path) -> RunCost | None:
    try:
        spec = read_spec(path)
    except (BadInput, OSError):
        return None
    per_token = counted(spec)["flops_per_token"]["exact"]
    return RunCost(spec.tokens - spec.trained_tokens, spec.tokens, per_token)


def newest_rows(path: Path) -> list[dict[str, Any]]:
    """The last rows of a run's metrics.jsonl that are whole, of its last attempt; none where it cannot be read."""
    try:
        with opened(RunDirectory(path).metrics, LOG_BYTES) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            rows, _ = whole_rows(file.read().split(b"\n"))
    except (FileNotFoundError, Unreadable):
        return []
    return [row for row in rows if row.get("attempt") == rows[-1].get("attempt")]


def speed_of(rows: list[dict[str, Any]]) -> float:
    """Tokens per second of the last steps: their median, since a step that saved was slow; 0 where unknown."""
    known = [speed for row in rows[-20:] if (speed := finite(row.get("tokens_per_second"))) and speed > 0]
    return statistics.median(known) if known else 0.0
