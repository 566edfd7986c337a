"""From many starting points to one optimum with a certificate: what was tried, what was reached, what else is there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Centring, Columns, Law
from analysis.objectives import Objective
from analysis.solver import Box, Problem, Solutions, float64_on_cpu, solve

SAME = 1e-7  # relative difference of objectives below which two lanes are in the same minimum
SCREENING_ROWS = (
    4096  # beyond this, all starts run on a sample of rows, and the minima found there on every row
)
DIRECT_STARTS = 192  # starts that also run without annealing, so that local minima are found, not avoided
KEPT_MINIMA = 32


@dataclass(frozen=True)
class Minimum:
    """One local minimum: internal, centred parameters; Huber objective of the solver; how many starts ended there."""

    theta: np.ndarray
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

    def warnings(self, law: Law) -> list[str]:
        """What a careful reader is told about this optimum."""
        said = []
        if self.cosine > 1e-6:
            said.append(f"the optimum is not at rounding level (scale-free gradient {self.cosine:.1e})")
        if self.at_bound:
            said.append(f"at a bound: {', '.join(self.at_bound)}")
        if self.reached_best < 2 and self.tried > 20:
            said.append(f"only {self.reached_best} of {self.tried} starts reached the best objective")
        if self.condition > 1e10:
            said.append(f"parameters nearly trade off (condition number {self.condition:.1e})")
        near = [m for m in self.minima[1:] if m.objective <= 1.01 * self.minima[0].objective]
        if near:
            said.append(f"{len(near)} other local minima lie within 1% of the best objective")
        return said

    def to_json(self, prepared: "Prepared") -> dict[str, object]:
        """The `starts` entry of fit.json."""
        law = prepared.law
        return {
            "tried": self.tried,
            "reached_best": self.reached_best,
            "converged": self.converged,
            "other_minima": [
                {
                    "objective": prepared.reported(minimum.theta),
                    "parameters": dict(zip(law.names, prepared.natural(minimum.theta).tolist(), strict=True)),
                    "starts": minimum.starts,
                }
                for minimum in self.minima[1:]
            ],
            "gradient": self.cosine,
            "at_bound": list(self.at_bound),
            "condition": self.condition,
            "screened_on_rows": self.screened_on,
        }


@dataclass(frozen=True)
class Prepared:
    """A table made ready for the solver: centred design, observations in the residuals' space, bounds."""

    law: Law
    objective: Objective
    problem: Problem
    centring: Centring
    box: Box
    fixed: tuple[str, ...]

    def reported(self, theta: np.ndarray) -> float:
        """The objective as it is reported (see analysis/objectives.py) at one centred internal point."""
        problem = self.problem
        with float64_on_cpu():
            value = np.asarray(self.law.evaluate(tuple(theta), problem.design))
        model = np.exp(value) if self.law.logarithmic and problem.space == "linear" else value
        return float(self.objective.value(problem.y - model, problem.weights))

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return self.law.to_natural(self.centring.backward(theta))

    def centred(self, natural: np.ndarray) -> np.ndarray:
        return self.centring.forward(self.law.to_internal(natural))


def prepare(
    law: Law, columns: Columns, objective: Objective, fixed: Mapping[str, float], *, centred: bool = True
) -> Prepared:
    """Centre the columns and lay out bounds; `fixed` parameters (natural values) are pinned.

    A pinned coefficient of a free exponent is a pin in uncentred coordinates only: it switches centring off.
    """
    design = law.design(columns)
    moving = any(
        law.parameters[law.index(name)].slopes or law.parameters[law.index(name)].axis for name in fixed
    )
    centring = law.centre(design, enabled=centred and not moving)
    y = np.asarray(columns[law.target], dtype=np.float64)
    y = np.log(y) if objective.space == "log" else y
    lower, upper = law.bounds()
    for name, value in fixed.items():
        position = law.index(name)
        internal = np.log(max(value, 1e-300)) if law.parameters[position].positive else value
        lower[position] = upper[position] = internal
    weights = np.asarray(columns.get("weight", np.ones(y.shape[0])), dtype=np.float64)
    scale = float(np.std(y)) or 1.0
    return Prepared(
        law, objective, Problem(law, objective.space, centring.apply(design), y, weights), centring,
        Box(lower, upper, objective.target_delta(scale)), tuple(fixed),
    )  # fmt: skip


