"""End a run that was asked to stop, so that the same command resumes it."""

from training.hooks import Asked
from training.spec import RunSpec
from training.state import TrainState


class Stopped(RuntimeError):
    """A signal asked for an end; the state is saved."""


class Stop:
    """Comes after `Save` in the order of hooks."""

    def __init__(self, spec: RunSpec):
        self._end = spec.tokens

    def is_due(self, tokens: int, asked: Asked) -> bool:
        return asked.stop and tokens < self._end

    def act(self, tokens: int, state: TrainState) -> None:
        raise Stopped(f"stopped by a signal at {tokens} tokens, saved")

    def close(self) -> None:
        pass
