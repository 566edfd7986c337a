"""The metrics of steps that a pack takes together, each written while the device works on the next one."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from training.member import Member
from training.step import Metrics


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
        self._waiting: Taken | None = None
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
        """Keep a step, which these members have just taken, for later; write the one before."""
        if not self._compiled:
            jax.block_until_ready(metrics)
            self._compiled = True
            compiling = [member for member in self._members if member in members or not member.has_ended]
            share = self.lap() / len(compiling)
            for member in compiling:
                member.log.clock.compiling += share
        self.flush()
        rates = tuple(hyper[member.lane]["learning_rate"] for member in members)
        self._waiting = Taken(tuple(members), rates, members[0].tokens, metrics)

    def flush(self) -> None:
        """Write the step that was kept; this waits for the device to have finished it."""
        taken, self._waiting = self._waiting, None
        if taken is None:
            return
        loss_M, norm_M = (np.ravel(np.asarray(taken.metrics[name])) for name in ("loss", "grad_norm"))
        share = self.lap() / len(taken.members)
        for member, rate in zip(taken.members, taken.rates, strict=True):
            if member.cause is None:
                loss, norm = float(loss_M[member.lane]), float(norm_M[member.lane])
                with member.alone():
                    member.log.write(taken.tokens, rate, loss, norm, share, len(taken.members))
