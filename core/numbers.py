"""Numbers as a table, a report or a message says them."""

import math
from collections.abc import Sequence

COUNTS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3))
BYTES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def short_count(count: float) -> str:
    """At most 3 significant digits with k, M, B or T: 1000 -> 1k, 1048576 -> 1.05M."""
    for unit, size in COUNTS:
        if 0.9995 * size <= count < 1e15:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def short_bytes(count: float) -> str:
    """At most 3 significant digits with a binary unit, as the memory of a device is sold: 1610612736 -> 1.5 GiB."""
    for unit, size in BYTES:
        if count >= size * 999.5 / 1024:  # from there on the smaller unit needs a fourth digit
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def finite(value: object) -> float | None:
    """`value` if it is a finite number, as JSON has them; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond the largest float
        return None


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, without an exponent where none is needed."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:.{digits}g}" if not 1000 <= abs(value) < 1e6 else f"{value:.0f}"


def percent(share: float) -> str:
    """Two significant digits, whole numbers from 10% on."""
    return f"{100 * share:.0f}%" if abs(share) >= 0.1 else f"{100 * share:.2g}%"


def span(interval: Sequence[float], digits: int = 3) -> str:
    """`low to high`, or that there is no interval."""
    if not all(map(math.isfinite, interval)):
        return "no finite interval"
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"
