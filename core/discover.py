"""What a folder of Python files offers to choose from: a new file is a new choice, registered nowhere."""

import ast
import contextlib
import functools
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


@functools.cache
def declared(folder: Path, name: str) -> Mapping[str, Any]:
    """The constants of a file that are literals, such as `MOMENTS = 2`, by name, read without importing it: planning
    loads no JAX. Empty where the file cannot be read."""
    try:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found
