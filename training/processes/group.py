"""The processes that train a run: how each of them ends, and what one process alone decides for itself."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from core.errors import EXIT_BAD_INPUT, EXIT_FAILED
from training.records import write_error

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an attempt ended: its exit status and, but for 0, one line that says why.

    `detail` is what error.txt holds, where that is more; `together` says that every process of the run comes to this
    end by itself.
    """

    status: int
    message: str = ""
    detail: str = ""
    together: bool = dataclasses.field(default=False, compare=False)


class EndedElsewhere(RuntimeError):
    """Another process of this run has ended or is lost, and `outcome` is how this one shall end."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.message)
        self.outcome = outcome


class Group:
    """The processes of a run: this base class is one process alone, for which everything is its own decision."""

    index = 0
    count = 1

    @property
    def is_leader(self) -> bool:
        return self.index == 0

    def decide(self, name: str, function: Callable[[], Any]) -> Any:
        """What `function` returns in the leader, as a JSON value, in every process."""
        return function()

    def leader_first(self, name: str, function: Callable[[], T]) -> T:
        """What `function` returns here; the leader calls it before all others, so that they find what it builds."""
        return function()

    def same(self, name: str, value: str) -> None:
        """Raises BadInput in every process where `value` is not what it is in the leader."""

    def look_elsewhere(self) -> None:
        """Raises EndedElsewhere where an error here comes from the end of another process."""

    def leave(self, directory: Path, outcome: Outcome) -> Outcome:
        """Tell the others how this process ends; returns how it shall end once they agree."""
        return outcome

    def exit(self, status: int) -> int:
        """The exit status, for the caller to end with; a process whose others did not end well ends here."""
        return status


def record(directory: Path, outcome: Outcome) -> None:
    """error.txt of a run that failed or was refused; nothing for other ends."""
    if outcome.status in (EXIT_FAILED, EXIT_BAD_INPUT):
        write_error(directory, outcome.detail or outcome.message)
