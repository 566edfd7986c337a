"""The last step of an L1 fit: from a Huber fit at a tiny delta to the exact vertex.

At an L1 optimum as many residuals are exactly zero as there are free parameters (fewer only where a curved valley
holds the optimum). Linearize, solve the linear least absolute deviations problem exactly by moving along edges with a
weighted-median line search (Barrodale and Roberts 1973), step, repeat: near a vertex this converges quadratically
(Osborne and Watson 1971).
"""

import numpy as np

from analysis.fit.problem import Prepared, jacobian, predicted

OUTER = 30


def polish(prepared: Prepared, theta: np.ndarray) -> np.ndarray:
    """A point no worse than `theta` (centred, internal) in the sum of absolute residuals."""
    law, problem = prepared.law, prepared.problem
    free = np.flatnonzero(prepared.box.free)
    best = theta.copy()
    residual = problem.y - predicted(law, problem, best)
    objective = float(np.sum(problem.weights * np.abs(residual)))
    radius = np.inf
    for _ in range(OUTER):
        matrix = jacobian(law, problem, best)[:, free]
        step = linear_least_absolute(matrix, residual, problem.weights)
        size = float(np.max(np.abs(step), initial=0.0))
        if size == 0:
            break
        trial = best.copy()
        trial[free] += step * min(1.0, radius / size)
        trial = np.clip(trial, prepared.box.lower, prepared.box.upper)
        moved = problem.y - predicted(law, problem, trial)
        value = float(np.sum(problem.weights * np.abs(moved)))
        if value < objective:
            best, residual, objective = trial, moved, value
            radius *= 2.0
        else:
            radius = min(size, radius) / 4.0
            if radius < 1e-15 * (1.0 + float(np.max(np.abs(best)))):
                break
    return best


def linear_least_absolute(matrix: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """argmin over s of sum w |right - matrix s|, exactly, for matrix of shape (rows, columns).

    The starting basis is the rows of the smallest residuals that are independent; zero where there is no full basis.
    """
    columns = matrix.shape[1]
    scale = np.sqrt((matrix**2).sum(axis=0))
    if columns == 0 or not np.all(np.isfinite(matrix)) or np.any(scale == 0):
        return np.zeros(columns)
    scaled = matrix / scale
    basis = _independent(scaled, np.argsort(np.where(weights > 0, np.abs(right), np.inf)))
    if basis is None:
        return np.zeros(columns)
    for _ in range(50 * columns):
        inverse = np.linalg.inv(scaled[basis])
        solution = inverse @ right[basis]
        residual = right - scaled @ solution
        residual[basis] = 0.0
        sign = np.sign(residual)
        sign[basis] = 0.0
        # dual value of each basis row; beyond its weight the row wants to leave
        dual = (weights * sign) @ scaled @ inverse
        excess = np.abs(dual) - weights[basis]
        leaving = int(np.argmax(excess))
        if excess[leaving] <= 1e-10 * weights.mean():
            break
        edge = inverse[:, leaving] * np.sign(dual[leaving])
        rate = scaled @ edge
        entering = _median_step(residual, rate, weights, basis)
        if entering is None:
            break
        basis[leaving] = entering
    return np.linalg.solve(scaled[basis], right[basis]) / scale


def _median_step(residual: np.ndarray, rate: np.ndarray, weights: np.ndarray, basis: np.ndarray) -> int | None:
    """The row whose residual turns zero at the least point of sum w |residual - t rate| over t > 0."""
    moving = np.abs(rate) > 1e-12
    moving[basis] = False
    candidates = np.flatnonzero(moving & (weights > 0))
    times = residual[candidates] / rate[candidates]
    ahead = times > 0
    candidates, times = candidates[ahead], times[ahead]
    if candidates.size == 0:
        return None
    order = np.argsort(times)
    slope = -np.sum(weights * np.sign(residual) * rate) + np.sum(
        weights[basis] * np.abs(rate[basis])
    )  # of the objective at t = 0+; it is negative for a leaving row
    gains = np.cumsum(2 * weights[candidates[order]] * np.abs(rate[candidates[order]]))
    return int(candidates[order][min(int(np.searchsorted(gains, -slope)), order.size - 1)])


def _independent(matrix: np.ndarray, order: np.ndarray) -> np.ndarray | None:
    """The first rows in `order` that are linearly independent, as many as columns."""
    columns = matrix.shape[1]
    chosen: list[int] = []
    spanned = np.zeros((0, columns))
    for row in order:
        rest = matrix[row] - spanned.T @ (spanned @ matrix[row])
        norm = float(np.linalg.norm(rest))
        if norm > 1e-8 * float(np.linalg.norm(matrix[row]) + 1e-300):
            chosen.append(int(row))
            spanned = np.vstack([spanned, rest / norm])
            if len(chosen) == columns:
                return np.array(chosen)
    return None
