"""What a fit makes small: Huber, absolute or squared residuals, of the loss or of its logarithm.

Huber(delta) of r is r^2 / 2 within delta and delta (|r| - delta / 2) outside (Huber 1964). `l1` is sum |r|, the limit
of Huber / delta as delta falls to zero; `l2` is sum r^2, twice the Huber objective at infinite delta. Objectives are
summed over rows. The engine sees one family, Huber with its delta: the constant in front moves no optimum.

`asymmetry` is what a row counts whose loss lies below its prediction, where one above it counts 1. Training can only go
wrong: a bad learning rate or a short warmup raise a loss and nothing lowers it below what size and data allow. With an
asymmetry above 1 the law follows the lower edge of such a table. With `l1` it is the quantile 1 / (1 + asymmetry)
(Koenker and Bassett 1978), with `l2` the expectile of the same number (Newey and Powell 1987). Published: asymmetric
absolute error, weight 10, is the default of K. Takano's toolkit `chinchilla` (github.com/kyo-takano/chinchilla,
docs/changes.md, section 1).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from core.errors import BadInput

MOST_ASYMMETRY = 1000.0
Robust = Literal["huber", "l1", "l2"]
Space = Literal["log", "linear"]


@dataclass(frozen=True)
class FitObjective:
    """An objective: `robust` one of huber, l1, l2; `delta` of the Huber function; residuals in `space`; `asymmetry`,
    the weight of an over-predicted row over that of an under-predicted one.

    Raises:
      BadInput: a name or a delta that is not allowed.
    """

    robust: str = "huber"
    delta: float = 1e-3
    space: str = "log"
    asymmetry: float = 1.0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("robust", self.robust, get_args(Robust)),
            ("space", self.space, get_args(Space)),
        ):
            if value not in allowed:
                raise BadInput(f"{name} {value!r} is unknown; allowed are {', '.join(allowed)}")
        if self.robust == "huber" and not (np.isfinite(self.delta) and self.delta > 0):
            raise BadInput(f"delta {self.delta!r} is not allowed; it is a finite number above 0")

        if not (np.isfinite(self.asymmetry) and 1 / MOST_ASYMMETRY <= self.asymmetry <= MOST_ASYMMETRY):
            raise BadInput(
                f"asymmetry {self.asymmetry!r} is not allowed; it is a number from {1 / MOST_ASYMMETRY:g} to "
                f"{MOST_ASYMMETRY:g}"
            )

    def value(self, residuals: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
        """The objective of residuals (observed less predicted) along the last axis, each row weighted."""
        weights = np.ones(residuals.shape[-1]) if weights is None else weights
        weights = weights * side_weights(residuals < 0, self.asymmetry)
        size = np.abs(residuals)
        if self.robust == "l1":
            rows = size
        elif self.robust == "l2":
            rows = size**2
        else:
            inner = np.minimum(size, self.delta)
            rows = inner * (size - inner / 2)
        return (weights * rows).sum(axis=-1)

    def target_delta(self, scale: float) -> float:
        """The delta that the solver ends at, given the residuals' scale.

        For `l1` it is so small that little more than the rows which the optimum passes through lie within it; the
        last step, to the vertex itself, is that of analysis/fit/least_absolute.py.
        """
        if self.robust == "l1":
            return 1e-6 * scale
        return self.delta if self.robust == "huber" else np.inf


def side_weights(over_predicted: np.ndarray, asymmetry: float) -> np.ndarray | float:
    """What each row counts by the side that it lies on; 1 where both sides count alike."""
    return 1.0 if asymmetry == 1.0 else np.where(over_predicted, asymmetry, 1.0)
