"""Frontiers without a law: lower convex hulls of the cells' means, with the noise of the runs put on again."""

import dataclasses
from collections.abc import Callable

import numpy as np

from analysis.compare.draws import widened
from analysis.compare.frontier import CostFrontier, hull_frontier
from analysis.compare.side import RecipeRuns, luck_of

FEWEST_PAIRS = 6  # ordered, of runs that share their luck
ORDER = 2  # of the polynomial whose residuals are the noise where no run is repeated


@dataclasses.dataclass(frozen=True)
class HullFit:
    """Hulls of both sides.

    Attributes:
      point: log losses of the cells of A, then of B; `drawn`: the same with noise, (R, cells).
      freedom: degrees of freedom of the noise.
      costs: log costs of the cells of both.
    """

    point: np.ndarray
    drawn: np.ndarray
    freedom: float
    costs: tuple[np.ndarray, np.ndarray]
    warnings: tuple[str, ...] = ()

    def frontiers(self, points: np.ndarray) -> tuple[CostFrontier, CostFrontier]:
        """Of points (R, cells)."""
        split = self.costs[0].size
        return hull_frontier(self.costs[0], points[:, :split]), hull_frontier(self.costs[1], points[:, split:])

    def interval(self, quantity: Callable[[np.ndarray], np.ndarray], level: float) -> np.ndarray | None:
        """As `JointDraws.interval`. Where a draw does not reach a loss, its quantity is left out."""
        if not self.drawn.shape[0]:
            return None
        estimate, values = quantity(self.point[None])[0], quantity(self.drawn)
        middle = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=0)
        # Noise bends a hull downward in the data, and once more in a draw: spreads are about the draws' middle.
        filled = np.where(np.isfinite(values), values - middle + estimate, estimate)
        return widened(estimate, filled, [self.freedom] * estimate.size, level)


def fit_hulls(a: RecipeRuns, b: RecipeRuns, count: int, seed: int) -> HullFit:
    """Hulls, and draws of them: normal noise of one size a side, correlated where runs share their luck."""
    means, costs, residuals, sizes, freedom = [], [], [], [], 0.0
    warnings: list[str] = []
    for side in (a, b):
        runs = np.bincount(side.cells)
        means.append(np.bincount(side.cells, np.log(side.loss)) / runs)
        costs.append(np.bincount(side.cells, np.log(side.cost)) / runs)
        residual, degrees = _residuals(side, means[-1], runs)
        if degrees < 1:
            warnings.append(f"{side.label}: no noise can be told from {side.cost.size} runs; repeat seeds")
        residuals.append(residual)
        sizes.append(float(np.sqrt((residual**2).sum() / max(degrees, 1.0))))
        freedom += degrees
    point = np.concatenate(means)
    if warnings:
        return HullFit(point, np.zeros((0, point.size)), 1.0, (costs[0], costs[1]), tuple(warnings))
    luck, split = luck_of(a, b), a.cost.size
    # Runs that share their luck tell less of it than as many others.
    freedom = max(freedom * np.unique(luck).size / luck.size, 1.0)
    generator = np.random.default_rng(seed)
    together = _correlation(
        luck, np.concatenate([one / size for one, size in zip(residuals, sizes, strict=True)])
    )
    shared = generator.standard_normal((count, int(luck.max()) + 1))[:, luck]
    noise = np.sqrt(together) * shared + np.sqrt(1 - together) * generator.standard_normal(shared.shape)
    places = np.concatenate([a.cells, b.cells + means[0].size])
    share = np.repeat(sizes, [split, b.cost.size]) / np.bincount(places)[places]
    moved = np.zeros((point.size, count))
    np.add.at(moved, places, (noise * share).T)
    return HullFit(point, point + moved.T, freedom, (costs[0], costs[1]))


def _correlation(luck: np.ndarray, residual: np.ndarray) -> float:
    """Mean product of the scaled residuals of two runs that share their luck, from 0 to 1."""
    counts = np.bincount(luck)
    pairs = float((counts * (counts - 1)).sum())
    if pairs < FEWEST_PAIRS:
        return 0.0
    sums, squares = np.bincount(luck, residual), np.bincount(luck, residual**2)
    return float(np.clip((sums**2 - squares).sum() / pairs, 0.0, 1.0))


def _residuals(side: RecipeRuns, mean: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, float]:
    """Of log losses about the means of repeated runs, or else about a polynomial; and the degrees of freedom."""
    log_loss = np.log(side.loss)
    if runs.max() > 1:
        return log_loss - mean[side.cells], float(log_loss.size - mean.size)
    columns = [np.log(side.cost)]
    if side.params is not None and side.tokens is not None:
        columns = [np.log(side.params), np.log(side.tokens)]
    design = _polynomial([column for column in columns if np.ptp(column) > 0])
    answer = np.linalg.lstsq(design, log_loss, rcond=None)[0]
    return log_loss - design @ answer, float(log_loss.size - np.linalg.matrix_rank(design))


def _polynomial(columns: list[np.ndarray]) -> np.ndarray:
    """Powers up to ORDER of each column, and their products."""
    scaled = [(column - column.mean()) / column.std() for column in columns]
    powers = [np.ones(columns[0].size)]
    powers += [one**power for one in scaled for power in range(1, ORDER + 1)]
    powers += [scaled[0] * scaled[1]] if len(scaled) > 1 else []
    return np.stack(powers, axis=1)
