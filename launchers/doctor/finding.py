"""One thing that is wrong in a sweep's folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from core.reading import printable
from core.rundir import RunDirectory


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      where: run_id or file, below the sweep's folder.
      problem: what is wrong, with the value that shows it.
      remedy: what to do, or what --repair does.
      repair: mends it without training anything; None where that cannot be done.
    """

    where: str
    problem: str
    remedy: str
    repair: Callable[[], object] | None = dataclasses.field(default=None, compare=False)


def where_of(run: RunDirectory, path: Path) -> str:
    """A file of a run, below the sweep's folder."""
    return printable(f"{run.name}/{path.relative_to(run.path)}")
