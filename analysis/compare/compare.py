"""The comparison of two sides: frontiers, multiplier, trend, crossing, target, each with its interval."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from analysis.compare.draws import Draws, drawn, lack_of_fit
from analysis.compare.frontier import Frontier, Price, power_frontier, surface_frontier
from analysis.compare.hulls import HullFit, fit_hulls
from analysis.compare.powers import Floor, Powers, best
from analysis.compare.side import Axis, Side, luck_of
from core.errors import BadInput
from core.numbers import number

Shape = Literal["auto", "law", "hull"]
POINTS = 7  # shared losses
CURVE = 41
LEVEL = 0.95
LEAST_DEGREES = 3  # of freedom that a free floor leaves
MISFIT = 0.01  # p-value of lack of fit below which cells, not runs, are drawn
LITTLE_SHARED = 0.1  # of the smaller range of costs
FARTHEST = np.log(1e4)  # from the runs' costs, beyond which no crossing is named


@dataclasses.dataclass(frozen=True)
class Choices:
    """What is asked.

    Attributes:
      floor: one for both sides, one each, or `given`; source: where a given one comes from.
      target_loss, target_cost: (of A) where the multiplier is wanted; at most one of them.
      draws: behind intervals.
    """

    axis: Axis = "flops"
    metric: str = "val/loss"
    frontier: Shape = "auto"
    floor: Floor = "shared"
    given: float = 0.0
    source: str = ""
    target_loss: float | None = None
    target_cost: float | None = None
    level: float = LEVEL
    draws: int = 1000
    seed: int = 0


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
class Comparison:
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

    sides: tuple[Side, Side]
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


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """Both frontiers as functions of points (R, P), and the draws of the points."""

    how: str
    frontiers: Callable[[np.ndarray], tuple[Frontier, Frontier]]
    draws: Draws | HullFit
    powers: Powers | None
    warnings: tuple[str, ...]

    @property
    def point(self) -> np.ndarray:
        return self.draws.point[None]

    def estimate(self, quantity: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return quantity(self.point)[0]


def compare(a: Side, b: Side, choices: Choices = Choices()) -> Comparison:
    """Compare B with the baseline A.

    Raises:
      BadInput: a side of one cost, or no loss that both reach.
    """
    for side in (a, b):
        _refuse_one_cost(side, choices.axis)
    fitted = _fit(a, b, choices)
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
    return Comparison(
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


def _refuse_one_cost(side: Side, axis: Axis) -> None:
    if side.costs > 1:
        return
    of = "one size" if side.sizes == 1 else "one cost"
    raise BadInput(
        f"{side.label}: {side.cost.size} runs of {of} only ({axis} {number(float(side.cost[0]))}): a frontier over "
        f"{axis} takes at least 2 that differ"
    )


def _fit(a: Side, b: Side, choices: Choices) -> _Fitted:
    """The frontiers: a law of the cost, a law of size and data, or hulls."""
    ladders, surfaces = a.is_ladder and b.is_ladder, a.is_surface and b.is_surface
    if choices.frontier == "hull" or not (ladders or surfaces):
        if choices.frontier == "law":
            raise BadInput(
                "--frontier law: sizes and data sizes vary apart, and a law of both takes at least 3 of each on both "
                "sides; allowed is hull"
            )
        if choices.floor == "given":
            raise BadInput(f"--asymptote {choices.given:g}: a hull has none; allowed is --frontier law")
        hulls = fit_hulls(a, b, choices.draws, choices.seed)
        return _Fitted("hull", hulls.frontiers, hulls, None, hulls.warnings)
    side_N = np.repeat([0, 1], [a.cost.size, b.cost.size])
    if ladders:
        x_NK = np.log(np.concatenate([a.cost, b.cost]))[:, None]
    else:
        both = [(side.params, side.tokens) for side in (a, b)]
        x_NK = np.concatenate([np.log(np.stack(pair, axis=1)) for pair in both])  # type: ignore[arg-type]
    y_N = np.log(np.concatenate([a.loss, b.loss]))
    floor, given, warnings = choices.floor, choices.given, list[str]()
    powers = Powers.of(x_NK, y_N, side_N, floor, given)
    if floor != "given" and not _carries_floor(powers, a, b):
        powers = Powers.of(x_NK, y_N, side_N, "given", 0.0)
        warnings.append(
            "too few runs for a floor: both sides are straight in log cost and log loss, and nothing beyond their runs "
            "is known"
        )
    point = best(powers)
    luck = luck_of(a, b)
    cells = np.concatenate([a.cells, b.cells + a.cells.max() + 1])
    misfit = lack_of_fit(powers, point, cells)
    if misfit < MISFIT:
        luck = _joined(luck, cells)
        warnings.append(
            f"the law misses the means of repeated runs by more than their spread (F test, p = {misfit:.2g}): "
            "intervals rest on sizes, not on runs; --frontier hull takes no law"
        )
    draws = drawn(powers, point, luck, choices.draws, choices.seed)
    if ladders:
        return _Fitted(
            "law of the cost",
            lambda points: (power_frontier(powers, points, 0), power_frontier(powers, points, 1)),
            draws, powers, tuple(warnings),
        )  # fmt: skip
    frontiers = _surface(powers, a, b, choices.axis)
    return _Fitted("law of size and data", frontiers, draws, powers, tuple(warnings))


def _carries_floor(powers: Powers, a: Side, b: Side) -> bool:
    each = 2 if powers.floor == "shared" else FEWEST_OWN
    enough = max(a.costs, b.costs) >= FEWEST_OWN and min(a.costs, b.costs) >= each
    return enough and powers.y_N.size - powers.size >= LEAST_DEGREES


FEWEST_OWN = 3


def _joined(luck: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Runs that share luck or cell, directly or through others, under one number."""
    label = cells.copy()
    for _ in range(label.size):
        before = label.copy()
        for group in (luck, cells):
            least = np.full(int(group.max()) + 1, label.max() + 1)
            np.minimum.at(least, group, label)
            label = least[group]
        if (label == before).all():
            break
    return np.unique(label, return_inverse=True)[1]


