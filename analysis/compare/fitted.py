"""The frontiers of both sides, fitted together: a law of the cost, a law of size and data, or hulls."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from analysis.compare.draws import JointDraws, drawn, lack_of_fit
from analysis.compare.frontier import CostFrontier, Price, power_frontier, surface_frontier
from analysis.compare.hulls import HullFit, fit_hulls
from analysis.compare.powers import Floor, Powers, best
from analysis.compare.side import Axis, RecipeRuns, luck_of
from core.errors import BadInput

Shape = Literal["auto", "law", "hull"]
LEVEL = 0.95
FEWEST_OWN = 3  # costs of a side that a floor of its own takes
LEAST_DEGREES = 3  # of freedom that a free floor leaves
MISFIT = 0.01  # p-value of lack of fit below which a law is not taken, or cells, not runs, are drawn


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

    @property
    def takes_hulls(self) -> bool:
        """Whether hulls may stand in for a law that does not fit: nothing that only a law has is asked for."""
        target = self.target_loss is not None or self.target_cost is not None
        return self.frontier == "auto" and self.floor == "shared" and not target


@dataclasses.dataclass(frozen=True)
class FittedSides:
    """Both frontiers as functions of points (R, P), and the draws of the points."""

    how: str
    frontiers: Callable[[np.ndarray], tuple[CostFrontier, CostFrontier]]
    draws: JointDraws | HullFit
    powers: Powers | None
    warnings: tuple[str, ...]

    @property
    def point(self) -> np.ndarray:
        return self.draws.point[None]

    def estimate(self, quantity: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return quantity(self.point)[0]


def fit_sides(a: RecipeRuns, b: RecipeRuns, choices: Choices) -> FittedSides:
    """Fit them.

    Raises:
      BadInput: a law or a floor is asked for that these runs do not carry.
    """
    return _remembering(_fitted(a, b, choices))


def _fitted(a: RecipeRuns, b: RecipeRuns, choices: Choices) -> FittedSides:
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
        return FittedSides("hull", hulls.frontiers, hulls, None, hulls.warnings)
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
        said = f"the law misses the means of repeated runs by more than their spread (F test, p = {misfit:.2g})"
        if choices.takes_hulls:
            hulls = fit_hulls(a, b, choices.draws, choices.seed)
            return FittedSides(
                "hull", hulls.frontiers, hulls, None, (f"{said}: hulls are compared", *hulls.warnings)
            )
        luck = _joined(luck, cells)
        warnings.append(f"{said}: intervals rest on sizes, not on runs")
    draws = drawn(powers, point, luck, choices.draws, choices.seed)
    if ladders:
        return FittedSides(
            "law of the cost",
            lambda points: (power_frontier(powers, points, 0), power_frontier(powers, points, 1)),
            draws, powers, tuple(warnings),
        )  # fmt: skip
    frontiers = _surface(powers, a, b, choices.axis)
    return FittedSides("law of size and data", frontiers, draws, powers, tuple(warnings))


def _carries_floor(powers: Powers, a: RecipeRuns, b: RecipeRuns) -> bool:
    each = 2 if powers.floor == "shared" else FEWEST_OWN
    enough = max(a.costs, b.costs) >= FEWEST_OWN and min(a.costs, b.costs) >= each
    return enough and powers.y_N.size - powers.size >= LEAST_DEGREES


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


def _surface(
    powers: Powers, a: RecipeRuns, b: RecipeRuns, axis: Axis
) -> Callable[[np.ndarray], tuple[CostFrontier, CostFrontier]]:
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


def _remembering(fitted: FittedSides) -> FittedSides:
    """The same, making the frontiers of its draws once: every quantity asks for them."""
    drawn, made = fitted.draws.drawn, list[tuple[CostFrontier, CostFrontier]]()

    def frontiers(points: np.ndarray) -> tuple[CostFrontier, CostFrontier]:
        if points is not drawn:
            return fitted.frontiers(points)
        if not made:
            made.append(fitted.frontiers(points))
        return made[0]

    return dataclasses.replace(fitted, frontiers=frontiers)
