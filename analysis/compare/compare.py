"""The comparison of two sides: frontiers, multiplier, trend, crossing, target, each with its interval."""

import dataclasses
from typing import Any

import numpy as np

from analysis.compare.fitted import Choices, FittedSides, fit_sides
from analysis.compare.frontier import CostFrontier
from analysis.compare.side import Axis, RecipeRuns
from core.errors import BadInput
from core.numbers import number

POINTS = 7  # shared losses
CURVE = 41
LITTLE_SHARED = 0.1  # of the smaller range of costs
FARTHEST = np.log(1e4)  # from the runs' costs, beyond which no crossing is named


@dataclasses.dataclass(frozen=True)
class Value:
    """A number and its interval; None where there is none. In a multiplier, 0 and infinity are possible ends."""

    value: float
    interval: tuple[float, float] | None = None

    def excludes(self, other: float) -> bool:
        return self.interval is not None and not self.interval[0] <= other <= self.interval[1]

    def to_json(self) -> dict[str, Any]:
        ends = None if self.interval is None else [_finite(end) for end in self.interval]
        return {"value": _finite(self.value), "interval": ends}


def _finite(value: float) -> float | None:
    """What JSON can hold: None for what is not finite."""
    return float(value) if np.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class RecipeComparison:
    """Of A, the baseline, and B.

    Attributes:
      losses: shared, from the largest to the smallest, and `multipliers` at them; costs: of A there.
      overall: the geometric mean over the shared range of costs.
      slope: of log10 of the multiplier over log10 of A's cost.
      crossing: the loss where both cost the same, and A's cost there; None where there is none, or where it is not told
        whether the multiplier changes with cost.
      floors: of A and of B, {} where frontiers have none.
      target: where one was asked for: loss, costs of both, multiplier.
      curves: for figures: log costs and log losses of both frontiers, and the multiplier with its ends.
    """

    sides: tuple[RecipeRuns, RecipeRuns]
    choices: Choices
    how: str
    losses: np.ndarray
    costs: np.ndarray
    multipliers: tuple[Value, ...]
    overall: Value
    slope: Value
    crossing: tuple[float, Value] | None
    floors: dict[str, Value]
    target: dict[str, Any] | None
    curves: dict[str, np.ndarray]
    parameters: dict[str, Any]
    warnings: tuple[str, ...]


def compare(a: RecipeRuns, b: RecipeRuns, choices: Choices = Choices()) -> RecipeComparison:  # noqa: B008 (frozen)
    """Compare B with the baseline A.

    Raises:
      BadInput: a side of one cost, or no loss that both reach.
    """
    for side in (a, b):
        _refuse_one_cost(side, choices.axis)
    fitted = fit_sides(a, b, choices)
    first, second = fitted.frontiers(fitted.point)
    low, high = _shared(a, b, first, second)
    # Evenly over A's costs, so that no part of the range is shown more closely than another.
    ends = first.cost_at(np.array([[high, low]]))[0]
    costs = np.linspace(ends[0], ends[1], POINTS)
    losses = first.loss_at(costs[None])[0]
    fine = first.loss_at(np.linspace(ends[0], ends[1], CURVE)[None])[0]

    def multiplier(points: np.ndarray, at: np.ndarray = losses) -> np.ndarray:
        """Log multiplier at given losses."""
        own, other = fitted.frontiers(points)
        with np.errstate(invalid="ignore"):
            return own.cost_at(at[None]) - other.cost_at(at[None])

    def summary(points: np.ndarray) -> np.ndarray:
        """The mean of the log multiplier over the shared costs, and its slope over them."""
        values, spaced = multiplier(points), costs - costs.mean()
        return np.stack([values.mean(axis=1), values @ spaced / (spaced @ spaced)], axis=1)

    both = fitted.estimate(summary), fitted.draws.interval(summary, choices.level)
    overall, slope = (_value(both, place) for place in (0, 1))
    shown = fitted.estimate(multiplier), fitted.draws.interval(multiplier, choices.level)
    curve = fitted.estimate(lambda points: multiplier(points, fine))
    band = fitted.draws.interval(lambda points: multiplier(points, fine), choices.level)
    floors, floor_warnings = _floors(fitted, choices)
    target, target_warnings = _target(fitted, choices, a)
    little = (ends[1] - ends[0]) / min(np.ptp(np.log(a.cost)), np.ptp(np.log(b.cost)))
    warnings = [*fitted.warnings, *floor_warnings, *target_warnings]
    if little < LITTLE_SHARED:
        warnings.append(
            f"both sides reach only the losses from {number(np.exp(high), 4)} to {number(np.exp(low), 4)}, "
            f"{little:.0%} of the range of costs: the comparison rests on few runs"
        )
    if both[1] is None:
        warnings.append("no intervals: there are as many parameters as runs; repeat seeds or add sizes")
    return RecipeComparison(
        sides=(a, b),
        choices=choices,
        how=fitted.how,
        losses=np.exp(losses),
        costs=np.exp(costs),
        multipliers=tuple(_exponential(_value(shown, place)) for place in range(POINTS)),
        overall=_exponential(overall),
        slope=slope,
        crossing=_crossing(fitted, choices, a, b) if slope.interval is None or slope.excludes(0.0) else None,
        floors=floors,
        target=target,
        curves=_curves(first, second, a, b, fine, curve, band),
        parameters=_parameters(fitted),
        warnings=tuple(warnings),
    )


