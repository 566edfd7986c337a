"""A function's typed arguments as command-line flags, whose mistakes are one line."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from core.errors import BadInput


def parse(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call `function`, or build the dataclass, with `arguments` for its flags; --help prints them and exits with 0.

    Raises:
      BadInput: an unknown flag or a value of the wrong type.
    """
    import tyro

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(function, args=list(arguments), prog=prog, description="")
    except SystemExit as stop:
        if not stop.code:
            raise
        raise BadInput(_one_line(messages.getvalue())) from None


def _one_line(box: str) -> str:
    """The text of a message drawn in a box, without its heading and its footer."""
    lines = [line.strip("│╭╮╰╯─- ") for line in box.splitlines() if line.strip()]
    text = " ".join(line for line in lines[1:] if line)
    return (
        re.split("For full helptext|Argument helptext", text)[0].strip() or "these arguments cannot be parsed"
    )
