"""How far a sweep is, how fast it goes and when it ends: pure functions of what is known of its runs."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from launchers.status import RunStatus

# In these states a run may still write: somebody trains it, or the sweep's command would.
UNFINISHED = ("running", "queued", "stopped", "missing", "lost")
ORDER = ("running", "failed", "broken", "lost", "stopped", "queued", "missing", "complete")
LEAST_SECONDS = 60.0  # of watching, before what was seen says more than the runs' own speed
KEPT_SECONDS = 900.0  # what is older says little of the speed now


@dataclasses.dataclass(frozen=True)
class RunCost:
    """What a run is to train itself: tokens from `first` (0, or where it branches) to `last`, FLOPs of each of them."""

    first: int
    last: int
    flops_per_token: float

    def flops(self, tokens: float) -> float:
        """FLOPs trained once the run has come to `tokens`."""
        return self.flops_per_token * (min(max(tokens, self.first), self.last) - self.first)


@dataclasses.dataclass(frozen=True)
class Totals:
    """A sweep in numbers.

    Attributes:
      states: how many runs are in each state, in the order of ORDER.
      done, all: FLOPs, of the runs whose cost is known; `unknown` runs are not counted.
      tokens_per_second: of all running runs together.
      seconds_left: until every run that is not failed is complete, at the present speed; None where nothing runs.
    """

    states: Mapping[str, int]
    done: float
    all: float
    unknown: int
    tokens_per_second: float
    seconds_left: float | None

    @property
    def runs(self) -> int:
        return sum(self.states.values())

    @property
    def left(self) -> int:
        """Runs that are neither complete nor failed nor broken."""
        return sum(self.states.get(state, 0) for state in UNFINISHED)


def goes_on(rows: Iterable[RunStatus]) -> bool:
    """Whether a run is left that may still be trained."""
    return any(row.state in UNFINISHED for row in rows)


def totals_of(
    rows: Sequence[RunStatus],
    costs: Mapping[str, RunCost],
    speeds: Mapping[str, float],
    seen: Sequence[tuple[float, float]] = (),
    now: float = 0.0,
) -> Totals:
    """Args:
    costs: of the runs whose spec can be read.
    speeds: tokens per second of the running ones.
    seen: (seconds, FLOPs done) at earlier looks, ascending; `now` in the same seconds.
    """
    counts = {state: sum(row.state == state for row in rows) for state in ORDER}
    known = [row for row in rows if row.run in costs]
    done = sum(_done(row, costs[row.run]) for row in known)
    to_go = sum(costs[row.run].flops(costs[row.run].last) - _done(row, costs[row.run])
                for row in known if row.state in UNFINISHED)  # fmt: skip
    running = [row.run for row in known if row.state == "running"]
    rate = sum(costs[run].flops_per_token * speeds.get(run, 0.0) for run in running)
    if seen and running:
        since, before = seen[0]
        span = now - since
        if span >= LEAST_SECONDS and done > before:
            rate = (done - before) / span
    return Totals(
        states={state: count for state, count in counts.items() if count},
        done=done,
        all=sum(cost.flops(cost.last) for cost in (costs[row.run] for row in known)),
        unknown=len(rows) - len(known),
        tokens_per_second=sum(speeds.get(run, 0.0) for run in running),
        seconds_left=to_go / rate if running and rate > 0 else None,
    )


def _done(row: RunStatus, cost: RunCost) -> float:
    return cost.flops(cost.last if row.state == "complete" else row.tokens)
