"""The task families that exist: every `Task` class in a file of this folder; a new family is a new file."""

import dataclasses
import functools
import importlib
import re
from pathlib import Path

from core.errors import BadInput
from core.paths import absolute
from data.tasks.protocol import Task

FOLDER = Path(__file__).resolve().parent
_OWN_FILES = ("__init__", "protocol", "registry", "user_file")
USER_FILE = "file:"
HARNESS_FILE = "lm-eval:"


@functools.cache
def families() -> dict[str, type[Task]]:
    """Every family by name."""
    found: dict[str, type[Task]] = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem in _OWN_FILES:
            continue
        module = importlib.import_module(f"data.tasks.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__:
                if value.family in found:
                    raise ValueError(f"{path.name}: family {value.family!r} exists already")
                if value.family:
                    found[value.family] = value
    return dict(sorted(found.items()))


def located(name: str) -> str:
    """The same task, its path from the root on where it is a file.

    Raises:
      BadInput: nobody knows the home of its path.
    """
    for form in (USER_FILE, HARNESS_FILE):
        if name.startswith(form):
            return form + absolute(name.removeprefix(form), f"task {name}")
    return name


def load(name: str) -> Task:
    """The task of a name, FAMILY[:KNOB=VALUE,...]; file:PATH for a user's own; lm-eval:PATH for a definition of
    lm-evaluation-harness.

    Raises:
      BadInput: an unknown family or knob, a value out of range, or a file that cannot be used.
    """
    if name.startswith(USER_FILE):
        # only where a file is named
        from data.tasks.user_file import UserTask

        return UserTask(path=name.removeprefix(USER_FILE))
    if name.startswith(HARNESS_FILE):
        # only where a definition is named
        from data.tasks.harness.read import HarnessTask

        return HarnessTask(path=name.removeprefix(HARNESS_FILE))
    family, colon, text = name.partition(":")
    if family not in families():
        raise BadInput(f"unknown task {name!r}: allowed are {', '.join(families())}, file:PATH, lm-eval:PATH")
    kind = families()[family]
    if not colon:
        return kind()
    fields = {field.name: field for field in dataclasses.fields(kind)}
    knobs: dict[str, int | str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in fields:
            raise BadInput(f"task {name!r}: unknown knob {key!r}: {family} has {', '.join(fields)}")
        if key in knobs:
            raise BadInput(f"task {name!r}: knob {key!r} is given twice")
        if "least" in fields[key].metadata:
            if not re.fullmatch(r"-?[0-9]{1,9}", value):
                raise BadInput(f"task {name!r}: {key}={value!r}: must be a whole number")
            knobs[key] = int(value)
        else:
            knobs[key] = value
    return kind(**knobs)  # type: ignore[arg-type]
