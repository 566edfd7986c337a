"""A law's value where nothing was measured, and the interval in which the next run may land. Q quantiles of noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fit.checks import with_derived
from analysis.fit.solver import float64_on_cpu
from analysis.laws.base import Law
from analysis.quantiles import finite_quantiles
from core.errors import BadInput

MOST_AT_ONCE = 1 << 23  # outcomes of a prediction that are in memory at once
ALWAYS_READ = ("params", "tokens", "flops")  # other inputs follow from these


def predict_law(law: Law, natural: np.ndarray, columns: Mapping[str, Any]) -> np.ndarray:
    """A law's values for natural parameters of shape (R, P) at n rows of inputs: shape (R, n). Inputs may also have
    shape (R, n), one row of inputs for each row of parameters.

    Raises:
      BadInput: an input is missing, or is not positive where its logarithm is needed.
    """
    inputs, _ = with_derived(law.inputs, _read(law, columns))
    for name in law.inputs:
        if name not in inputs:
            raise BadInput(
                f"law {law.name} needs {name} to predict; given are {', '.join(sorted(inputs)) or 'none'}"
            )
        if not np.all(np.isfinite(inputs[name])) or (name in law.log_columns and np.any(inputs[name] <= 0)):
            raise BadInput(f"{name} must be finite and above 0 to predict; it is {inputs[name].min():g}")
    read = {name: inputs[name] for name in law.inputs}
    rows = np.broadcast_shapes(*(values.shape for values in read.values()))
    features = law.features({name: np.broadcast_to(values, rows) for name, values in read.items()})
    internal = tuple(column[:, None] for column in law.to_internal(np.atleast_2d(natural)).T)
    with float64_on_cpu():
        value = np.asarray(law.evaluate(internal, features))
    value = np.broadcast_to(value, np.broadcast_shapes((np.atleast_2d(natural).shape[0], 1), rows))
    return np.exp(value) - law.shift if law.logarithmic else np.array(value)


def prediction_interval(
    law: Law, draws: np.ndarray, noise_Q: np.ndarray, columns: Mapping[str, Any], level: float, logged: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end at each row: quantiles over every draw of the parameters with every value of the noise.

    Args:
      draws: natural parameters, shape (R, P).
      noise_Q: what is added to a prediction, equally likely values; to its logarithm where `logged`.

    Raises:
      BadInput: `level` is not within 0 and 1, or what `predict_law` refuses.
    """
    if not 0 < level < 1:
        raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")
    inputs, row_of = _distinct_rows(_read(law, columns))
    values = predict_law(law, draws, inputs)
    centre_Rn = np.log(values) if logged else values
    ends = np.empty((2, values.shape[1]))
    step = max(1, MOST_AT_ONCE // (draws.shape[0] * noise_Q.size))
    for start in range(0, ends.shape[1], step):
        rows = slice(start, start + step)
        landed = centre_Rn[:, None, rows] + noise_Q[None, :, None]
        with np.errstate(invalid="ignore"):
            ends[:, rows] = finite_quantiles(
                landed.reshape(-1, landed.shape[2]), [0.5 - level / 2, 0.5 + level / 2]
            )
    low, high = (np.exp(ends) if logged else ends)[:, row_of]
    return low, high


def _read(law: Law, columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Those of the columns that the law's inputs are or follow from, float64, with at least one row."""
    wanted = {*law.inputs, *ALWAYS_READ}
    return {
        name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in columns.items() if name in wanted
    }


def _distinct_rows(columns: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The rows without repeats, and the number among them of each row: repeated runs share their prediction."""
    rows = np.stack(np.broadcast_arrays(*columns.values())) if columns else np.zeros((0, 1))
    distinct, row_of = np.unique(rows, axis=1, return_inverse=True)
    if distinct.shape[1] == rows.shape[1]:
        distinct, row_of = rows, np.arange(rows.shape[1])
    return dict(zip(columns, distinct, strict=True)), row_of.reshape(-1)
