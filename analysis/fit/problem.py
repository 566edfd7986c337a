"""A table made ready for the solver, and the model at one point of it."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from analysis.fit.objectives import Objective
from analysis.fit.solver import Box, Problem, bucket, float64_on_cpu
from analysis.laws.base import Centring, Columns, Law


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
        """The objective as it is reported (see analysis/fit/objectives.py) at one centred internal point."""
        residuals = self.problem.y - predicted(self.law, self.problem, theta)
        return float(self.objective.value(residuals, self.problem.weights))

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
    return _model(law, problem, theta)[0]


def jacobian(law: Law, problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Derivatives of `predicted` by each parameter, shape (rows, P)."""
    return _model(law, problem, theta)[1]


def _model(law: Law, problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = problem.y.shape[-1]
    padding = (0, bucket(rows) - rows)
    design = {key: np.pad(values, padding, mode="edge") for key, values in problem.design.items()}
    with float64_on_cpu():
        value, columns = (np.asarray(part)[..., :rows] for part in _compiled(law)(np.asarray(theta), design))
    if law.logarithmic and problem.space == "linear":
        value = np.exp(value)
        columns = columns * value
    return value, columns.T


@functools.lru_cache(maxsize=64)
def _compiled(law: Law):
    """The law's value and its derivative by each parameter, (rows,) and (P, rows), as one compiled program."""

    def both(theta, design):
        rows = next(iter(design.values())).shape

        def model(*point):
            return jnp.broadcast_to(law.evaluate(point, design), rows)

        point = tuple(theta)
        ones, zeros = jnp.ones(()), jnp.zeros(())
        tangents = [
            tuple(ones if other == i else zeros for other in range(len(point))) for i in range(len(point))
        ]
        return model(*point), jnp.stack([jax.jvp(model, point, tangent)[1] for tangent in tangents])

    return jax.jit(both)
