"""Refusing a name that does not exist, with the one that was probably meant."""

import difflib
from collections.abc import Iterable

from core.errors import BadInput
from core.reading import shown


def unknown(what: str, given: str, allowed: Iterable[str]) -> BadInput:
    """`unknown experiment 'quikstart', did you mean quickstart? allowed are chinchilla, quickstart`, to be raised.

    Args:
      what: the kind of thing, or the flag that names it, which ends in =.
    """
    named = f"{what}{given}" if what.endswith("=") else f"unknown {what} {shown(given)}"
    return BadInput(f"{named}{did_you_mean(given, allowed := list(allowed))} {', '.join(allowed) or 'none'}")


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`, did you mean quickstart? allowed are`, to be followed by the list; a dotted key is also known by its end."""
    keys = {end: name for name in allowed for end in (name.rpartition(".")[2], name)}
    near = difflib.get_close_matches(given, keys, n=1)
    return f", did you mean {keys[near[0]]}? allowed are" if near else ": allowed are"
