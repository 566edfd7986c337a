"""What a folder of Python files offers to choose from: a new file is a new choice, registered nowhere."""

import functools
import pkgutil
from pathlib import Path

from core.errors import BadInput


@functools.cache
def names(folder: Path) -> tuple[str, ...]:
    """The files of a folder by name, sorted, found without importing any; those that begin with _ are no choice."""
    return tuple(
        sorted(file.name for file in pkgutil.iter_modules([str(folder)]) if not file.name.startswith("_"))
    )


def check(key: str, name: str, folder: Path) -> None:
    """Raises BadInput where no file of the folder has this name; `key` is where it was set."""
    if name not in names(folder):
        raise BadInput(f"{key}={name!r}: must be one of {', '.join(names(folder))}")
