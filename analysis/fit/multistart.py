"""From many starting points to one optimum with a certificate: what was tried, what was reached, what else is there."""

from dataclasses import dataclass, replace

import numpy as np

from analysis.fit.estimation import Estimation
from analysis.fit.least_absolute import polish
from analysis.fit.solver import EXACT, Problem, Solutions, solve
from analysis.laws.base import Law

SAME = 1e-7  # relative difference of objectives below which two lanes are in the same minimum
SCREENING_ROWS = (
    4096  # beyond this, all starts run on a sample of rows, and the minima found there on every row
)
SCREENING_SAMPLE = 512
DIRECT_STARTS = 192  # starts that also run without annealing, so that local minima are found, not avoided
KEPT_MINIMA = 32
POLISHED = 24  # of those, how many an L1 fit follows to their vertex


@dataclass(frozen=True)
class Minimum:
    """One local minimum: centred parameters; Huber objective of the solver; how many starts ended there."""

    point: np.ndarray
    objective: float
    starts: int


@dataclass(frozen=True)
class Certificate:
    """How far the optimum can be trusted.

    Attributes:
      tried, reached_best, converged: starts in all, those that ended at the best objective, those at a minimum.
      minima: every distinct local minimum, best first.
      cosine: the scale-free gradient norm at the best.
      at_bound: parameters that ended on a bound.
      condition: condition number of the scaled Hessian over free parameters (1 is best, 1e16 is singular).
      screened_on: rows on which the starts were tried, where that is fewer than all.
      hessian: at the best, centred coordinates. exact: the law passes through every row, up to rounding.
    """

    tried: int
    reached_best: int
    converged: int
    minima: tuple[Minimum, ...]
    cosine: float
    at_bound: tuple[str, ...]
    condition: float
    screened_on: int
    hessian: np.ndarray
    exact: bool

    @property
    def points(self) -> np.ndarray:
        """Centred points of all minima, best first, (M, P)."""
        return np.array([minimum.point for minimum in self.minima])

    def warnings(self, law: Law) -> list[str]:
        """What a careful reader is told about this optimum."""
        lines = []
        if self.cosine > 1e-6 and not self.exact:
            lines.append(f"the optimum is not at rounding level (scale-free gradient {self.cosine:.1e})")
        if self.at_bound:
            lines.append(f"at a bound: {', '.join(self.at_bound)}")
        if self.reached_best < 2 and self.tried > 20:
            lines.append(f"only {self.reached_best} of {self.tried} starts reached the best objective")
        if self.condition > 1e10:
            lines.append(f"parameters nearly trade off (condition number {self.condition:.1e})")
        near = [m for m in self.minima[1:] if m.objective <= 1.01 * self.minima[0].objective]
        if near:
            lines.append(f"{len(near)} other local minima lie within 1% of the best objective")
        return lines

    def to_json(self, estimation: Estimation) -> dict[str, object]:
        """The `starts` entry of fit.json."""
        law = estimation.law
        return {
            "tried": self.tried,
            "reached_best": self.reached_best,
            "converged": self.converged,
            "other_minima": [
                {
                    "objective": estimation.reported(minimum.point),
                    "parameters": dict(zip(law.names, estimation.natural(minimum.point).tolist(), strict=True)),
                    "starts": minimum.starts,
                }
                for minimum in self.minima[1:]
            ],
            "gradient": self.cosine,
            "at_bound": list(self.at_bound),
            "condition": self.condition,
            "screened_on_rows": self.screened_on,
        }


def multistart(estimation: Estimation, starts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, Certificate]:
    """Fit from every start (internal, shape (S, P)); the best point and its certificate."""
    law, problem = estimation.law, estimation.problem
    centred = sensible(estimation, estimation.centring.forward(starts))
    rows = problem.observed.shape[0]
    rng = np.random.default_rng(seed)
    screening, screened_on = problem, rows
    if rows > SCREENING_ROWS:
        screened_on = SCREENING_SAMPLE
        chosen = np.sort(rng.choice(rows, screened_on, replace=False))
        screening = _rows(problem, chosen)
    # several starts may be clipped to one point: it is solved once and counts as often as it came
    within = np.clip(centred, estimation.box.lower, estimation.box.upper)
    _, first, copy = np.unique(np.round(within, 9), axis=0, return_index=True, return_inverse=True)
    copy = copy.reshape(-1)
    annealed = solve(screening, within[first], estimation.box)
    starts_at = np.bincount(copy, minlength=first.size)
    if estimation.objective.robust == "l2":
        solutions = annealed
    else:
        near = _near(annealed, rng, estimation.box.lower, estimation.box.upper)
        some = within[first][np.sort(rng.choice(first.size, min(DIRECT_STARTS, first.size), replace=False))]
        direct = solve(screening, np.concatenate([near, some]), estimation.box, anneal=False)
        solutions = _joined(annealed, direct)
    screened_best = float(np.min(solutions.objective)) * (1 + SAME) + rows_floor(screening)
    minima = distinct(solutions, rows_floor(problem))
    if screened_on < rows:
        kept = np.array([minimum.point for minimum in minima])[:8]
        solutions = solve(problem, kept, estimation.box)
        minima = distinct(solutions, rows_floor(problem))
    chosen_lane = _settled(solutions)
    point = solutions.point[chosen_lane]
    if estimation.objective.robust == "l1":
        minima = vertices(estimation, minima)
        point = minima[0].point
    condition = _condition(solutions.hessian[chosen_lane], solutions.gauss[chosen_lane], estimation.box.free)
    certificate = Certificate(
        tried=len(centred),
        reached_best=int(starts_at[annealed.objective <= screened_best].sum()),
        converged=int(starts_at[annealed.converged].sum()),
        minima=minima,
        cosine=float(solutions.cosine[chosen_lane]),
        at_bound=_at_bound(law, point, estimation),
        condition=condition,
        screened_on=screened_on,
        hessian=solutions.hessian[chosen_lane],
        exact=bool(solutions.objective[chosen_lane] <= rows_floor(problem)),
    )
    return point, certificate


