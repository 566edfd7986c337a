"""Is a parameter identified by the table? A verdict from its interval, stated so that it can be disagreed with."""

from collections.abc import Mapping

from analysis.laws.base import Law, Parameter

# A positive parameter known only to within two decades, or an exponent to within one, is not known.
WIDEST_RATIO = 100.0
WIDEST_EXPONENT = 1.0


def identified(
    law: Law, intervals: Mapping[str, tuple[float, float]], at_bound: tuple[str, ...], fixed: tuple[str, ...]
) -> dict[str, bool]:
    """Verdict per parameter: the interval is finite, clear of the bounds and not absurdly wide."""
    return {
        parameter.name: parameter.name in fixed
        or (parameter.name not in at_bound and _bounded(parameter, *_unsigned(law, parameter, intervals)))
        for parameter in law.parameters
    }


def _unsigned(
    law: Law, parameter: Parameter, intervals: Mapping[str, tuple[float, float]]
) -> tuple[float, float]:
    """An interval, above zero also for the floor of a law whose target may be negative."""
    low, high = intervals[parameter.name]
    return (low + law.shift, high + law.shift) if parameter.name == law.floor else (low, high)


def _bounded(parameter: Parameter, low: float, high: float) -> bool:
    if not (low == low and high == high):  # NaN: no interval could be given
        return False
    if parameter.positive:
        return low > 0 and high / low <= WIDEST_RATIO
    margin = 1e-6 * (parameter.upper - parameter.lower)
    inside = low > parameter.lower + margin and high < parameter.upper - margin
    return inside and (parameter.upper > 100 or high - low <= WIDEST_EXPONENT)