def _refuse_one_cost(side: RecipeRuns, axis: Axis) -> None:
    if side.costs > 1:
        return
    of = "one size" if side.sizes == 1 else "one cost"
    raise BadInput(
        f"{side.label}: {side.cost.size} runs of {of} only ({axis} {number(float(side.cost[0]))}): a frontier over "
        f"{axis} takes at least 2 that differ"
    )


def _shared(a: RecipeRuns, b: RecipeRuns, first: CostFrontier, second: CostFrontier) -> tuple[float, float]:
    """The least and the largest log loss that both frontiers reach within their runs' costs."""
    ends = []
    for side, frontier in ((a, first), (b, second)):
        span = np.log([side.cost.min(), side.cost.max()])
        ends.append(frontier.ends(span))
    low, high = max(end[1] for end in ends), min(end[0] for end in ends)
    if not low < high:
        said = " and ".join(
            f"{side.label} from {number(np.exp(end[0]), 4)} to {number(np.exp(end[1]), 4)}"
            for side, end in zip((a, b), ends, strict=True)
        )
        raise BadInput(f"no loss is reached by both sides: {said}; runs of overlapping losses are needed")
    return float(low), float(high)


def _value(both: tuple[np.ndarray, np.ndarray | None], place: int) -> Value:
    estimate, ends = both
    return Value(
        float(estimate[place]), None if ends is None else (float(ends[0, place]), float(ends[1, place]))
    )


def _exponential(logs: Value) -> Value:
    with np.errstate(over="ignore"):
        ends = None if logs.interval is None else tuple(float(np.exp(end)) for end in logs.interval)
        return Value(float(np.exp(logs.value)), ends)  # type: ignore[arg-type]


def _floors(fitted: FittedSides, choices: Choices) -> tuple[dict[str, Value], list[str]]:
    powers = fitted.powers
    if powers is None or (powers.floor == "given" and choices.floor != "given"):
        return {}, []
    if powers.floor == "given":
        return {"both": Value(powers.given)}, []

    def floors(points: np.ndarray) -> np.ndarray:
        return points[:, : powers.floors]

    both = fitted.estimate(floors), fitted.draws.interval(floors, choices.level)
    found = {
        name: _value(both, place) for place, name in enumerate(("both",) if powers.floors == 1 else ("A", "B"))
    }
    unknown = [one for one in found.values() if one.interval is None or one.interval[0] <= 0]
    if not unknown:
        return found, []
    return found, [
        "the floor is not identified (its interval holds zero): what lies beyond the runs' losses rests on it"
    ]


def _target(fitted: FittedSides, choices: Choices, a: RecipeRuns) -> tuple[dict[str, Any] | None, list[str]]:
    """The multiplier at a loss, or at the loss that a cost of A buys."""
    if choices.target_loss is None and choices.target_cost is None:
        return None, []

    def at(points: np.ndarray) -> np.ndarray:
        own, other = fitted.frontiers(points)
        if choices.target_loss is not None:
            loss = np.full((points.shape[0], 1), np.log(choices.target_loss))
        else:
            assert choices.target_cost is not None
            loss = own.loss_at(np.full((1, 1), np.log(choices.target_cost)))
        with np.errstate(invalid="ignore"):
            costs = own.cost_at(loss), other.cost_at(loss)
            return np.concatenate([costs[0] - costs[1], *costs, loss], axis=1)

    both = fitted.estimate(at), fitted.draws.interval(at, choices.level)
    multiplier, cost_a, cost_b, loss = (_exponential(_value(both, place)) for place in range(4))
    asked = "--target-loss" if choices.target_loss is not None else "--target"
    given = choices.target_loss if choices.target_loss is not None else choices.target_cost
    if not np.isfinite(multiplier.value):
        raise BadInput(
            f"{asked} {given:g}: " + (
                "hulls end where the runs do; allowed is --frontier law" if fitted.powers is None
                else "at least one side does not reach it at any cost (its floor lies above)"
            )
        )  # fmt: skip
    reach = max(cost_a.value / float(a.cost.max()), cost_b.value / float(a.cost.max()))
    beyond = reach > 1 + 1e-9
    found = {
        "loss": loss.value,
        "cost": [cost_a.value, cost_b.value],
        **multiplier.to_json(),
        "extrapolated": beyond,
    }
    if not beyond:
        return found, []
    return found, [
        f"{asked} {given:g} lies {number(reach, 2)} times beyond the largest cost of the runs: a forecast, as good as "
        "the law is there"
    ]


