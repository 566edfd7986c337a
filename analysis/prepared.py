"""A table made ready for the solver, and the model at one point of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from analysis.laws.base import Centring, Columns, Law
from analysis.objectives import Objective
from analysis.solver import Box, Problem, float64_on_cpu


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


def predicted(law: Law, problem: Problem, theta: np.ndarray) -> np.ndarray:
    """The model in the residuals' space at one centred internal point."""
    with float64_on_cpu():
        value = np.asarray(law.evaluate(tuple(theta), problem.design)) + np.zeros(problem.y.shape[-1])
    return np.exp(value) if law.logarithmic and problem.space == "linear" else value


def jacobian(law: Law, problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Derivatives of `predicted` by each parameter, shape (rows, P)."""
    with float64_on_cpu():
        base = jax.numpy.asarray(theta)
        tangents = np.eye(theta.size)
        model = lambda point: law.evaluate(tuple(point), problem.design) + np.zeros(problem.y.shape[-1])  # noqa: E731
        columns = [np.asarray(jax.jvp(model, (base,), (jax.numpy.asarray(row),))[1]) for row in tangents]
    result = np.stack(columns, axis=1)
    if law.logarithmic and problem.space == "linear":
        result = result * predicted(law, problem, theta)[:, None]
    return result
