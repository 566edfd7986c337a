"""A comparison in sentences that stand by themselves."""

import numpy as np

from analysis.compare.compare import RecipeComparison, Value
from analysis.compare.side import Axis
from core.numbers import number, short_count

COST = {"flops": "compute", "tokens": "data", "seconds": "training time", "params": "parameters"}
LESS = {"flops": "less", "tokens": "less", "seconds": "less", "params": "fewer"}
WRONG_BY = 0.005  # slopes nearer to zero than this, with their interval, are said to be flat


def sentence(found: RecipeComparison) -> str:
    """The answer: which side is cheaper, by how much, and whether that changes with scale."""
    return f"{headline(found)}; {trend(found)}."


def headline(found: RecipeComparison) -> str:
    """The multiplier, over the losses that both sides reach."""
    axis, value = found.choices.axis, found.overall
    a, b = (side.label for side in found.sides)
    if value.interval is not None and not value.excludes(1.0):
        less = value.value >= 1
        shown, way = (value, LESS[axis]) if less else (_inverse(value), "more")
        return f"{b} and {a} cannot be told apart: at equal loss {b} takes {bracketed(shown)} times {way} {COST[axis]}"
    noun = _noun(found)
    if value.value >= 1:
        return f"{b} reaches {a}'s {noun} with {bracketed(value)} times {LESS[axis]} {COST[axis]}"
    return f"{b} needs {bracketed(_inverse(value))} times more {COST[axis]} to reach {a}'s {noun}"


def _noun(found: RecipeComparison) -> str:
    return {"val/loss": "loss", "val/bits_per_byte": "bits per byte"}.get(
        found.choices.metric, found.choices.metric
    )


def trend(found: RecipeComparison) -> str:
    """Whether the multiplier grows or shrinks with cost."""
    slope, better = found.slope, found.overall.value >= 1
    ends = "" if slope.interval is None else f" [{slope.interval[0]:+.2f}, {slope.interval[1]:+.2f}]"
    said = f"(slope {slope.value:+.2f}{ends} of its logarithm a factor of ten in {COST[found.choices.axis]})"
    known = found.overall.interval is None or found.overall.excludes(1.0)
    what = "the multiplier" if not known else "the gain" if better else "the loss of it"
    if slope.interval is None:
        return f"{what} {_direction(slope.value, better or not known)} with scale {said}, without an interval"
    if not slope.excludes(0.0):
        return f"whether {what} changes with scale is not told {said}"
    return f"{what} {_direction(slope.value, better or not known)} with scale {said}"


def _direction(slope: float, better: bool) -> str:
    return "grows" if (slope > 0) == better else "shrinks"


def crossing(found: RecipeComparison) -> str:
    """Where both cost the same; empty where there is no such cost."""
    if found.crossing is None:
        return ""
    loss, cost = found.crossing
    every = np.concatenate([side.cost for side in found.sides])
    beyond = not every.min() <= cost.value <= every.max()
    a, b = (side.label for side in found.sides)
    where = ", beyond the runs: a forecast" if beyond else ""
    ahead = (a, b) if found.slope.value > 0 else (b, a)
    return (
        f"The curves cross at {amount(found.choices.axis, cost)} (loss {number(loss, 4)}{where}): below it {ahead[0]} "
        f"is cheaper, above it {ahead[1]}."
    )


def target(found: RecipeComparison) -> str:
    """The multiplier where it was asked for; empty where it was not."""
    if found.target is None:
        return ""
    one = found.target
    ends = one["interval"]
    low, high = (np.inf if end is None else float(end) for end in ends or (None, None))
    told = bracketed(Value(one["value"], None if ends is None else (low, high)))
    own, other = (amount(found.choices.axis, Value(cost)) for cost in one["cost"])
    beyond = " (beyond the runs)" if one["extrapolated"] else ""
    return (
        f"At loss {number(one['loss'], 4)}{beyond} the multiplier is {told}: {own} for {found.sides[0].label}, {other} "
        f"for {found.sides[1].label}."
    )


def floor(found: RecipeComparison) -> str:
    """The floor that the frontiers run to."""
    if not found.floors:
        return "" if found.how == "hull" else "No floor is fitted."
    how = {
        "shared": "one for both sides, fitted",
        "own": "one a side",
        "given": f"held, from {found.choices.source}",
    }
    told = ", ".join(
        f"{'' if name == 'both' else found.sides['AB'.index(name)].label + ' '}{bracketed(value, 4)}"
        for name, value in found.floors.items()
    )
    return f"Floor ({how[found.choices.floor]}): {told}."


def bracketed(value: Value, digits: int = 3) -> str:
    """`1.31 [1.22, 1.41]`; the value alone where it has no interval."""
    if value.interval is None:
        return _digits(value.value, digits)
    low, high = (_digits(end, digits) if np.isfinite(end) else "any" for end in value.interval)
    return f"{_digits(value.value, digits)} [{low}, {high}]"


def _digits(value: float, digits: int) -> str:
    """Significant digits, zeros at the end kept: 1.30 says more than 1.3."""
    return (
        f"{value:#.{digits}g}".rstrip(".") if 1e-3 < abs(value) < 10 ** (digits + 1) else number(value, digits)
    )


def amount(axis: Axis, cost: Value) -> str:
    """A cost with its unit."""
    say = short_count if axis in ("tokens", "params") else lambda one: f"{one:.3g}"
    unit = {"flops": "FLOPs", "tokens": "tokens", "seconds": "s", "params": "parameters"}[axis]
    if cost.interval is None:
        return f"{say(cost.value)} {unit}"
    low, high = (say(end) if np.isfinite(end) else "any" for end in cost.interval)
    return f"{say(cost.value)} [{low}, {high}] {unit}"


def _inverse(value: Value) -> Value:
    with np.errstate(divide="ignore"):
        ends = (
            None
            if value.interval is None
            else tuple(float(1 / np.float64(end)) for end in reversed(value.interval))
        )
    return Value(1 / value.value, ends)  # type: ignore[arg-type]


def described(found: RecipeComparison) -> list[str]:
    """What the command prints, a line each."""
    axis = found.choices.axis
    lines = [sentence(found)]
    lines += [
        f"  at loss {number(float(loss), 4)} ({found.sides[0].label}: {amount(axis, Value(float(cost)))}): "
        f"{bracketed(value)}"
        for loss, cost, value in zip(found.losses, found.costs, found.multipliers, strict=True)
    ]
    lines += [f"  {line}" for line in (crossing(found), target(found), floor(found)) if line]
    runs = " and ".join(f"{side.cost.size} runs of {side.label}" for side in found.sides)
    return [
        *lines,
        f"  frontiers: {found.how}, {runs}",
        *(f"  warning: {warning}" for warning in found.warnings),
    ]
