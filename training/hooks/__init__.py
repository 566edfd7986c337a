"""What happens to a run between two steps: one class a file, all with the protocol of `Hook`."""

import dataclasses
from typing import Protocol

from training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Asked:
    """What somebody asked for during a step: a signal to stop, a clock to save. All processes of a run agree on it."""

    stop: bool
    save: bool


class Hook(Protocol):
    """Something that is done to one run after some of its steps."""

    def is_due(self, tokens: int, asked: Asked) -> bool:
        """Whether to act after the step that ended at `tokens`.

        Asked after every step: it must not wait for the device, and must answer alike in all processes.
        """

    def act(self, tokens: int, state: TrainState) -> None:
        """Act; the rows of all steps are written. What is raised ends this run and no other of its pack."""

    def close(self) -> None:
        """The run has ended."""
