"""Errors of a fit to both sides: a wild bootstrap of runs that is right with few of them.

Residuals of runs that share their luck (both sides' run of one size, data and seed; the checkpoints of a run) keep
together. Each group's residuals are corrected for the share of them that the fit took (CR2 of Bell and McCaffrey 2002;
Pustejovsky and Tipton 2018), multiplied by one normal number (Wu 1986), and both sides are fitted again together.
Percentiles of what follows are widened from the normal to Student's distribution, at the degrees of freedom of Bell and
McCaffrey for that very quantity.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.special import fdtrc, ndtri, stdtrit

from analysis.compare.powers import Powers, solve

FEWEST_DEGREES = 1.0
STEP = 1e-5


@dataclasses.dataclass(frozen=True)
class JointDraws:
    """The fit and its draws.

    Attributes:
      point: (P,), and `drawn`: (R, P); no rows where there are no degrees of freedom.
      spread_PN: what each row moves each parameter by. lever: of each group of rows, the columns that its corrected
        residual is made of, (N, rows of the group); `groups` are these rows.
    """

    point: np.ndarray
    drawn: np.ndarray
    spread_PN: np.ndarray
    groups: tuple[np.ndarray, ...]
    levers: tuple[np.ndarray, ...]

    def degrees(self, gradient_P: np.ndarray) -> float:
        """Of Student's distribution, for a quantity with this gradient (Bell and McCaffrey 2002)."""
        weight_N = gradient_P @ self.spread_PN
        columns = [lever @ weight_N[rows] for rows, lever in zip(self.groups, self.levers, strict=True)]
        stacked = np.stack(columns, axis=1)
        inner = stacked.T @ stacked
        total = float((inner**2).sum())
        return max(float(np.trace(inner)) ** 2 / total, FEWEST_DEGREES) if total > 0 else FEWEST_DEGREES

    def interval(self, quantity: Callable[[np.ndarray], np.ndarray], level: float) -> np.ndarray | None:
        """Ends (2, Q) of what `quantity` makes of points (R, P): arrays (R, Q). None without draws."""
        if not self.drawn.shape[0]:
            return None
        with np.errstate(invalid="ignore"):
            return self._interval(quantity, level)

    def _interval(self, quantity: Callable[[np.ndarray], np.ndarray], level: float) -> np.ndarray:
        estimate = quantity(self.point[None])[0]
        steps = STEP * np.maximum(np.abs(self.point), 1e-2)
        moved = quantity(np.concatenate([self.point + np.diag(steps), self.point - np.diag(steps)]))
        gradient = (moved[: steps.size] - moved[steps.size :]) / (2 * steps[:, None])
        values = quantity(self.drawn)
        return widened(estimate, values, [self.degrees(np.nan_to_num(one)) for one in gradient.T], level)


def widened(estimate: np.ndarray, values: np.ndarray, degrees: list[float], level: float) -> np.ndarray:
    """Percentiles of draws (R, Q) about the estimate (Q,), as wide as Student's quantile asks: (2, Q)."""
    tail = (1 - level) / 2
    factor = stdtrit(np.array(degrees), 1 - tail) / ndtri(1 - tail)
    # A draw that is not defined says that anything is possible: half of them count for each end.
    undefined = np.isnan(values)
    half = np.arange(values.shape[0])[:, None] % 2 == 0
    filled = np.where(undefined, np.where(half, -np.inf, np.inf), values)
    ordered = np.sort(filled, axis=0)
    last = max(int((values.shape[0] + 1) * tail) - 1, 0)  # so many draws lie beyond each end
    low, high = ordered[last], ordered[-1 - last]
    with np.errstate(invalid="ignore"):
        return np.stack([estimate + factor * (low - estimate), estimate + factor * (high - estimate)])


def drawn(problem: Powers, point: np.ndarray, labels: np.ndarray, count: int, seed: int) -> JointDraws:
    """The draws of a fit.

    Args:
      labels: (N,) rows of one label share their luck.
    """
    value, slope = problem.predicted(point[None])
    residual, slope_NP = problem.y_N - value[0], slope[0]
    rows = residual.size
    spread_PN = np.linalg.pinv(slope_NP, rcond=1e-10)
    hat = slope_NP @ spread_PN
    made = np.eye(rows) - hat
    groups = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    corrected = np.zeros(rows)
    levers = []
    for own in groups:
        values, vectors = np.linalg.eigh(made[np.ix_(own, own)])
        root = np.where(values > 1e-8, 1 / np.sqrt(np.maximum(values, 1e-8)), 0.0)
        half = (vectors * root) @ vectors.T
        corrected[own] = half @ residual[own]
        levers.append(made[:, own] @ half)
    if rows <= problem.size or len(groups) < 2 or not np.isfinite(corrected).all():
        return JointDraws(point, np.zeros((0, point.size)), spread_PN, groups, tuple(levers))
    place = np.empty(rows, int)
    for number, own in enumerate(groups):
        place[own] = number
    luck = np.random.default_rng(seed).standard_normal((count, len(groups)))
    tables = value[0] + luck[:, place] * corrected
    refitted, _ = solve(problem, np.tile(point, (count, 1)), tables)
    return JointDraws(point, refitted, spread_PN, groups, tuple(levers))


def lack_of_fit(problem: Powers, point: np.ndarray, cells: np.ndarray) -> float:
    """p-value of the F test of the law against the spread of repeated runs of a cell; NaN where none is repeated."""
    value, _ = problem.predicted(point[None])
    residual = problem.y_N - value[0]
    names, index = np.unique(cells, return_inverse=True)
    counts = np.bincount(index)
    means = np.bincount(index, residual) / counts
    pure, of_means = float(((residual - means[index]) ** 2).sum()), float((counts * means**2).sum())
    within, between = residual.size - names.size, names.size - problem.size
    if within < 1 or between < 1 or not pure > 0:
        return float("nan")
    return float(fdtrc(between, within, (of_means / between) / (pure / within)))