def _surface(powers: Powers, a: Side, b: Side, axis: Axis) -> Callable[[np.ndarray], tuple[Frontier, Frontier]]:
    if axis in ("tokens", "params"):
        k = 0 if axis == "params" else 1
        held = [float(np.log(side.tokens if k == 0 else side.params).max()) for side in (a, b)]  # type: ignore[arg-type]
        return lambda points: (
            power_frontier(powers, points, 0, k, held[0]),
            power_frontier(powers, points, 1, k, held[1]),
        )
    prices = [Price.of(np.log(side.params), np.log(side.cost / side.tokens)) for side in (a, b)]  # type: ignore[arg-type, operator]
    return lambda points: (
        surface_frontier(powers, points, 0, prices[0])[0],
        surface_frontier(powers, points, 1, prices[1])[0],
    )


def _shared(a: Side, b: Side, first: Frontier, second: Frontier) -> tuple[float, float]:
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


def _floors(fitted: _Fitted, choices: Choices) -> tuple[dict[str, Value], list[str]]:
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


def _target(fitted: _Fitted, choices: Choices, a: Side) -> tuple[dict[str, Any] | None, list[str]]:
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


def _crossing(fitted: _Fitted, choices: Choices, a: Side, b: Side) -> tuple[float, Value] | None:
    """The loss and A's cost where both sides cost the same, and the interval of that cost."""
    every = np.log(np.concatenate([a.cost, b.cost]))
    reach = FARTHEST if fitted.powers is not None else 0.0
    low, high = (max if reach == 0 else min)(np.log(a.cost).min(), np.log(b.cost).min()), every.max()
    grid = np.linspace(low - reach, high + reach, 401)

    def crossing(points: np.ndarray) -> np.ndarray:
        own, other = fitted.frontiers(points)
        gap = own.loss_at(grid[None]) - other.loss_at(grid[None])
        return _nearest_root(grid, gap, float(every.mean()))[:, None]

    found = float(fitted.estimate(crossing)[0])
    if not np.isfinite(found):
        return None
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
    first: Frontier,
    second: Frontier,
    a: Side,
    b: Side,
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


def _parameters(fitted: _Fitted) -> dict[str, Any]:
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
