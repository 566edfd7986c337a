"""Profile likelihood intervals: how far one parameter can be moved while all others make up for it.

The objective's rise is turned into a likelihood ratio by the factor that an M-estimator needs, the sandwich variance
over the inverse curvature (Ronchetti 1982; for least squares with equal noise, the residual variance). Unlike a
standard error the profile sees walls, flat directions and second minima: where it never rises to the threshold the
interval ends at the parameter's bound.
"""

import dataclasses

import numpy as np
from scipy.special import stdtrit

from analysis.fit.estimation import Estimation, predicted
from analysis.fit.objectives import side_weights
from analysis.fit.solver import Box, solve
from analysis.fit.uncertainty import Sandwich, quadratic_chance

STEPS = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 14.0, 25.0, 50.0, 100.0])
ROUNDS = 3


def profile_intervals(
    estimation: Estimation, point: np.ndarray, hessian: np.ndarray, level: float, spread: Sandwich
) -> dict[str, tuple[float, float]]:
    """Intervals in natural units for every free parameter.

    Args:
      point, hessian, spread: the optimum and what `sandwich` says of it, centred as in `estimation`.
    """
    law = estimation.law
    means = estimation.centring.means
    features = {
        key: values + means[key.removeprefix("log_")] if key.startswith("log_") else values
        for key, values in estimation.problem.features.items()
    }
    problem = dataclasses.replace(estimation.problem, features=features)
    matrix = estimation.centring.matrix
    internal = estimation.centring.backward(point)
    curvature = matrix.T @ hessian @ matrix
    free = np.flatnonzero(estimation.box.free)
    thresholds, widths = thresholds_of(estimation, point, level, spread)
    lower, upper = estimation.box.lower.copy(), estimation.box.upper.copy()
    conditional = _conditional_moves(curvature, free)
    best = solve(problem, internal[None], estimation.box, anneal=False)
    floor = float(best.objective[0])
    intervals = {}
    edges: dict[tuple[int, float], float] = {}
    jobs = []
    for position in map(int, free):
        for sign in (-1.0, 1.0):
            wall = upper[position] if sign > 0 else lower[position]
            values = np.clip(
                internal[position] + sign * widths[position] * STEPS, lower[position], upper[position]
            )
            jobs.append((position, sign, wall, np.unique(values)))
    for _ in range(ROUNDS):
        rises = _rises(problem, estimation, internal, jobs, conditional, floor)
        refined = []
        for (position, sign, wall, values), rise in zip(jobs, rises, strict=True):
            below, above = _bracket(internal[position], sign, values, rise, thresholds[position])
            edges[position, sign] = wall if above is None else _interpolated(below, above, thresholds[position])
            if above is None:
                refined.append((position, sign, wall, np.array([wall])))
            else:
                refined.append((position, sign, wall, np.linspace(below[0], above[0], 6)))
        jobs = refined
    for position in map(int, free):
        parameter = law.parameters[position]
        ends = [edges[position, -1.0], edges[position, 1.0]]
        placed = np.tile(internal, (2, 1))
        placed[:, position] = ends
        low, high = law.to_natural(placed)[:, position].tolist()
        intervals[parameter.name] = (low, high)
    return intervals


def thresholds_of(
    estimation: Estimation, point: np.ndarray, level: float, spread: Sandwich
) -> tuple[np.ndarray, np.ndarray]:
    """Per internal parameter: the rise at which an interval of `level` ends, and its half-width.

    Where the sandwich does not exist, the factor is that of equal noise in every row and the width is left open.
    """
    problem, free = estimation.problem, estimation.box.free
    rows = problem.observed.size
    quantile = stdtrit(spread.degrees or max(rows - int(free.sum()), 1), 0.5 + level / 2) ** 2
    residual = predicted(estimation.law, problem, point) - problem.observed
    delta, asymmetry = float(estimation.box.delta), problem.asymmetry
    slope = np.clip(residual, -delta, delta) * side_weights(residual > 0, asymmetry)
    chance = float(
        np.average(quadratic_chance(residual, delta, int(free.sum()), asymmetry), weights=problem.weights)
    )
    squares = float(np.average(slope**2, weights=problem.weights))
    equal = squares * rows / max(rows - int(free.sum()), 1) / max(chance, 1e-300)
    back = np.linalg.inv(estimation.centring.matrix)
    variance = np.diag(back @ np.nan_to_num(spread.covariance) @ back.T)
    curvature = np.diag(back @ np.nan_to_num(spread.inverse) @ back.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where((variance > 0) & (curvature > 0), variance / curvature, equal)
    width = np.sqrt(quantile * np.where(variance > 0, variance, 1.0))
    return quantile * factor / 2 + 1e-24 * rows, np.clip(width, 1e-9, 10.0)


def _conditional_moves(curvature: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Row p: how all parameters move along the valley floor when parameter p moves by one."""
    moves = np.zeros_like(curvature)
    for position in free:
        others = free[free != position]
        moves[position, position] = 1.0
        if others.size:
            block = curvature[np.ix_(others, others)]
            moves[position, others] = -np.linalg.pinv(block, rcond=1e-12) @ curvature[others, position]
    return moves


def _rises(problem, estimation, internal, jobs, conditional, floor) -> list[np.ndarray]:
    """The profile's rise above the optimum at every value of every job, in one batch."""
    starts, lowers, uppers = [], [], []
    for position, _, _, values in jobs:
        moved = internal + (values - internal[position])[:, None] * conditional[position]
        low, high = (
            np.tile(estimation.box.lower, (values.size, 1)),
            np.tile(estimation.box.upper, (values.size, 1)),
        )
        low[:, position] = high[:, position] = values
        starts.append(moved)
        lowers.append(low)
        uppers.append(high)
    box = Box(np.concatenate(lowers), np.concatenate(uppers), estimation.box.delta)
    begin = np.concatenate(starts)
    objective = solve(problem, begin, box, anneal=False).objective
    if estimation.objective.robust != "l2":
        objective = np.minimum(objective, solve(problem, begin, box).objective)
    return np.split(objective - floor, np.cumsum([values.size for *_, values in jobs])[:-1])


def _bracket(centre, sign, values, rise, threshold):
    """The last value below the threshold and the first above it, walking outward; `above` None where none is."""
    order = np.argsort(sign * values)
    below = (float(centre), 0.0)
    for value, height in zip(values[order], rise[order], strict=True):
        if height > threshold:
            if sign * value <= sign * below[0]:
                continue
            return below, (float(value), float(height))
        below = (float(value), float(max(height, 0.0)))
    return below, None


def _interpolated(below, above, threshold):
    """Where the square root of the rise, nearly straight, crosses that of the threshold."""
    low, high = np.sqrt(below[1]), np.sqrt(above[1])
    return below[0] + (above[0] - below[0]) * (np.sqrt(threshold) - low) / max(high - low, 1e-300)
