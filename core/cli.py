"""Commands made of functions: typed arguments are flags, the docstring is the help, a mistake is one line.

A positional-only argument of the function is positional on the command line, every other one is a flag.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from core import bounds, names
from core.errors import BadInput, exit_on_bad_input
from core.numbers import parse_float, parse_int
from core.reading import printable

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry

T = TypeVar("T")

HELP = {"-h", "--help"}
WIDTH = 80  # of what --help says, whatever the terminal is: what is piped or quoted reads the same everywhere
UNWRAPPED = 10_000  # columns for a mistake, which is read back from tyro's box

# tyro's messages: the frame around them, where its advice begins, a flag in one of its lists (whose help is indented
# further), and the words that Python's own parser of arguments has for the same mistakes.
FRAME = re.compile("[╭╮╰╯─│]")
ADVICE = ("For full helptext", "Argument helptext")
LISTED = re.compile(" {6}\\S")
WORDS = (
    (r"Error parsing (\S+): (invalid (?:float|int) value: .*)", r"argument \1: \2"),
    (r"Error parsing (\S+): (.*: must be .*)", r"argument \1: \2"),
    (r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]", r"argument \1: invalid value: \2"),
    (r"invalid choice ('.*') for argument '(\S+)'\. Expected one of \((.*)\)\.",
     r"argument \2: invalid choice: \1 (choose from \3)"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values\.", r"argument \1: expected \2 value(s)"),
    (r"Unrecognized options: (.*)", r"unrecognized arguments: \1"),
)  # fmt: skip


def command(
    function: Callable[..., T], arguments: Sequence[str] | None, prog: str, *, about: str | None = None
) -> T:
    """Call `function` with command-line flags; bad input is one line on standard error and exit status 2.

    Args:
      arguments: those after the command's name; None takes them from the process.
      prog: how the command is called, for its help.
      about: what --help says before the flags; None takes the docstring up to its arguments.
    """
    # 0.1 s, which a command that parses nothing is spared, here and below
    from tyro.conf import FlagCreatePairsOff

    given = sys.argv[1:] if arguments is None else arguments
    text = _headline(function) if about is None else about
    with exit_on_bad_input():
        return parse(function, given, prog, about=text, markers=(FlagCreatePairsOff,))


def parse(
    function: Callable[..., T],
    arguments: Sequence[str],
    prog: str,
    *,
    about: str = "",
    markers: Sequence[Any] = (),
) -> T:
    """Call `function`, or build the dataclass, with `arguments` for its flags; --help prints them and exits with 0.

    Args:
      prog: how the command is called, for its help.
      about: what --help says before the flags, line by line as it stands.
      markers: tyro's, on all flags.

    Raises:
      BadInput: an unknown flag or a value of the wrong type.
    """
    import tyro  # 0.1 s, which a command that parses nothing is spared

    shown, messages = io.StringIO(), io.StringIO()
    width = WIDTH if HELP & set(arguments) else UNWRAPPED
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(messages), _columns(width):
            parsed: Any = tyro.cli(
                _with_ranges(function) if isinstance(function, type) else delayed(function),
                args=list(arguments),
                prog=prog,
                description="",
                config=markers,
                registry=_registry(),
            )
    except SystemExit as stop:
        if stop.code:
            raise BadInput(_one_line(messages.getvalue())) from None
        print(*([about.strip(), ""] if about else []), _narrow(shown.getvalue()), sep="\n")  # noqa: T201
        raise
    if not isinstance(function, type):
        return parsed()
    _check(parsed)
    return parsed


def delayed(function: Callable[..., T], *, finite: bool = False) -> Callable[..., Callable[[], T]]:
    """A function of the same arguments that only keeps them, for a call once all flags are understood.

    Args:
      finite: refuse NaN and infinities; otherwise the function does that itself.
    """
    # as in `parse`: tyro is loaded where flags are parsed
    from tyro.conf import arg

    @functools.wraps(function)
    def keep(*arguments: Any, **named: Any) -> Callable[[], T]:
        given = inspect.signature(function).bind(*arguments, **named).arguments
        bounds.check_flags(function, given, finite=finite)
        for value in given.values():
            _check(value)
        return functools.partial(function, *arguments, **named)

    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    for entry in signature.parameters.values():
        if entry.kind is entry.POSITIONAL_ONLY:
            hints[entry.name] = Annotated[hints[entry.name], arg(metavar=entry.name)]  # shown by its name
        elif entry.name in hints:
            hints[entry.name] = _said(hints[entry.name])
    keep.__annotations__ = hints
    keep.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            entry.replace(annotation=hints.get(entry.name, entry.annotation))
            for entry in signature.parameters.values()
        ]
    )
    del keep.__wrapped__  # tyro would look through to the annotations there
    return keep


def _check(value: Any) -> None:
    """Raises BadInput where a flag of a parsed dataclass is out of the range that its field declares."""
    if dataclasses.is_dataclass(value):
        bounds.check_flags(type(value), vars(value), finite=True)


def _with_ranges(kind: type[T]) -> type[T]:
    """A dataclass whose ranges are shown in --help."""
    if dataclasses.is_dataclass(kind):
        for part in kind.__mro__:
            for name, hint in vars(part).get("__annotations__", {}).items():
                part.__annotations__[name] = _said(hint)
    return kind


def _said(hint: Any) -> Any:
    """An annotation, and where it declares a range the words of --help beside the default."""
    from tyro.conf import arg  # as in `parse`

    base = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if isinstance(base, type):
        _with_ranges(base)
    allowed = bounds.allowed_in(hint)
    if allowed is None or len(hint.__metadata__) > 1:
        return hint
    return Annotated[hint, arg(help_behavior_hint=lambda default: f"(default: {default}; {allowed})")]


@contextlib.contextmanager
def _columns(width: int) -> Iterator[None]:
    """How wide tyro takes the terminal to be."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def pairs(texts: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """(NAME, VALUE) of every NAME=VALUE that was given with a flag.

    Raises:
      BadInput: a text of another form, or a name with two values.
    """
    result: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise BadInput(f"{flag} {printable(text)}: must be NAME=VALUE")
        if result.setdefault(name, value) != value:
            raise BadInput(
                f"{flag} {printable(name)}: given twice, as {printable(result[name])} and {printable(value)}"
            )
    return list(result.items())


def numbers(texts: Sequence[str], flag: str) -> dict[str, float]:
    """The same where values are numbers.

    Raises:
      BadInput: a text of another form, or a value that is no number.
    """
    values = {}
    for name, value in pairs(texts, flag):
        try:
            values[name] = parse_float(value)
        except ValueError:
            raise BadInput(
                f"{flag} {printable(name)}={printable(value)}: must be NAME=VALUE with a number"
            ) from None
    return values


def _headline(function: Callable[..., Any]) -> str:
    """A docstring up to its arguments, as wide as --help is."""
    text = (inspect.getdoc(function) or "").partition("\nArgs:")[0]
    return "\n\n".join(textwrap.fill(part, WIDTH) for part in text.strip().split("\n\n"))


def _narrow(help_text: str) -> str:
    """tyro's help with its first line, which says how the command is used, broken where it is too long."""
    usage, *flags = [line.rstrip() for line in help_text.splitlines()]
    return "\n".join([textwrap.fill(usage, WIDTH, subsequent_indent="  ", break_on_hyphens=False), *flags])


