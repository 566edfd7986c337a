"""The metrics of steps that a pack takes together, written while the device works on the next ones.

Waiting for the device after every step would leave it idle while the host fetches, writes and dispatches: nothing for
a step of a second, half the time for one of a millisecond. So short steps are waited for in groups.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from training.member import Member
from training.step import Metrics

GROUP_SECONDS = 0.05  # of steps that are waited for together; a stop or a divergence is seen this much later
MOST_IN_A_GROUP = 64


@dataclasses.dataclass(frozen=True)
class Taken:
    """A step that the device may still be working on: who took it, at which learning rates, where it ended."""

    members: tuple[Member, ...]
    rates: tuple[float, ...]
    tokens: int
    metrics: Metrics


class StepLog:
    """Writes a row for each member of each step.

    Members share the seconds of a step: those of a pack add up to the machine's. The first step is waited for, since
    it was compiled, which counts apart.

    Args:
      members: of the pack.
    """

    def __init__(self, members: Sequence[Member]):
        self._members = members
        self._waiting: list[Taken] = []
        self._group = 1
        self._compiled = False
        self._mark = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call: what passes between two steps and is none's."""
        now = time.perf_counter()
        elapsed, self._mark = now - self._mark, now
        return elapsed

    def add(
        self, members: Sequence[Member], hyper: Mapping[int, Mapping[str, float]], metrics: Metrics
    ) -> None:
        """Keep a step, which these members have just taken, for later; write those before once they are a group."""
        if not self._compiled:
            jax.block_until_ready(metrics)
            self._compiled = True
            compiling = [member for member in self._members if member in members or not member.has_ended]
            share = self.lap() / len(compiling)
            for member in compiling:
                member.log.clock.compiling += share
        if len(self._waiting) >= self._group:
            self.flush()
        rates = tuple(hyper[member.lane]["learning_rate"] for member in members)
        self._waiting.append(Taken(tuple(members), rates, members[0].tokens, metrics))

    def flush(self) -> None:
        """Write the steps that were kept; this waits for the device to have finished them."""
        steps, self._waiting = self._waiting, []
        if not steps:
            return
        fetched = jax.device_get([taken.metrics for taken in steps])
        seconds = self.lap() / len(steps)
        self._group = max(1, min(MOST_IN_A_GROUP, round(GROUP_SECONDS / max(seconds, 1e-9))))
        for taken, metrics in zip(steps, fetched, strict=True):
            self._write(taken, metrics, seconds / len(taken.members))

    def _write(self, taken: Taken, metrics: Mapping[str, np.ndarray], share: float) -> None:
        loss_M, norm_M = (np.ravel(metrics[name]) for name in ("loss", "grad_norm"))
        for member, rate in zip(taken.members, taken.rates, strict=True):
            if member.cause is None:
                loss, norm = float(loss_M[member.lane]), float(norm_M[member.lane])
                others = {
                    name: float(np.ravel(value)[member.lane])
                    for name, value in metrics.items()
                    if name not in ("loss", "grad_norm")
                }
                with member.alone():
                    member.log.write(taken.tokens, rate, loss, norm, share, len(taken.members), others)
