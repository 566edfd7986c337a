"""Where the run lies that a later stage begins with; training/lineage.py reads it."""

from pathlib import Path

from core.rundir import RunDirectory
from training.spec import RunSpec


def parent_of(spec: RunSpec, directory: Path) -> RunDirectory:
    """The run that a later stage begins with: of the same sweep, or SWEEP/RUN of one beside it."""
    *sweep, run = str(spec.parent).split("/")
    folder = directory.absolute().parent
    return RunDirectory(folder.parent / sweep[0] / run if sweep else folder / run)