def _registry() -> "ConstructorRegistry":
    """tyro's rules, but numbers as people type them, paths that can exist, and `X | None` read as X: None is what a
    flag that is left out means, and nothing to type."""
    # as in `parse`
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()
    texts: dict[Any, tuple[str, Callable[[str], Any]]] = {
        int: ("INT", parse_int),
        float: ("FLOAT", parse_float),
        Path: ("PATH", names.path),
    }

    @registry.primitive_rule
    def from_text(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type not in texts:
            return None
        metavar, read = texts[info.type]
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: isinstance(value, int | float if info.type is float else info.type),
            str_from_instance=lambda value: [str(value)],
        )

    @registry.primitive_rule
    def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        kinds = typing.get_args(info.type)
        if (
            info.type_origin not in (typing.Union, types.UnionType)
            or len(kinds) != 2
            or kinds[1] is not type(None)
        ):
            return None
        inner = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
        if not isinstance(inner, PrimitiveConstructorSpec):
            return None  # what tyro cannot read, it says itself
        return dataclasses.replace(
            inner,
            is_instance=lambda value: value is None or inner.is_instance(value),
            str_from_instance=lambda value: ["none"] if value is None else inner.str_from_instance(value),
        )

    return registry


def _one_line(box: str) -> str:
    """The mistake that tyro draws in a box, in the words of Python's own parser of arguments."""
    inside = [FRAME.sub(" ", line).rstrip() for line in box.splitlines()]
    title, *lines = [line for line in inside if line.strip(" -")] or [""]
    told = list(itertools.takewhile(lambda line: not line.lstrip().startswith(ADVICE), lines))
    if title.strip() == "Required options":
        missing = [line.split()[0] for line in told if LISTED.match(line)]
        return f"the following arguments are required: {', '.join(missing)}"
    text, *advice = re.split("Perhaps you meant:|Arguments similar to", "\n".join(told))
    near = " or ".join(line.split()[0] for part in advice for line in part.splitlines() if LISTED.match(line))
    text = " ".join(text.split())
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    text = text.removeprefix("argument experiment: ")  # its own flags say their names
    text = re.sub(r"\S{121,}", lambda long: printable(long[0]), text)
    if title.strip() == "Unrecognized options":
        text = text.replace(", ", " ")
    return (text or "these arguments cannot be parsed") + (f"; perhaps {near}" if near else "")


def about(verb: Callable[..., object], page: str | None) -> str:
    """What a verb does, and its examples on the page that --help prints."""
    examples = [line for line in str(page).splitlines() if f"launch.py {verb.__name__} " in line]
    return "\n".join([str(verb.__doc__).splitlines()[0], "", *examples])
