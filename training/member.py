"""One run of a pack while it trains; a run alone is the only member of its pack."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from training.hooks import Asked, Hook
from training.hooks.save import Save
from training.log import MetricsLog
from training.objectives import Reader
from training.schedule import learning_rate
from training.spec import RunSpec
from training.state import TrainState, hyperparameters


class Member:
    """A run in its directory: where it stands, what it reads, what it writes. Its state is in its lane.

    Args:
      lane: of its state, from 0.
      mesh: the devices that it would have alone, and is evaluated and saved on.
      begins: tokens that it has trained already.
      hooks: what happens between its steps, in this order; `save` among them.
      evaluated: names of what is evaluated at its marks and at its end.

    Attributes:
      tokens: trained so far.
      cause: what ended the run before its last token.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        lane: int,
        mesh: jax.sharding.Mesh,
        *,
        begins: int,
        attempt: int,
        reader: Reader,
        log: MetricsLog,
        save: Save,
        hooks: Sequence[Hook],
        evaluated: frozenset[str] = frozenset(),
    ):
        self.spec, self.directory, self.lane, self.mesh, self.attempt = spec, directory, lane, mesh, attempt
        self.reader, self.log, self.save, self.evaluated = reader, log, save, evaluated
        self.tokens = begins
        self.cause: BaseException | None = None
        self._begins, self._hooks = begins, hooks
        self._numbers = hyperparameters(spec.optim, spec.objective)

    @property
    def has_ended(self) -> bool:
        return self.cause is not None or self.tokens == self.spec.tokens

    @property
    def steps(self) -> int:
        """Steps of this attempt."""
        return (self.tokens - self._begins) // self.spec.batch_tokens

    def hyper(self) -> dict[str, float]:
        """The scalars of the step that reads the next batch."""
        rate = learning_rate(self.spec.optim, self.tokens, self.spec.batch_tokens, self.spec.tokens)
        return {**self._numbers, "learning_rate": rate}

    def is_due(self, asked: Asked) -> bool:
        """Whether a hook acts after the step that has just ended."""
        return any(hook.is_due(self.tokens, asked) for hook in self._hooks)

    def pause(self, asked: Asked, state: TrainState) -> None:
        """Let the hooks act that are due."""
        for hook in self._hooks:
            if hook.is_due(self.tokens, asked):
                hook.act(self.tokens, state)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """What goes wrong in here ends this run, and no other of its pack."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  the cause is kept, and said when the run is closed
            self.cause = error

    def close(self) -> None:
        """Close the logs, and wait until all that was saved lies on the disk."""
        with contextlib.ExitStack() as closing:
            closing.callback(self.log.close)
            for hook in self._hooks:
                closing.callback(hook.close)
