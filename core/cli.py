"""A function's typed arguments as command-line flags, whose mistakes are one line."""

import contextlib
import dataclasses
import functools
import io
import re
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import BadInput

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry

T = TypeVar("T")

HELP = {"-h", "--help"}
WIDTH = 80  # of the line that says how a command is used


def parse(function: Callable[..., T], arguments: Sequence[str], prog: str, *, about: str = "") -> T:
    """Call `function`, or build the dataclass, with `arguments` for its flags; --help prints them and exits with 0.

    Args:
      prog: how the command is called, for its help.
      about: what --help says before the flags, line by line as it stands.

    Raises:
      BadInput: an unknown flag or a value of the wrong type.
    """
    import tyro  # 0.1 s, which a command that parses nothing is spared

    shown, messages = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(messages):
            parsed: Any = tyro.cli(
                function if isinstance(function, type) else delayed(function),
                args=list(arguments),
                prog=prog,
                description="",
                registry=_registry(),
            )
    except SystemExit as stop:
        if stop.code:
            raise BadInput(_one_line(messages.getvalue())) from None
        print(*([about.strip(), ""] if about else []), _narrow(shown.getvalue()), sep="\n")  # noqa: T201
        raise
    return parsed if isinstance(function, type) else parsed()


def delayed(function: Callable[..., T]) -> Callable[..., Callable[[], T]]:
    """A function of the same arguments that only keeps them, for a call once all flags are understood."""

    @functools.wraps(function)
    def keep(*arguments: Any, **named: Any) -> Callable[[], T]:
        return functools.partial(function, *arguments, **named)

    return keep


def _narrow(help_text: str) -> str:
    """tyro's help with its first line, which says how the command is used, broken where it is too long."""
    usage, *flags = [line.rstrip() for line in help_text.splitlines()]
    return "\n".join([textwrap.fill(usage, WIDTH, subsequent_indent="  ", break_on_hyphens=False), *flags])


def _registry() -> "ConstructorRegistry":
    """tyro's rules, and `X | None` read as X: None is what a flag that is left out means, and nothing to type."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

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
    """The text of a message drawn in a box, without its heading and its footer."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines() if line.strip()]
    text = " ".join(line for line in lines[1:] if line.strip("-"))  # a rule is drawn of either character
    return (
        re.split("For full helptext|Argument helptext", text)[0].strip() or "these arguments cannot be parsed"
    )
