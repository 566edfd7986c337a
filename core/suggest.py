"""Refusing a name that does not exist, with the one that was probably meant."""

import difflib
from collections.abc import Iterable

from core.errors import BadInput


def unknown(what: str, given: str, allowed: Iterable[str]) -> BadInput:
    """`unknown experiment 'quikstart', did you mean quickstart? allowed are chinchilla, quickstart`, to be raised.

    Args:
      what: the kind of thing, or the flag that names it, which ends in =.
    """
    allowed = list(allowed)
    near = difflib.get_close_matches(given, allowed, n=1)
    named = f"{what}{given}" if what.endswith("=") else f"unknown {what} {given!r}"
    return BadInput(
        f"{named}{f', did you mean {near[0]}?' if near else ':'} allowed are {', '.join(allowed) or 'none'}"
    )
