"""Checkpoint a run: every so many seconds, where branches start, when it is stopped and at its end."""

import time
from collections.abc import Callable

from training.checkpoint import Checkpoints
from training.hooks import Asked
from training.log import Clock
from training.spec import RunSpec
from training.state import TrainState


class Save:
    """Saves the state with its place in the data and its timers; the write goes on while the run trains.

    Args:
      clock: of the run, saved with it.
      seconds: between two checkpoints that nothing else asks for.
      attempt: number of the attempt, saved too.
      sync: flushes the logs to disk, before a checkpoint claims what they hold.
    """

    def __init__(
        self,
        spec: RunSpec,
        checkpoints: Checkpoints,
        clock: Clock,
        seconds: float,
        attempt: int,
        sync: Callable[[], None] = lambda: None,
    ):
        self._sync = sync
        self._checkpoints, self._clock, self._seconds, self._attempt = checkpoints, clock, seconds, attempt
        self._marks = frozenset({*spec.checkpoint_marks, spec.tokens})
        self._last = time.monotonic()

    def is_overdue(self) -> bool:
        """Whether the last checkpoint is old enough for the next."""
        return time.monotonic() - self._last >= self._seconds

    def is_due(self, tokens: int, asked: Asked) -> bool:
        return asked.save or asked.stop or tokens in self._marks

    def act(self, tokens: int, state: TrainState) -> None:
        progress = {
            "tokens": tokens,
            "train_seconds": self._clock.training,
            "compile_seconds": self._clock.compiling,
            "attempt": self._attempt,
        }
        self._sync()
        self._checkpoints.save(tokens, state, progress)
        self._last = time.monotonic()

    def close(self) -> None:
        self._checkpoints.close()
