"""Numbers as people type them, and as a table, a report or a message says them."""

import decimal
import math
import re
from collections.abc import Sequence

from core.reading import shown

COUNTS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3))
TYPED = re.compile(r"([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,6})?)([kMBT]?)", re.ASCII)
BYTES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def short_count(count: float) -> str:
    """At most 3 significant digits with k, M, B or T: 1000 -> 1k, 1048576 -> 1.05M."""
    for unit, size in COUNTS:
        if 0.9995 * size <= count < 1e15:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def parse_float(text: str) -> float:
    """A number as people type one: 0.1, 1e9, 1_000, 100k, 1.3M, 10B; also nan and inf, to be refused by name.

    Raises:
      ValueError: it is none; the message says so.
    """
    value = _typed(text)
    if value is not None:
        return float(value)
    if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(text)
    raise ValueError(f"invalid float value: {shown(text)}")


def parse_int(text: str) -> int:
    """A whole number as people type one: 1000, 1e9, 1_000, 100k, 1.3M.

    Raises:
      ValueError: it is none; the message says so.
    """
    value = _typed(text)
    if value is None or value.adjusted() > 400 or value != value.to_integral_value():
        raise ValueError(f"invalid int value: {shown(text)}")
    return int(value)


def _typed(text: str) -> decimal.Decimal | None:
    match = TYPED.fullmatch(text.strip())
    if match is None or len(text) > 400:
        return None
    with decimal.localcontext(prec=500):  # no digit of a whole number is lost
        return decimal.Decimal(match[1].replace("_", "")) * int(dict(COUNTS).get(match[2], 1))


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
