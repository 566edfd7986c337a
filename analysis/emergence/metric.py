"""Does a continuous metric break where accuracy does?

Loss per token: a power law is a straight line in log(loss - E) against log scale. E, the irreducible loss, is
not known, so that value is taken that makes a break look least (least favourable). Brier and edit distance are
held against a straight line as they are. The same statistics as for accuracy; noise is Gaussian of unknown
size, so their distribution depends on the scales alone and is simulated once.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from analysis.emergence.breaks import break_statistics
from analysis.emergence.settings import MINIMUM_SCALES

IRREDUCIBLE_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)
REPLICATES = 4999
FREEDOM_SPENT = 4


@dataclass(frozen=True)
class MetricCheck:
    """p-value of a break in one continuous metric, upward meaning better faster than before."""

    metric: str
    p: float
    irreducible: float | None


def _means(x_R: np.ndarray, y_R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    x_K, scale_R, count_K = np.unique(x_R, return_inverse=True, return_counts=True)
    y_K = np.bincount(scale_R, y_R) / count_K
    return x_K, y_K, count_K.astype(float), float(((y_R - y_K[scale_R]) ** 2).sum())


@jax.jit
def _studentized(x_K, y_BK, count_K, within_B, within_freedom):
    breaks = break_statistics(x_K, y_BK, jnp.broadcast_to(1.0 / count_K, y_BK.shape))
    weight_K = count_K
    offset_K = x_K - (weight_K * x_K).sum() / weight_K.sum()
    mean_B = y_BK @ weight_K / weight_K.sum()
    slope_B = y_BK @ (weight_K * offset_K) / (weight_K * offset_K**2).sum()
    chi2_B = (weight_K * (y_BK - mean_B[:, None] - slope_B[:, None] * offset_K) ** 2).sum(axis=1)
    freedom = len(x_K) - FREEDOM_SPENT + within_freedom
    left_B = jnp.maximum(chi2_B - breaks.explained_B, 1e-9 * chi2_B) + within_B
    # A curve without noise is a law to rounding: a millionth of its range is no break.
    error_B = jnp.sqrt(left_B / freedom + (1e-6 * jnp.ptp(y_BK, axis=1)) ** 2)
    return jnp.stack([breaks.bend_B, breaks.forecast_B, breaks.jump_B]) / error_B


@functools.lru_cache(maxsize=256)
def _reference(x_K: tuple[float, ...], count_K: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted null values of the three statistics (3, B), and of their smallest p-value (B,)."""
    rng = np.random.default_rng([seed, 81])
    counts = np.array(count_K)
    y_BK = rng.standard_normal((REPLICATES, len(x_K))) / np.sqrt(counts)
    within = float(counts.sum() - len(counts))
    within_B = rng.chisquare(within, REPLICATES) if within else np.zeros(REPLICATES)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        null = np.asarray(_studentized(np.array(x_K), y_BK, counts, within_B, within))
    ranks = REPLICATES - np.argsort(np.argsort(null, axis=1), axis=1)
    return np.sort(null, axis=1), np.sort(ranks.min(axis=0)) / (REPLICATES + 1.0)


def break_p(x_R: np.ndarray, y_R: np.ndarray, seed: int) -> float:
    """p-value of an upward break of y against x: smallest p of the statistics, held against its own null."""
    x_K, y_K, count_K, within = _means(x_R, y_R)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        freedom = float(count_K.sum() - len(count_K))
        observed = np.asarray(_studentized(x_K, y_K[None], count_K, np.array([within]), freedom))[:, 0]
    null, smallest_B = _reference(tuple(x_K.tolist()), tuple(count_K.tolist()), seed)
    above = [REPLICATES - np.searchsorted(part, value) for part, value in zip(null, observed, strict=True)]
    smallest = (1.0 + min(above)) / (REPLICATES + 1.0)
    return float((1.0 + np.searchsorted(smallest_B, smallest + 1e-12)) / (REPLICATES + 1.0))


def check(metric: str, x_R: np.ndarray, value_R: np.ndarray, seed: int) -> MetricCheck | None:
    """Break test of one metric, smaller meaning better; None with too few scales or no variation to test."""
    known = np.isfinite(value_R)
    x_R, value_R = x_R[known], value_R[known]
    if len(np.unique(x_R)) < MINIMUM_SCALES or np.ptp(value_R) == 0.0:
        return None
    if metric != "nll":
        return MetricCheck(metric, break_p(x_R, -value_R, seed), None)
    if value_R.min() <= 0.0:
        value_R = value_R + 1e-6 * value_R.max()
    shares = [share * value_R.min() for share in IRREDUCIBLE_SHARES]
    p, irreducible = max((break_p(x_R, -np.log(value_R - share), seed), -share) for share in shares)
    return MetricCheck(metric, p, -irreducible)
