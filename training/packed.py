"""The loop of a pack: runs at one position step together, each keeps its own logs, clock and checkpoints."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from core.errors import EXIT_COMPLETE
from training.loop import Run, Stopped
from training.pack_step import empty_lanes, make_pack_step, pack_mesh, put_lane, take_lane
from training.processes.group import Outcome, record
from training.run import outcome_of, write_result
from training.spec import RunSpec
from training.step import Metrics, make_initialization


@dataclasses.dataclass
class Member:
    """One run of a pack: where it lies, and the lane of its state; `outcome` once it has ended."""

    directory: Path
    run: Run
    lane: int
    outcome: Outcome | None = None

    @property
    def spec(self) -> RunSpec:
        return self.run.spec

    def fail(self, error: BaseException) -> None:
        """End this run as it would end alone, and leave the others be."""
        self.outcome = outcome_of(self.directory, error)
        with contextlib.suppress(OSError):  # a full disk: the outcome's message still reaches the user
            record(self.directory, self.outcome)
        with contextlib.suppress(Exception):  # the cause is known; what closing says after it is not another
            self.run.close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """What goes wrong in here concerns this run only."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  a run fails alone: the others of its pack go on
            self.fail(error)


@dataclasses.dataclass(frozen=True)
class Pending:
    """A step whose metrics are still on the device: its members, their rates, the token count that it ended at."""

    members: tuple[Member, ...]
    rates: tuple[float, ...]
    tokens: int
    metrics: Metrics


class Pack:
    """Runs in their directories, trained together until each has ended.

    Runs at different positions are brought together first: those furthest behind train, the others wait. The number
    of lanes stays the same for as long as the process lives, so that a member's numbers do not depend on who waits.

    Args:
      opened: directories and their `training.loop.Run`, all of one shape; their states move into the pack.
      stop_requested: asked after every step; true saves and stops every member.
    """

    def __init__(self, opened: Sequence[tuple[Path, Run]], stop_requested: Callable[[], bool]):
        self.started, self.stop_requested = time.monotonic(), stop_requested
        self.working = 1  # members that train now, the others waiting for them
        first = opened[0][1]
        self.mesh = pack_mesh(first.spec.model, len(opened))
        _, self.target = make_initialization(first.spec.model, first.mesh)
        self.step = make_pack_step(first.spec.model, first.spec.optim.decay_all, first.microbatches, self.mesh)
        self.members = [Member(directory, run, lane) for lane, (directory, run) in enumerate(opened)]

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.outcome is None]

    def train(self) -> None:
        """Until every member has an outcome; an error that all share fails all."""
        try:
            self.state = empty_lanes(self.target, len(self.members), self.mesh)
            for member in self.members:
                self.state = put_lane(self.state, member.lane, member.run.state, self.mesh)
                del member.run.state  # one copy of each state: the pack's
                member.run.begin()
            self.mark, self.compiled = time.perf_counter(), False
            self._retire()
            while self.alive:
                self._advance()
                self._retire()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  as in `execute`: each run says why it ended
            for member in self.alive:
                member.fail(error)

    def _advance(self) -> None:
        """Train those that are furthest behind until one of them ends or they reach the next ahead of them."""
        position = min(member.run.tokens for member in self.alive)
        group = [member for member in self.alive if member.run.tokens == position]
        ahead = [member.run.tokens for member in self.alive if member.run.tokens > position]
        until = min([*ahead, *(member.spec.tokens for member in group)])
        self.working = len(group)
        batches = self._batches(group, position)
        pending: Pending | None = None
        while group and position < until:
            hyper = [member.run.step_hyper() for member in group]
            self.state, metrics = self.step(
                self.state, next(batches), self._spread(group, hyper), self._active(group)
            )
            if pending:
                self._record(pending)  # of the step before: the device already works on this one
            elif not self.compiled:
                self._count_compilation(metrics)
            position += group[0].spec.batch_tokens
            for member in group:
                member.run.tokens = position
            pending = Pending(tuple(group), tuple(own["learning_rate"] for own in hyper), position, metrics)
            stop = self.stop_requested()
            save = stop or any(member.run.save_is_due() for member in group)
            if save or position == until or any(position in member.spec.halts for member in group):
                self._record(pending)
                pending = None
                self._attend([member for member in group if member.outcome is None], save)
            group = [member for member in group if member.outcome is None]
            if stop:
                self._retire()
                self._stop()
                return

    def _batches(self, group: Sequence[Member], position: int) -> Iterator[Any]:
        """Batches int32 (M, B, T + 1); runs that read the same data in the same order share one reader, and a lane
        that waits is given some batch, whose result is thrown away."""
        readers = {
            (member.spec.data, member.spec.seed): member.run.loader.from_token(position)
            for member in reversed(group)
        }
        waiting = (group[0].spec.data, group[0].spec.seed)
        reader_of = [waiting] * len(self.members)
        for member in group:
            reader_of[member.lane] = (member.spec.data, member.spec.seed)
        while True:
            batches = {key: next(reader) for key, reader in readers.items()}
            yield np.stack([batches[key] for key in reader_of])

    def _spread(self, group: Sequence[Member], hyper: Sequence[dict[str, float]]) -> dict[str, Any]:
        """The scalars of a step by lane; a lane that waits has those of the first, and moves nothing."""
        by_lane = [hyper[0]] * len(self.members)
        for member, own in zip(group, hyper, strict=True):
            by_lane[member.lane] = own
        return {key: np.array([own[key] for own in by_lane], np.float32) for key in hyper[0]}

    def _active(self, group: Sequence[Member]) -> Any:
        active_M = np.zeros(len(self.members), bool)
        active_M[[member.lane for member in group]] = True
        return active_M

    def _lap(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        elapsed, self.mark = now - self.mark, now
        return elapsed

    def _count_compilation(self, metrics: Any) -> None:
        jax.block_until_ready(metrics)
        share = self._lap() / len(self.alive)
        for member in self.alive:
            member.run.clock.compiling += share
        self.compiled = True

    def _record(self, pending: Pending) -> None:
        """Write one row for each member; its seconds are its share: those of a pack add up to the machine's."""
        losses, norms = jax.device_get((pending.metrics["loss"], pending.metrics["grad_norm"]))
        share = self._lap() / len(pending.members)
        for member, rate in zip(pending.members, pending.rates, strict=True):
            if member.outcome is None:
                loss, norm = float(losses[member.lane]), float(norms[member.lane])
                with member.alone():
                    member.run.write_row(pending.tokens, rate, loss, norm, share)

    def _attend(self, members: Sequence[Member], save: bool) -> None:
        """Evaluate and save each member as if it were alone, in turn; saves go on while the next begins."""
        for member in members:
            if not save and member.run.tokens not in member.spec.halts:
                continue
            with member.alone(), jax.set_mesh(member.run.mesh):
                member.run.state = take_lane(self.state, member.lane, self.target)
                member.run.attend(save)
                del member.run.state
        self._lap()

    def _retire(self) -> None:
        """Write the result of every member that has reached its end."""
        for member in self.alive:
            if member.run.tokens == member.spec.tokens:
                with member.alone():
                    member.run.checkpoints.wait()
                    member.run.close()
                    write_result(member.directory, member.spec, member.run, time.monotonic() - self.started)
                    member.outcome = Outcome(EXIT_COMPLETE)
        self._lap()

    def _stop(self) -> None:
        """Every member that has not ended is saved; wait until it lies on the disk."""
        for member in self.alive:
            with member.alone():
                member.run.checkpoints.wait()
                raise Stopped(f"stopped by a signal at {member.run.tokens} tokens, saved")