def vertices(estimation: Estimation, minima: tuple[Minimum, ...]) -> tuple[Minimum, ...]:
    """The exact L1 minima that those of the smallest delta lead to, best first; objectives are sums of |r|."""
    polished = [polish(estimation, minimum.point) for minimum in minima[:POLISHED]]
    values = [estimation.reported(point) for point in polished]
    result: list[Minimum] = []
    for i in np.argsort(values, kind="stable"):
        if result and values[i] <= result[-1].objective * (1 + 1e-10):
            last = result[-1]
            result[-1] = Minimum(last.point, last.objective, last.starts + minima[i].starts)
        else:
            result.append(Minimum(polished[i], values[i], minima[i].starts))
    return tuple(result)


def sensible(estimation: Estimation, centred: np.ndarray) -> np.ndarray:
    """Starts of a sum of powers whose terms are neither vanishing nor overwhelming at the centre of the table.

    A term that is 1e-18 of the loss has no gradient that float64 can see, and a start there never moves; each
    coefficient is brought to within a factor e^-4 and e^0.5 of the median observation. Other laws: unchanged.
    """
    law = estimation.law
    if not law.terms or estimation.fixed:
        return centred
    observed = estimation.problem.observed
    level = float(np.median(observed if estimation.objective.space == "log" else np.log(observed)))
    coefficients = [law.index(term.coefficient) for term in law.terms]
    centred = centred.copy()
    centred[:, coefficients] = np.clip(centred[:, coefficients], level - 4.0, level + 0.5)
    return centred


def rows_floor(problem: Problem) -> float:
    """The objective that rounding alone leaves behind when a law fits a table exactly."""
    return float(np.sum(problem.weights if problem.weights.ndim == 1 else problem.weights[0])) * EXACT


def distinct(solutions: Solutions, floor: float) -> tuple[Minimum, ...]:
    """The distinct minima among converged lanes (among all, where none converged), best first."""
    usable = np.flatnonzero(np.isfinite(solutions.objective) & solutions.converged)
    lanes = usable if usable.size else np.flatnonzero(np.isfinite(solutions.objective))
    # the best objective counts even if its lane stopped short of rounding level
    lanes = np.union1d(lanes, [int(np.argmin(solutions.objective))])
    minima: list[Minimum] = []
    order = lanes[np.argsort(solutions.objective[lanes], kind="stable")]
    first = _settled(solutions)
    for lane in [first, *order[order != first]]:
        objective = float(solutions.objective[lane])
        if minima and objective <= minima[-1].objective * (1 + SAME) + floor:
            last = minima[-1]
            minima[-1] = Minimum(last.point, last.objective, last.starts + 1)
        elif len(minima) < KEPT_MINIMA:
            minima.append(Minimum(solutions.point[lane], objective, 1))
    return tuple(minima)


def _settled(solutions: Solutions) -> int:
    """Of the lanes that share the best objective to rounding, the one with the smallest gradient."""
    best = float(np.min(solutions.objective))
    return int(np.argmin(np.where(solutions.objective <= best * (1 + 1e-12), solutions.cosine, np.inf)))


def _near(solutions: Solutions, rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Points around the best lane, spread as its curvature allows: neighbouring minima lie there."""
    best = int(np.argmin(solutions.objective))
    free = lower < upper
    gauss = solutions.gauss[best][np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.diag(gauss), 1e-300))
    values, vectors = np.linalg.eigh(gauss / scale[:, None] / scale[None, :])
    spread = vectors / np.sqrt(np.maximum(values, 1e-6)) / scale[:, None]
    # one unit: the move that raises the quadratic model by the mean contribution of a row
    unit = np.sqrt(2 * max(solutions.objective[best], 0.0) / 50)
    offsets = np.zeros((64, lower.size))
    size = np.repeat([1.0, 4.0], 32)[:, None]
    offsets[:, free] = unit * size * (rng.standard_normal((64, int(free.sum()))) @ spread.T)
    return np.clip(np.concatenate([solutions.point[best][None], solutions.point[best] + offsets]), lower, upper)


def _joined(first: Solutions, second: Solutions) -> Solutions:
    return Solutions(
        **{
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in first.__dataclass_fields__
        }
    )


def _rows(problem: Problem, chosen: np.ndarray) -> Problem:
    return replace(
        problem,
        features={key: values[chosen] for key, values in problem.features.items()},
        observed=problem.observed[..., chosen],
        weights=problem.weights[..., chosen],
    )


def _condition(hessian: np.ndarray, gauss: np.ndarray, free: np.ndarray) -> float:
    matrix = hessian[np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.diag(gauss)[free], 1e-300))
    values = np.abs(np.linalg.eigvalsh(matrix / scale[:, None] / scale[None, :])) if matrix.size else np.ones(1)
    return float(min(values.max() / max(values.min(), 1e-300), 1e16))


def _at_bound(law: Law, point: np.ndarray, estimation: Estimation) -> tuple[str, ...]:
    slack = 1e-9
    return tuple(
        name
        for name, value, low, high in zip(
            law.names, point, estimation.box.lower, estimation.box.upper, strict=True
        )
        if low < high and (value <= low + slack or value >= high - slack)
    )
