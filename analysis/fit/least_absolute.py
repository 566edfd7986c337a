"""The last step of an L1 fit: from a Huber fit at a tiny delta to the exact vertex.

At an L1 optimum as many residuals are exactly zero as there are free parameters (fewer only where a curved valley
holds the optimum). Linearize, solve the linear least absolute deviations problem exactly, step, repeat: near a vertex
this converges quadratically (Osborne and Watson 1971).
"""

import numpy as np

from analysis.fit.estimation import Estimation, jacobian, predicted
from analysis.fit.objectives import side_weights

OUTER = 30
TOLERANCES = {
    "primal_feasibility_tolerance": 1e-10,
    "dual_feasibility_tolerance": 1e-10,
}  # the least that HiGHS takes


def polish(estimation: Estimation, point: np.ndarray) -> np.ndarray:
    """A point no worse than `point` (centred) in the sum of absolute residuals."""
    law, problem = estimation.law, estimation.problem

    def total(residual: np.ndarray) -> float:
        return float(np.sum(problem.weights * side_weights(residual < 0, problem.asymmetry) * np.abs(residual)))

    free = np.flatnonzero(estimation.box.free)
    best = point.copy()
    residual = problem.observed - predicted(law, problem, best)
    objective = total(residual)
    radius = np.inf
    for _ in range(OUTER):
        matrix = jacobian(law, problem, best)[:, free]
        step = linear_least_absolute(matrix, residual, problem.weights, problem.asymmetry)
        size = float(np.max(np.abs(step), initial=0.0))
        if size == 0:
            break
        trial = best.copy()
        trial[free] += step * min(1.0, radius / size)
        trial = np.clip(trial, estimation.box.lower, estimation.box.upper)
        moved = problem.observed - predicted(law, problem, trial)
        value = total(moved)
        if value < objective:
            best, residual, objective = trial, moved, value
            radius *= 2.0
        else:
            radius = min(size, radius) / 4.0
            if radius < 1e-15 * (1.0 + float(np.max(np.abs(best)))):
                break
    return best


def linear_least_absolute(
    matrix: np.ndarray, right: np.ndarray, weights: np.ndarray, asymmetry: float = 1.0
) -> np.ndarray:
    """argmin over s of sum w |right - matrix s|, exactly; matrix of shape (rows, columns). Zeros where there is none.
    What is negative in right - matrix s weighs `asymmetry` times.

    Solved as its dual, max right . u with matrix' u = 0 and -asymmetry w <= u <= w, which has as many constraints as
    the matrix has columns; s is what a unit of each constraint is worth (Barrodale and Roberts 1973).
    """
    # Imported here: it takes a quarter of a second, which only L1 fits need.
    from scipy.optimize import linprog

    columns = matrix.shape[1]
    scale = np.sqrt((matrix**2).sum(axis=0))
    unit = float(np.max(np.abs(right) * (weights > 0)))  # the tolerances are absolute
    if columns == 0 or unit == 0 or not np.all(np.isfinite(matrix)) or np.any(scale == 0):
        return np.zeros(columns)
    program = linprog(
        -right / unit,
        A_eq=(matrix / scale).T,
        b_eq=np.zeros(columns),
        bounds=np.stack([-asymmetry * weights, weights], axis=1),
        method="highs",
        options=TOLERANCES,
    )
    return -program.eqlin.marginals * unit / scale if program.status == 0 else np.zeros(columns)
