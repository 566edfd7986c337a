"""How well a table determines a law's parameters: resampling, asymptotic covariance, profiles, verdicts.

Three bootstraps. Pairs: rows are drawn with replacement (Efron 1979). Clusters: whole runs are drawn, because the
checkpoints of one run share its luck (Cameron, Gelbach and Miller 2008). Wild: the table's inputs stay and each
residual changes its sign at random around the fit (Wu 1986; Rademacher weights), for designs that a resample would
break. Resampled rows enter as weights, so all resamples are one batch of the solver.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erf, ndtr, stdtrit

from analysis.fit.estimation import Estimation, jacobian, predicted
from analysis.fit.objectives import side_weights
from analysis.fit.solver import Solutions, solve

ASYMPTOTIC_DRAWS = 2000
EXTRA_STARTS = 3  # every resample also starts from this many other minima of the full table


@dataclass(frozen=True)
class Draws:
    """Refitted parameters, natural units, shape (R, P), and how many resamples did not converge."""

    natural: np.ndarray
    objective: np.ndarray
    unconverged: int


def pair_weights(rows: int, resamples: int, seed: int) -> np.ndarray:
    """Counts of each row in each resample, shape (R, rows).

    Drawn as NumPy's legacy generator draws row numbers one resample at a time, the stream that published
    bootstraps of scaling laws used, so that a seed here is the seed there.
    """
    generator = np.random.RandomState(seed)
    drawn = [np.bincount(generator.choice(rows, rows, replace=True), minlength=rows) for _ in range(resamples)]
    return np.array(drawn, dtype=np.float64).reshape(resamples, rows)


def cluster_weights(labels: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """As `pair_weights`, but whole clusters (rows of one label) are drawn."""
    _, cluster = np.unique(labels, return_inverse=True)
    return pair_weights(int(cluster.max()) + 1, resamples, seed)[:, cluster]


def bootstrap_draws(
    estimation: Estimation,
    minima: np.ndarray,
    resamples: int,
    seed: int,
    *,
    cluster: np.ndarray | None = None,
    wild: bool = False,
) -> Draws:
    """Refit `resamples` resampled tables, each from the optimum, annealed, and from other minima of the full table.

    Args:
      minima: centred points of the full table's minima, best first, shape (M, P).
      cluster: labels of rows that are resampled together.
      wild: keep inputs, flip residuals (per cluster where clusters are given).
    """
    problem = estimation.problem
    rows = problem.observed.shape[0]
    if wild:
        fitted = predicted(estimation.law, problem, minima[0])
        labels = np.arange(rows) if cluster is None else np.unique(cluster, return_inverse=True)[1]
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, int(labels.max()) + 1))
        inflate = math.sqrt(rows / max(rows - int(np.sum(estimation.box.free)), 1))
        resampled = fitted + inflate * (problem.observed - fitted) * signs[:, labels]
        tables = replace(problem, observed=resampled)
    else:
        drawn = (
            pair_weights(rows, resamples, seed)
            if cluster is None
            else cluster_weights(cluster, resamples, seed)
        )
        tables = replace(problem, weights=drawn * problem.weights)
    box = estimation.box
    start = np.tile(minima[0], (resamples, 1))
    best = solve(tables, start, box)
    if estimation.objective.robust != "l2":
        best = better(best, solve(tables, start, box, anneal=False))
    for other in minima[1 : 1 + EXTRA_STARTS]:
        best = better(best, solve(tables, np.tile(other, (resamples, 1)), box, anneal=False))
    # the optimum of the resample before: a plausible point that this one has not seen
    best = better(best, solve(tables, np.roll(best.point, 1, axis=0), box, anneal=False))
    natural = np.clip(estimation.natural(best.point), -1e300, 1e300)
    return Draws(natural, best.objective, int(np.sum(~best.converged)))


def better(first: Solutions, second: Solutions) -> Solutions:
    """Per lane, the lower objective."""
    take = second.objective < first.objective
    return Solutions(
        **{
            name: np.where(
                take.reshape((-1,) + (1,) * (getattr(first, name).ndim - 1)),
                getattr(second, name),
                getattr(first, name),
            )
            for name in first.__dataclass_fields__
        }
    )


@dataclass(frozen=True)
class Sandwich:
    """Asymptotic covariance of an M-estimator and its two halves, of centred parameters, shape (P, P).

    `inverse` is that of the smoothed Hessian. NaN for parameters that are pinned, at a bound, or undetermined.
    `degrees` are those of Student's distribution; None stands for rows less parameters.
    """

    covariance: np.ndarray
    inverse: np.ndarray
    degrees: int | None = None

    @property
    def told(self) -> bool:
        """Whether an interval can be given at all: few clusters say nothing of their spread."""
        return self.degrees is None or bool(np.isfinite(self.covariance).any())

    def factor(self, position: int) -> float:
        """By how much the objective's curvature overstates what is known of a parameter (residual variance, for
        least squares): the variance of the estimate over the inverse curvature."""
        return float(self.covariance[position, position] / self.inverse[position, position])


def sandwich(
    estimation: Estimation, point: np.ndarray, hessian: np.ndarray, cluster: np.ndarray | None = None
) -> Sandwich:
    """The sandwich estimator (Huber 1967) with a kernel estimate of the Hessian (Powell 1991).

    Each row's chance of lying in the quadratic part of Huber's function is smoothed over residuals, so that a delta
    far below the residuals does not starve the Hessian, and noise that differs between rows is allowed for.
    """
    problem = estimation.problem
    residual = predicted(estimation.law, problem, point) - problem.observed
    columns = jacobian(estimation.law, problem, point)
    weights = problem.weights * side_weights(residual > 0, problem.asymmetry)
    delta = float(estimation.box.delta)
    slope = weights * np.clip(residual, -delta, delta)
    exact = np.where(np.abs(residual) <= delta, weights, 0.0)
    spent = int(estimation.box.free.sum())
    smooth = problem.weights * quadratic_chance(residual, delta, spent, problem.asymmetry)
    free = estimation.box.free & (point > estimation.box.lower + 1e-9) & (point < estimation.box.upper - 1e-9)
    bread = hessian + columns.T @ ((smooth - exact)[:, None] * columns)
    scores = slope[:, None] * columns
    if cluster is not None:
        _, label = np.unique(cluster, return_inverse=True)
        grouped = np.zeros((int(label.max()) + 1, columns.shape[1]))
        np.add.at(grouped, label, scores)
        scores = grouped
    degrees = max(scores.shape[0] - int(free.sum()), 1)
    meat = scores.T @ scores * (scores.shape[0] / degrees)
    covariance, inverse = np.full((2, point.size, point.size), np.nan)
    block = np.ix_(free, free)
    scale = np.sqrt(np.maximum(np.abs(np.diag(bread[block])), 1e-300))
    scaled = bread[block] / scale[:, None] / scale[None, :]
    if free.any() and np.all(np.isfinite(scaled)) and np.all(np.linalg.eigvalsh(scaled) > 1e-13):
        inverse[block] = np.linalg.inv(scaled) / scale[:, None] / scale[None, :]
        covariance[block] = inverse[block] @ meat[block] @ inverse[block].T
    return Sandwich(covariance, inverse)


def quadratic_chance(residual: np.ndarray, delta: float, spent: int, asymmetry: float = 1.0) -> np.ndarray:
    """Chance that each residual (predicted less observed), moved by a normal of the kernel's bandwidth, is within
    delta; the part of it above 0 counts `asymmetry` times.

    The bandwidth is the robust spread times n^(-1/5): wider ones overstate errors (`python -m bench.calibrate_fits`).
    A fit that is nearly one of absolute residuals passes through as many rows as it has parameters, the `spent` ones:
    their residuals are zero by construction and say nothing of the spread. Without this, intervals of 9 rows at a noise
    of 2% hold the truth in 55% of tables.
    """
    size = np.sort(np.abs(residual))
    left = size[min(spent, size.size - 1) :]
    bandwidth = 1.4826 * float(np.median(left)) * residual.size**-0.2
    if bandwidth <= 0 or not np.isfinite(delta):
        return (np.abs(residual) <= delta) * side_weights(residual > 0, asymmetry)
    root = math.sqrt(2) * bandwidth
    below, above = erf((delta + residual) / root), erf((delta - residual) / root)
    if asymmetry == 1.0:
        return (above + below) / 2
    zero = erf(residual / root)
    return (asymmetry * (above + zero) + below - zero) / 2


def asymptotic_draws(
    estimation: Estimation, point: np.ndarray, spread: Sandwich, seed: int
) -> np.ndarray | None:
    """Natural parameters around the optimum, from its asymptotic (Student) distribution; None where it has none."""
    covariance = spread.covariance
    known = np.isfinite(np.diag(covariance))
    if not known.any():
        return None
    block = covariance[np.ix_(known, known)]
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(seed)
    degrees = spread.degrees or max(estimation.problem.observed.size - int(known.sum()), 1)
    normal = rng.standard_normal((ASYMPTOTIC_DRAWS, int(known.sum())))
    student = normal / np.sqrt(rng.chisquare(degrees, (ASYMPTOTIC_DRAWS, 1)) / degrees)
    points = np.tile(point, (ASYMPTOTIC_DRAWS, 1))
    points[:, known] += student @ root.T
    natural = estimation.natural(np.clip(points, estimation.box.lower, estimation.box.upper))
    return np.clip(natural, -1e300, 1e300)


def asymptotic_errors(estimation: Estimation, point: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard errors in natural units by the delta method."""
    inverse = np.linalg.inv(estimation.centring.matrix)
    variance = np.diag(inverse @ np.nan_to_num(covariance) @ inverse.T).copy()
    unknown = ~np.isfinite(np.diag(covariance))
    touched = (np.abs(inverse[:, unknown]) > 1e-12).any(axis=1)
    errors = np.sqrt(np.maximum(variance, 0.0))
    internal = estimation.centring.backward(point)
    for position, parameter in enumerate(estimation.law.parameters):
        if parameter.positive:
            errors[position] *= np.exp(internal[position])
    errors[touched] = np.nan
    for name in estimation.fixed:
        errors[estimation.law.index(name)] = 0.0
    return errors


def percentile_levels(level: float, rows: int, parameters: int) -> tuple[float, float]:
    """Percentiles of bootstrap draws that make an interval of `level`, widened for few rows.

    The expanded percentile interval (Hesterberg 2015, section 3.3): a bootstrap distribution is too narrow by
    sqrt((n - p) / n) and has normal, not Student, tails.
    """
    degrees = max(rows - parameters, 1)
    widened = math.sqrt(rows / degrees) * stdtrit(degrees, 0.5 + level / 2)
    tail = max(1.0 - ndtr(widened), 1e-6)
    return tail, 1.0 - tail