def _crossing(
    fitted: FittedSides, choices: Choices, a: RecipeRuns, b: RecipeRuns
) -> tuple[float, Value] | None:
    """The loss and A's cost where both sides cost the same, and the interval of that cost."""
    every = np.log(np.concatenate([a.cost, b.cost]))
    reach = FARTHEST if fitted.powers is not None else 0.0
    low, high = (max if reach == 0 else min)(np.log(a.cost).min(), np.log(b.cost).min()), every.max()
    grid = np.linspace(low - reach, high + reach, 401)

    def crossing(points: np.ndarray) -> np.ndarray:
        own, other = fitted.frontiers(points)
        gap = own.loss_at(grid[None]) - other.loss_at(grid[None])
        roots = _nearest_root(grid, gap, float(every.mean()))[:, None]
        return np.where(np.isnan(roots), never, roots)

    never = np.nan
    found = float(fitted.estimate(crossing)[0])
    if not np.isfinite(found):
        return None
    # A draw that does not cross within reach crosses beyond it, on the side where the crossing is.
    never = np.inf if found > every.mean() else -np.inf
    ends = fitted.draws.interval(crossing, choices.level)
    first, _ = fitted.frontiers(fitted.point)
    loss = float(np.exp(first.loss_at(np.array([[found]]))[0, 0]))
    return loss, _exponential(Value(found, None if ends is None else (float(ends[0, 0]), float(ends[1, 0]))))


def _nearest_root(grid_G: np.ndarray, gap_RG: np.ndarray, near: float) -> np.ndarray:
    """(R,) where each row changes its sign, nearest to `near`; NaN where it does not."""
    found = np.full(gap_RG.shape[0], np.nan)
    with np.errstate(invalid="ignore"):
        changes = gap_RG[:, :-1] * gap_RG[:, 1:] < 0
    for row in np.flatnonzero(changes.any(axis=1)):
        places = np.flatnonzero(changes[row])
        low, high = gap_RG[row, places], gap_RG[row, places + 1]
        roots = grid_G[places] + (grid_G[places + 1] - grid_G[places]) * low / (low - high)
        found[row] = roots[np.argmin(np.abs(roots - near))]
    return found


def _curves(
    first: CostFrontier,
    second: CostFrontier,
    a: RecipeRuns,
    b: RecipeRuns,
    fine: np.ndarray,
    curve: np.ndarray,
    band: np.ndarray | None,
) -> dict[str, np.ndarray]:
    found = {"loss": np.exp(fine), "multiplier": np.exp(curve)}
    if band is not None:
        with np.errstate(over="ignore"):
            found["low"], found["high"] = np.exp(band)
    for name, side, frontier in (("a", a, first), ("b", b, second)):
        costs = np.linspace(np.log(side.cost.min()), np.log(side.cost.max()), CURVE)
        found[f"{name}_cost"], found[f"{name}_loss"] = np.exp(costs), np.exp(frontier.loss_at(costs[None])[0])
    return found


def _parameters(fitted: FittedSides) -> dict[str, Any]:
    """Of the law, for the result file: in units of the axis, or of parameters and tokens."""
    powers = fitted.powers
    if powers is None:
        return {}
    found: dict[str, Any] = {}
    names = (("A", "alpha"),) if powers.terms == 1 else (("A", "alpha"), ("B", "beta"))
    for side, label in enumerate(("a", "b")):
        own = {"E": float(powers.floor_of(fitted.point, side)[0])}
        for k, (coefficient, exponent) in enumerate(names):
            scale, alpha = (float(one[0]) for one in powers.term_of(fitted.point, side, k))
            with np.errstate(over="ignore"):
                own |= {coefficient: _finite(np.exp(scale + alpha * powers.centre_K[k])), exponent: alpha}  # type: ignore[dict-item]
        found[label] = own
    return found