def multistart(prepared: Prepared, starts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, Certificate]:
    """Fit from every start (internal, uncentred, shape (S, P)); the best point and its certificate."""
    law, problem = prepared.law, prepared.problem
    centred = sensible(prepared, prepared.centring.forward(starts))
    rows = problem.y.shape[0]
    rng = np.random.default_rng(seed)
    screening, screened_on = problem, rows
    if rows > SCREENING_ROWS:
        screened_on = SCREENING_ROWS // 4
        chosen = np.sort(rng.choice(rows, screened_on, replace=False))
        screening = _rows(problem, chosen)
    annealed = solve(screening, centred, prepared.box)
    if prepared.objective.robust == "l2":
        found = annealed
    else:
        near = _near(annealed, rng, prepared.box.lower, prepared.box.upper)
        some = centred[np.sort(rng.choice(len(centred), min(DIRECT_STARTS, len(centred)), replace=False))]
        direct = solve(screening, np.concatenate([near, some]), prepared.box, anneal=False)
        found = _joined(annealed, direct)
    minima = distinct(found, rows_floor(problem))
    if screened_on < rows:
        kept = np.array([minimum.theta for minimum in minima])[:8]
        found = solve(problem, kept, prepared.box)
        minima = distinct(found, rows_floor(problem))
    best = minima[0]
    chosen_lane = int(np.argmin(found.objective))
    condition = _condition(found.hessian[chosen_lane], found.gauss[chosen_lane], prepared.box.free)
    tolerance = SAME * best.objective + rows_floor(problem)
    certificate = Certificate(
        tried=len(centred),
        reached_best=int(np.sum(annealed.objective <= annealed.objective.min() + tolerance)),
        converged=int(np.sum(annealed.converged)),
        minima=minima,
        cosine=float(found.cosine[chosen_lane]),
        at_bound=_at_bound(law, found.theta[chosen_lane], prepared),
        condition=condition,
        screened_on=screened_on,
        hessian=found.hessian[chosen_lane],
    )
    return found.theta[chosen_lane], certificate


def sensible(prepared: Prepared, centred: np.ndarray) -> np.ndarray:
    """Starts of a sum of powers whose terms are neither vanishing nor overwhelming at the centre of the table.

    A term that is 1e-18 of the loss has no gradient that float64 can see, and a start there never moves; each
    coefficient is brought to within a factor e^-4 and e^0.5 of the median observation. Other laws: unchanged.
    """
    law = prepared.law
    if not law.terms or prepared.fixed:
        return centred
    y = prepared.problem.y
    level = float(np.median(y if prepared.objective.space == "log" else np.log(y)))
    coefficients = [law.index(term.coefficient) for term in law.terms]
    centred = centred.copy()
    centred[:, coefficients] = np.clip(centred[:, coefficients], level - 4.0, level + 0.5)
    return centred


def rows_floor(problem: Problem) -> float:
    """The objective that rounding alone leaves behind when a law fits a table exactly."""
    return float(np.sum(problem.weights if problem.weights.ndim == 1 else problem.weights[0])) * 1e-26


def distinct(found: Solutions, floor: float) -> tuple[Minimum, ...]:
    """The distinct minima among converged lanes (among all, where none converged), best first."""
    usable = np.flatnonzero(np.isfinite(found.objective) & found.converged)
    lanes = usable if usable.size else np.flatnonzero(np.isfinite(found.objective))
    # the best objective counts even if its lane stopped short of rounding level
    lanes = np.union1d(lanes, [int(np.argmin(found.objective))])
    minima: list[Minimum] = []
    for lane in lanes[np.argsort(found.objective[lanes], kind="stable")]:
        objective = float(found.objective[lane])
        if minima and objective <= minima[-1].objective * (1 + SAME) + floor:
            last = minima[-1]
            minima[-1] = Minimum(last.theta, last.objective, last.starts + 1)
        elif len(minima) < KEPT_MINIMA:
            minima.append(Minimum(found.theta[lane], objective, 1))
    return tuple(minima)


def _near(found: Solutions, rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Points around the best lane, spread as its curvature allows: neighbouring minima lie there."""
    best = int(np.argmin(found.objective))
    free = lower < upper
    gauss = found.gauss[best][np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.diag(gauss), 1e-300))
    values, vectors = np.linalg.eigh(gauss / scale[:, None] / scale[None, :])
    spread = vectors / np.sqrt(np.maximum(values, 1e-6)) / scale[:, None]
    # one unit: the move that raises the quadratic model by the mean contribution of a row
    unit = np.sqrt(2 * max(found.objective[best], 0.0) / 50)
    offsets = np.zeros((64, lower.size))
    size = np.repeat([1.0, 4.0], 32)[:, None]
    offsets[:, free] = unit * size * (rng.standard_normal((64, int(free.sum()))) @ spread.T)
    return np.clip(np.concatenate([found.theta[best][None], found.theta[best] + offsets]), lower, upper)


def _joined(one: Solutions, other: Solutions) -> Solutions:
    return Solutions(
        **{
            name: np.concatenate([getattr(one, name), getattr(other, name)])
            for name in one.__dataclass_fields__
        }
    )


def _rows(problem: Problem, chosen: np.ndarray) -> Problem:
    design = {key: values[chosen] for key, values in problem.design.items()}
    return Problem(problem.law, problem.space, design, problem.y[..., chosen], problem.weights[..., chosen])


def _condition(hessian: np.ndarray, gauss: np.ndarray, free: np.ndarray) -> float:
    matrix = hessian[np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.diag(gauss)[free], 1e-300))
    values = np.abs(np.linalg.eigvalsh(matrix / scale[:, None] / scale[None, :])) if matrix.size else np.ones(1)
    return float(min(values.max() / max(values.min(), 1e-300), 1e16))


def _at_bound(law: Law, theta: np.ndarray, prepared: Prepared) -> tuple[str, ...]:
    slack = 1e-9
    return tuple(
        name
        for name, value, low, high in zip(law.names, theta, prepared.box.lower, prepared.box.upper, strict=True)
        if low < high and (value <= low + slack or value >= high - slack)
    )
