"""Which numbers a field or a flag may hold, and why: said once, where it is declared.

    learning_rate: Annotated[float, Allowed(1e-9, 1e9, "a smaller step rounds to nothing in float32")] = 3e-3

The declaration refuses a value (`check`) and stands in --help (core/cli.py).
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import BadInput
from core.reading import shown

INT32 = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A closed range of numbers.

    Attributes:
      least, most: its ends.
      why: what goes wrong outside of it.
      zero: what 0 stands for where it is below `least` and allowed all the same.
    """

    least: float
    most: float
    why: str = ""
    zero: str = ""

    def problem(self, value: float) -> str:
        """What is wrong with a value, `must be ...`; empty where it is in the range."""
        if self.least <= value <= self.most or (self.zero and value == 0):
            return ""
        instead = f", or 0 for {self.zero}" if self.zero else ""
        if isinstance(value, int):
            told = f"at most {int(self.most)}" if value > self.most else f"at least {int(self.least)}{instead}"
        elif value < self.least == 0:
            told = f"not be negative, at most {self.most:.9g}"
        elif value != value or value <= 0 < self.least:
            told = f"positive{instead}, {self.least:.9g} to {self.most:.9g}"
        elif math.isinf(value):
            told = f"finite, {self.least:.9g} to {self.most:.9g}"
        else:
            told = f"between {self.least:.9g} and {self.most:.9g}{instead}"
        must = "must" if told.startswith("not") else "must be"
        return f"{must} {told}{f' ({self.why})' if self.why else ''}"

    def __str__(self) -> str:
        """The range for --help."""
        span = f"{self.least:.9g} to {self.most:.9g}"
        return f"{span}, 0 for {self.zero}" if self.zero else span


class _Finite(Allowed):
    """All numbers but NaN and infinities."""

    def problem(self, value: float) -> str:
        return "" if isinstance(value, int) or math.isfinite(value) else "must be a finite number"


FINITE = _Finite(-math.inf, math.inf)


def check(value: Any, prefix: str = "") -> None:
    """Raises BadInput where a field of a dataclass is out of its range; `prefix` stands before the field's name."""
    declared: Any = type(value)
    for name, allowed in ranges(declared).items():
        refuse(f"{prefix}{name}", getattr(value, name), allowed)


def refuse(key: str, value: Any, allowed: Allowed) -> None:
    """Raises BadInput where a number, or one of several, is out of the range; what is no number is let through."""
    for number in value if isinstance(value, tuple | list) else (value,):
        if isinstance(number, int | float) and (problem := allowed.problem(number)):
            raise BadInput(f"{key}={shown(number)}: {problem}")


@functools.cache
def ranges(declared: Any) -> dict[str, Allowed]:
    """The ranges that a dataclass declares for its fields, or a function for its arguments."""
    hints = typing.get_type_hints(declared, include_extras=True)
    found = {name: allowed_in(hint) for name, hint in hints.items()}
    return {name: allowed for name, allowed in found.items() if allowed is not None}


def allowed_in(hint: Any) -> Allowed | None:
    """The range that an annotation declares."""
    more = getattr(hint, "__metadata__", ())
    return next((item for item in more if isinstance(item, Allowed)), None)


def check_flags(declared: type | Callable[..., Any], given: Mapping[str, Any], *, finite: bool) -> None:
    """Raises BadInput where a flag of a function or a dataclass is out of its range; with `finite` also where one
    without a range is NaN or infinite."""
    declared_ranges = ranges(declared)
    for name, value in given.items():
        allowed = declared_ranges.get(name, FINITE if finite else None)
        if allowed is not None:
            refuse(f"--{name.replace('_', '-')}", value, allowed)
