"""Commands made of functions: typed arguments are flags, the docstring is the help, a mistake is one line.

A positional-only argument of the function is positional on the command line, every other one is a flag.
"""

import contextlib
import functools
import inspect
import io
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from core.errors import BadInput, exit_on_bad_input

Answer = TypeVar("Answer")
HELP_COLUMNS = 80
HELP = ("For full helptext", "Argument helptext")  # where tyro's advice begins
FRAME = re.compile("[╭╮╰╯─│]")
INDENTED = re.compile(" {6}\\S")  # a flag in one of tyro's lists; its help is indented further
WORDS = (
    (r"Error parsing (\S+): could not convert string to float: ('.*')", r"argument \1: invalid float value: \2"),
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')", r"argument \1: invalid int value: \2"),
    (r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]", r"argument \1: invalid value: \2"),
    (r"invalid choice ('.*') for argument '(\S+)'\. Expected one of \((.*)\)\.",
     r"argument \2: invalid choice: \1 (choose from \3)"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values\.", r"argument \1: expected \2 value(s)"),
    (r"Unrecognized options: (.*)", r"unrecognized arguments: \1"),
)  # fmt: skip


def command(
    function: Callable[..., Answer],
    arguments: Sequence[str] | None,
    prog: str,
    description: str | None = None,
) -> Answer:
    """Call `function` with command-line flags; bad input is one line on standard error and exit status 2.

    Args:
      arguments: those after the command's name; None takes them from the process.
      prog: the command as its user types it.
      description: shown by --help in place of the docstring's.
    """
    import tyro

    given = sys.argv[1:] if arguments is None else arguments
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    shown = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding)
    with exit_on_bad_input():
        try:
            with contextlib.redirect_stdout(shown):
                call = _parsed(_deferred(function), given, prog, description=description, config=config)
        except SystemExit:
            shown.seek(0)
            sys.stdout.write("".join(map(_wrapped, shown)))
            raise
        return call()


def parse(function: Callable[..., Answer], arguments: Sequence[str], prog: str) -> Answer:
    """Call `function`, or build the dataclass, with `arguments` for its flags; --help prints them and exits with 0.

    Raises:
      BadInput: an unknown flag or a value of the wrong type.
    """
    return _parsed(function, arguments, prog, description="")


def pairs(texts: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """(NAME, VALUE) of every NAME=VALUE that was given with a flag.

    Raises:
      BadInput: a text of another form.
    """
    result = []
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise BadInput(f"{flag} {text}: must be NAME=VALUE")
        result.append((name, value))
    return result


def numbers(texts: Sequence[str], flag: str) -> dict[str, float]:
    """The same where values are numbers.

    Raises:
      BadInput: a text of another form, or a value that is no number.
    """
    values = {}
    for name, value in pairs(texts, flag):
        try:
            values[name] = float(value)
        except ValueError:
            raise BadInput(f"{flag} {name}={value}: must be NAME=VALUE with a number") from None
    return values


def _wrapped(line: str) -> str:
    """A line of --help that fits: tyro wraps its boxes alone."""
    if len(line.rstrip()) <= HELP_COLUMNS:
        return line
    indent = "  " if line.startswith("usage:") else ""
    return textwrap.fill(line, HELP_COLUMNS, subsequent_indent=indent, break_on_hyphens=False) + "\n"


def _deferred(function: Callable[..., Answer]) -> Callable[..., Callable[[], Answer]]:
    """A function of the same flags that gives the call, so that it runs once the flags are parsed."""
    import tyro

    def bound(*positional: Any, **flags: Any) -> Callable[[], Answer]:
        return functools.partial(function, *positional, **flags)

    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            hints[parameter.name] = Annotated[hints[parameter.name], tyro.conf.arg(metavar=parameter.name)]
    parameters = [entry.replace(annotation=hints[entry.name]) for entry in signature.parameters.values()]
    functools.update_wrapper(bound, function)
    del bound.__wrapped__  # type: ignore[attr-defined]  # tyro would look through to the annotations there
    bound.__annotations__ = hints
    bound.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return bound


def _parsed(function: Callable[..., Answer], arguments: Sequence[str], prog: str, **options: Any) -> Answer:
    import tyro

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(function, args=list(arguments), prog=prog, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise BadInput(_one_line(messages.getvalue())) from None


def _one_line(box: str) -> str:
    """The mistake that tyro draws in a box, in the words of Python's own parser of arguments."""
    inside = [FRAME.sub(" ", line).rstrip() for line in box.splitlines()]
    title, *lines = [line for line in inside if line.strip(" -")] or [""]
    told = list(itertools.takewhile(lambda line: not line.lstrip().startswith(HELP), lines))
    if title.strip() == "Required options":
        missing = [line.split()[0] for line in told if INDENTED.match(line)]
        return f"the following arguments are required: {', '.join(missing)}"
    text, *advice = re.split("Perhaps you meant:|Arguments similar to", "\n".join(told))
    near = " or ".join(line.split()[0] for part in advice for line in part.splitlines() if INDENTED.match(line))
    text = " ".join(text.split())
    text = text.replace("'None', ", "").replace(", 'None'", "")  # a choice that is never offered
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    if title.strip() == "Unrecognized options":
        text = text.replace(", ", " ")
    return (text or "these arguments cannot be parsed") + (f"; perhaps {near}" if near else "")
