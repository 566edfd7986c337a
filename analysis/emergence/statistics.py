"""All test statistics of accuracy against scale, for many data sets of one design at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.emergence.breaks import break_statistics
from analysis.emergence.noise import Design, Overdispersion, lowest_floor, pooled, within_scales
from analysis.emergence.settings import Settings
from analysis.emergence.shapes import Bounds, CurveFit, bounds, fit_flat_then_rise, fit_line, fit_logistics

BLOCK = 512
# The spread around the best of all curves has about this many fewer degrees of freedom than scales (measured
# on binomial lines: the mean of the smallest sum of squares over 12 scales is 6.6).
PARAMETERS_SPENT = 5.5
# Weight, in degrees of freedom, of the expectation that one run differs from another by item noise alone:
# with 5 or 6 scales and one seed the table says next to nothing about over-dispersion.
BINOMIAL_PRIOR = 3.0


class Families(NamedTuple):
    """Bounds of the logistics of each hypothesis, for one design."""

    onset_null: Bounds
    sharp_null: Bounds
    sharp: Bounds


class Evaluation(NamedTuple):
    """Statistics (B,), large where the null is strained, and the fits behind them.

    Attributes:
      bend, forecast, jump: one-sided break statistics against the straight line, in standard errors.
      smooth: fall of the weighted sum of squares, over the dispersion, from the best smooth curve of the onset
        null, line or S-curve, to the best line with one upward bend or jump, narrow logistic or flat-then-rise.
      sharp_ratio: the same fall from the best line or wide logistic to the best narrow logistic or
        flat-then-rise.
      over: over-dispersion, at least 1.
      lowest: lowest floor allowed.
    """

    bend_B: Any
    forecast_B: Any
    jump_B: Any
    smooth_B: Any
    sharp_ratio_B: Any
    over: Overdispersion
    line: CurveFit
    onset_null: CurveFit
    sharp_null: CurveFit
    sharp: CurveFit
    flat_then_rise: CurveFit
    bend_at_B: Any


def families(design: Design, settings: Settings, axis: str) -> Families:
    """Where each hypothesis may put its logistic. Grid sizes depend on the number of scales alone."""
    unit = settings.unit(axis)
    first, last, span = float(design.x_K[0]), float(design.x_K[-1]), design.span
    gap = float(np.median(np.diff(design.x_K)))
    w0, onset_width = settings.sharp_width(axis, span), settings.onset_width * unit
    between = int(np.clip(2 * (design.scales - 1) + 1, 9, 48))
    return Families(
        onset_null=bounds(
            (first - 0.5 * onset_width, first + 0.5 * span), (onset_width, 4.0 * max(onset_width, span)), 10, 4
        ),
        sharp_null=bounds((first - 0.5 * w0, last + 0.5 * w0), (w0, 4.0 * max(w0, span)), 14, 4),
        sharp=bounds((first, last), (min(0.5 * gap, 0.25 * w0), w0), between, 4),
    )


def evaluate(design: Design, correct_BR: np.ndarray, settings: Settings, axis: str) -> Evaluation:
    """Compute every statistic of the onset and the sharpness test.

    One program per number of scales and rows, compiled for blocks of BLOCK data sets, in float64 on the CPU.

    Args:
      correct_BR: correct items of each row, one data set a line.
    """
    chosen = families(design, settings, axis)
    blocks = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for start in range(0, len(correct_BR), BLOCK):
            block_BR = correct_BR[start : start + BLOCK]
            size = len(block_BR)
            block_BR = np.concatenate([block_BR, np.repeat(block_BR[-1:], BLOCK - size, axis=0)])
            result = _evaluate(design.x_K, design.n_R, design.gather_RK, block_BR, design.chance, chosen)
            blocks.append((size, result))
        pieces = [
            jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:size], result) for size, result in blocks
        ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


@jax.jit
def _evaluate(x_K, n_R, gather_RK, correct_BR, chance, chosen: Families) -> Evaluation:
    rows, scales = gather_RK.shape
    y_BK, variance_BK = pooled(n_R, gather_RK, correct_BR)
    if rows > scales:
        between_B = jnp.maximum(within_scales(n_R, gather_RK, correct_BR, variance_BK), 1.0)
        y_BK, variance_BK = pooled(n_R, gather_RK, correct_BR, between_B)
    weight_BK = 1.0 / variance_BK
    lowest_B = lowest_floor(n_R, gather_RK, correct_BR, chance)
    line = fit_line(x_K, y_BK, weight_BK)
    onset_null, sharp_null, sharp = fit_logistics(x_K, y_BK, weight_BK, lowest_B, chosen)
    flat = fit_flat_then_rise(x_K, y_BK, weight_BK)
    breaks = break_statistics(x_K, y_BK, variance_BK)

    broken_B = line.chi2_B - jnp.maximum(jnp.maximum(breaks.bend_B, breaks.jump_B), 0.0) ** 2
    smooth_B = jnp.minimum(line.chi2_B, onset_null.chi2_B)
    null_B = jnp.minimum(line.chi2_B, sharp_null.chi2_B)
    alternative_B = jnp.minimum(sharp.chi2_B, flat.chi2_B)
    best_B = jnp.minimum(jnp.minimum(null_B, alternative_B), line.chi2_B - breaks.explained_B)
    freedom = max(scales - PARAMETERS_SPENT, 0.5)
    lack_B = (best_B + BINOMIAL_PRIOR) / (freedom + BINOMIAL_PRIOR)
    row_B = jnp.maximum(within_scales(n_R, gather_RK, correct_BR, variance_BK), 1.0)
    if rows == scales:
        row_B = jnp.maximum(row_B, lack_B)
    scale_B = jnp.maximum(row_B, lack_B)
    error_B = jnp.sqrt(scale_B)
    return Evaluation(
        bend_B=breaks.bend_B / error_B,
        forecast_B=breaks.forecast_B / error_B,
        jump_B=breaks.jump_B / error_B,
        smooth_B=(smooth_B - jnp.minimum(broken_B, alternative_B)) / scale_B,
        sharp_ratio_B=(null_B - alternative_B) / scale_B,
        over=Overdispersion(row_B, scale_B),
        line=line,
        onset_null=onset_null,
        sharp_null=sharp_null,
        sharp=sharp,
        flat_then_rise=flat,
        bend_at_B=breaks.bend_at_B,
    )
