"""Numbers as a report says them."""

from collections.abc import Sequence

import numpy as np


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, without an exponent where none is needed."""
    if not np.isfinite(value):
        return "unknown"
    return f"{value:.{digits}g}" if not 1000 <= abs(value) < 1e6 else f"{value:.0f}"


def percent(share: float) -> str:
    """Two significant digits, whole numbers from 10% on."""
    return f"{100 * share:.0f}%" if abs(share) >= 0.1 else f"{100 * share:.2g}%"


def span(interval: Sequence[float], digits: int = 3) -> str:
    """`low to high`, or that there is no interval."""
    if not np.isfinite(interval).all():
        return "no finite interval"
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"
