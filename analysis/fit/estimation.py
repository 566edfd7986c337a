"""What is estimated from what: a law, a table made ready for the solver, and the model at one point."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from analysis.fit.objectives import FitObjective
from analysis.fit.solver import Box, Problem, bucket, float64_on_cpu
from analysis.laws.base import Centring, Columns, Law


@dataclass(frozen=True)
class Estimation:
    """A law to be fitted to a table: centred features, observations in the residuals' space, bounds.

    Attributes:
      centring: leads from internal to centred parameters, in which `problem` and `box` are.
      fixed: names of the parameters that are held.
    """

    law: Law
    objective: FitObjective
    problem: Problem
    centring: Centring
    box: Box
    fixed: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.problem.observed.size

    @property
    def free(self) -> int:
        """How many parameters are not held."""
        return len(self.law.parameters) - len(self.fixed)

    def residuals(self, point: np.ndarray) -> np.ndarray:
        """Observed less predicted, in the residuals' space, at one centred point."""
        return self.problem.observed - predicted(self.law, self.problem, point)

    def reported(self, point: np.ndarray) -> float:
        """The objective as it is reported (see analysis/fit/objectives.py) at one centred point."""
        return float(self.objective.value(self.residuals(point), self.problem.weights))

    def natural(self, point: np.ndarray) -> np.ndarray:
        return self.law.to_natural(self.centring.backward(point))

    def centred(self, natural: np.ndarray) -> np.ndarray:
        return self.centring.forward(self.law.to_internal(natural))


def estimation_of(
    law: Law, columns: Columns, objective: FitObjective, fixed: Mapping[str, float], *, centred: bool = True
) -> Estimation:
    """Centre the columns and lay out bounds; `fixed` parameters are held at natural values.

    A coefficient is centred together with its exponent: where it is held, centring is off.
    """
    features = law.features(columns)
    moving = any(
        law.parameters[law.index(name)].slopes or law.parameters[law.index(name)].axis for name in fixed
    )
    centring = law.centre(features, enabled=centred and not moving)
    observed = np.asarray(columns[law.target], dtype=np.float64)
    observed = np.log(observed) if objective.space == "log" else observed
    lower, upper = law.bounds()
    for name, value in fixed.items():
        position = law.index(name)
        internal = np.log(max(value, 1e-300)) if law.parameters[position].positive else value
        lower[position] = upper[position] = internal
    weights = np.asarray(columns.get("weight", np.ones(observed.shape[0])), dtype=np.float64)
    scale = float(np.std(observed)) or 1.0
    return Estimation(
        law, objective,
        Problem(law, objective.space, centring.apply(features), observed, weights, objective.asymmetry), centring,
        Box(lower, upper, objective.target_delta(scale)), tuple(fixed),
    )  # fmt: skip


def predicted(law: Law, problem: Problem, point: np.ndarray) -> np.ndarray:
    """The model in the residuals' space at one centred point."""
    return _model(law, problem, point)[0]


def jacobian(law: Law, problem: Problem, point: np.ndarray) -> np.ndarray:
    """Derivatives of `predicted` by each parameter, shape (rows, P)."""
    return _model(law, problem, point)[1]


def _model(law: Law, problem: Problem, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = problem.observed.shape[-1]
    padding = (0, bucket(rows) - rows)
    features = {key: np.pad(values, padding, mode="edge") for key, values in problem.features.items()}
    with float64_on_cpu():
        value, columns = (np.asarray(part)[..., :rows] for part in _compiled(law)(np.asarray(point), features))
    if law.logarithmic and problem.space == "linear":
        value = np.exp(value)
        columns = columns * value
    return value, columns.T


@functools.lru_cache(maxsize=64)
def _compiled(law: Law):
    """The law's value and its derivative by each parameter, (rows,) and (P, rows), as one compiled program."""

    def both(point, features):
        rows = next(iter(features.values())).shape

        def model(*point):
            return jnp.broadcast_to(law.evaluate(point, features), rows)

        point = tuple(point)
        ones, zeros = jnp.ones(()), jnp.zeros(())
        tangents = [
            tuple(ones if other == i else zeros for other in range(len(point))) for i in range(len(point))
        ]
        return model(*point), jnp.stack([jax.jvp(model, point, tangent)[1] for tangent in tangents])

    return jax.jit(both)
