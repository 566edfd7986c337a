"""Is a parameter identified by the table? A criterion in numbers, stated so that it can be disagreed with.

A parameter is identified if the table bounds it on both sides and says what it is to within itself:

  its interval has two finite ends, and neither lies at a bound of the law (a profile that never rises to its threshold
  ends there);
  the interval of an exponent, of a floor or of a scale is at most as wide as the value in it, as 0.3 to 0.5 is about
  0.4 and 0.1 to 0.7 is not, and its ends are within a factor 10 of each other, so that it excludes 0;
  the ends of a coefficient's or of a break's interval lie within a factor 100 of each other: a coefficient is the value
  of its term at N = 1 or D = 1, far outside of every table, where the error of its exponent is multiplied.

A law is identified if all its parameters are. From one that is not, no best size and no forecast is stated.
"""

import dataclasses
import math
from collections.abc import Mapping

from analysis.laws.base import Law, Parameter
from core.numbers import number

WIDEST = 1.0  # of an interval, over the value in it
WIDEST_RATIO = 10.0  # of its ends
WIDEST_RATIO_OF_COEFFICIENT = 100.0
NOTHING = 1e-9  # a floor or a scale below this is at its lower bound, which stands for 0
WORDS = (
    "identified: the interval has two ends clear of the law's bounds, is at most as wide as the value, and its ends "
    f"are within a factor {WIDEST_RATIO:.0f} of each other (a coefficient's within {WIDEST_RATIO_OF_COEFFICIENT:.0f})"
)


def identified(
    law: Law,
    parameters: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    at_bound: tuple[str, ...],
    fixed: tuple[str, ...],
) -> dict[str, bool]:
    """Verdict per parameter."""
    return {
        parameter.name: parameter.name in fixed
        or (
            parameter.name not in at_bound
            and _bounded(
                parameter_of(law, parameter.name),
                law.logarithmic,
                parameters[parameter.name],
                *intervals[parameter.name],
            )
        )
        for parameter in law.parameters
    }


def known_to_within_itself(value: float | None, interval: tuple[float, float] | None) -> bool:
    """What `identified` asks of the interval of an exponent."""
    if value is None or interval is None or not all(map(math.isfinite, (value, *interval))):
        return False
    low, high = interval
    near, far = sorted(map(abs, (low, high)))
    return low * high > 0 and far <= WIDEST_RATIO * near and high - low <= WIDEST * abs(value)


def where_it_ended(law: Law, name: str, value: float, interval: tuple[float, float]) -> str:
    """Why a parameter is not identified, in a few words."""
    parameter = parameter_of(law, name)
    lower, upper = bounds(parameter)
    if _near(parameter, value, lower):
        return "at its lower bound"
    if _near(parameter, value, upper):
        return "at its upper bound"
    low, high = interval
    if not all(map(math.isfinite, interval)):
        return "no finite interval"
    ends = [
        word
        for end, bound, word in ((low, lower, "lower"), (high, upper, "upper"))
        if _near(parameter, end, bound)
    ]
    if ends:
        return f"its interval reaches the {' and the '.join(ends)} bound"
    if low <= 0 <= high and not parameter.positive:
        return "its interval holds 0"
    return "its interval is too wide"


def said(law: Law, name: str, value: float, digits: int = 3) -> str:
    """A value of a parameter as a number, or the bound that it lies at."""
    lower, upper = bounds(parameter_of(law, name))
    for bound, words in ((lower, "at its lower bound"), (upper, "at its upper bound")):
        if _near(parameter_of(law, name), value, bound):
            return words
    return number(value, digits)


def said_interval(law: Law, name: str, interval: tuple[float, float], digits: int = 3) -> str:
    """An interval of a parameter; an end that is a bound is called that."""
    if not all(map(math.isfinite, interval)):
        return "no finite interval"
    low, high = (said(law, name, end, digits).replace("at its", "its") for end in interval)
    return low if low == high else f"{low} to {high}"


def parameter_of(law: Law, name: str) -> Parameter:
    """A parameter of a law; the floor of a law whose target may be negative is a number of either sign."""
    parameter = law.parameters[law.index(name)]
    if not law.shift or name != law.floor:
        return parameter
    return dataclasses.replace(parameter, positive=False, lower=-law.shift, upper=law.shift)


def bounds(parameter: Parameter) -> tuple[float, float]:
    """Natural bounds."""
    ends = (parameter.lower, parameter.upper)
    return (math.exp(ends[0]), math.exp(ends[1])) if parameter.positive else ends


def _near(parameter: Parameter, value: float, bound: float) -> bool:
    """Whether a value lies on a bound, up to rounding; of a positive parameter on the scale of its logarithm."""
    if not math.isfinite(value):
        return False
    margin = 1e-6 * (parameter.upper - parameter.lower)
    if parameter.positive and not (parameter.slopes or parameter.axis) and bound < NOTHING:
        return value < NOTHING
    if parameter.positive:
        return value <= 0 or abs(math.log(value) - math.log(bound)) <= margin
    return abs(value - bound) <= margin


def _bounded(parameter: Parameter, logarithmic: bool, value: float, low: float, high: float) -> bool:
    if not all(map(math.isfinite, (low, high))):  # no interval could be given
        return False
    if any(_near(parameter, end, bound) for end, bound in zip((low, high), bounds(parameter), strict=True)):
        return False
    if parameter.positive and (parameter.slopes or parameter.axis or not logarithmic):
        return low > 0 and high / low <= WIDEST_RATIO_OF_COEFFICIENT
    if not parameter.positive and parameter.lower < 0:  # a number of either sign: 0 is a value like any other
        return high - low <= WIDEST or high - low <= WIDEST * abs(value)
    return known_to_within_itself(value, (low, high))
