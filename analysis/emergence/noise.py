"""Noise of an accuracy: binomial over items, inflated by what differs between runs of the same scale."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Design:
    """Where a task was measured; everything but the number of correct items.

    Attributes:
      x_K: distinct scales, rising; log10, or minus the loss.
      scale_R: index into x_K of each row.
      n_R: items scored in each row.
      chance: accuracy of a guess.
    """

    x_K: np.ndarray
    scale_R: np.ndarray
    n_R: np.ndarray
    chance: float

    @property
    def scales(self) -> int:
        return len(self.x_K)

    @property
    def rows(self) -> int:
        return len(self.n_R)

    @property
    def gather_RK(self) -> np.ndarray:
        """Indicator of a row's scale; rows @ gather sums rows into scales."""
        return (self.scale_R[:, None] == np.arange(self.scales)).astype(float)

    @property
    def n_K(self) -> np.ndarray:
        return self.n_R @ self.gather_RK

    @property
    def span(self) -> float:
        return float(self.x_K[-1] - self.x_K[0])


class Overdispersion(NamedTuple):
    """Variance over its binomial value. `row`: of single rows; `scale`: of the pooled rows of one scale."""

    row_B: Any
    scale_B: Any


def pooled(n_R, gather_RK, correct_BR, over_B=1.0):
    """Accuracy per scale and its binomial variance, both (B, K).

    The variance is that of (correct + 2) of (n + 4) (Agresti and Coull 1998), so that a scale with no success
    does not weigh too much. Where seeds differ, `over_B` items say as much as one: both numbers count so many times.
    """
    n_K = n_R @ gather_RK
    correct_BK = correct_BR @ gather_RK
    more = jnp.broadcast_to(over_B, correct_BR.shape[:1])[:, None]
    pilot_BK = (correct_BK + 2.0 * more) / (n_K + 4.0 * more)
    return correct_BK / n_K, pilot_BK * (1.0 - pilot_BK) / n_K


def lowest_floor(n_R, gather_RK, correct_BR, chance):
    """Lowest floor that a curve of chance-corrected accuracy may have; (B,).

    It is chance, or, where the smallest third of scales lies significantly below chance (a bias of the answer
    format), two standard errors above what was measured there.
    """
    scales = gather_RK.shape[1]
    small_R = gather_RK[:, : max(scales // 3, 1)].sum(axis=1)
    items = n_R @ small_R
    accuracy_B = (correct_BR @ small_R) / items
    return jnp.minimum(
        chance, accuracy_B + 2.0 * jnp.sqrt((accuracy_B * (1.0 - accuracy_B) + 0.25 / items) / items)
    )


def within_scales(n_R, gather_RK, correct_BR, variance_BK):
    """Spread of rows around their scale's mean, over its binomial value; (B,), 0 where no scale has two rows."""
    rows, scales = gather_RK.shape
    if rows == scales:
        return jnp.zeros(len(correct_BR))
    n_K = n_R @ gather_RK
    accuracy_BR = (correct_BR @ gather_RK) / n_K @ gather_RK.T
    item_variance_BR = (variance_BK * n_K) @ gather_RK.T
    return (n_R * (correct_BR / n_R - accuracy_BR) ** 2 / item_variance_BR).sum(axis=1) / (rows - scales)


def draw(design: Design, mean_BK: np.ndarray, over: Overdispersion, rng: np.random.Generator) -> np.ndarray:
    """Beta-binomial counts (B, R) with the given means per scale.

    What rows of one scale share (`over.scale` beyond `over.row`) is drawn once per scale; the rest per row.
    A beta with mean p and correlation rho has variance p(1-p)rho; n items of it have 1+(n-1)rho times the
    binomial variance.
    """
    shared_BK = np.clip((over.scale_B - over.row_B)[:, None] / design.n_K, 0.0, 0.9)
    mean_BK = _beta(np.clip(mean_BK, 0.0, 1.0), shared_BK, rng)
    own_BR = np.clip((over.row_B[:, None] - 1.0) / np.maximum(design.n_R - 1.0, 1.0), 0.0, 0.9)
    return rng.binomial(design.n_R.astype(np.int64), _beta(mean_BK[:, design.scale_R], own_BR, rng)).astype(
        float
    )


def _beta(mean: np.ndarray, correlation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    correlation = np.broadcast_to(correlation, mean.shape)
    random = (correlation > 1e-12) & (mean > 1e-9) & (mean < 1.0 - 1e-9)
    if not random.any():
        return mean
    concentration = 1.0 / correlation[random] - 1.0
    out = mean.copy()
    out[random] = rng.beta(mean[random] * concentration, (1.0 - mean[random]) * concentration)
    return out
