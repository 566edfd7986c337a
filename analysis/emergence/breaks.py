"""Breaks of a straight line: bends, jumps, and forecasts that fall short, at places not known beforehand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FIRST_FORECAST = 3  # scales that the first forecast stands on


class Breaks(NamedTuple):
    """One-sided statistics in standard errors of the given variance, upward positive; each (B,).

    Attributes:
      bend: largest t of a positive change of slope over knots.
      forecast: largest error of the next scale forecast from a line through all smaller ones.
      explained: largest fall in the weighted sum of squares by one bend or jump of either sign.
      bend_at: scale index of the knot of `bend`.
    """

    bend_B: jax.Array
    forecast_B: jax.Array
    jump_B: jax.Array
    explained_B: jax.Array
    bend_at_B: jax.Array


def break_statistics(x_K, y_BK, variance_BK) -> Breaks:
    """Statistics of a break of y in x, for independent y with the given variances.

    Knots of a bend leave two scales on either side (the knot itself belongs to both).
    """
    weight_BK = 1.0 / variance_BK
    total_B = weight_BK.sum(axis=1)
    offset_BK = x_K - (weight_BK @ x_K / total_B)[:, None]
    spread_B = (weight_BK * offset_BK**2).sum(axis=1)
    mean_B = (weight_BK * y_BK).sum(axis=1) / total_B
    slope_B = (weight_BK * offset_BK * y_BK).sum(axis=1) / spread_B
    residual_BK = y_BK - mean_B[:, None] - slope_B[:, None] * offset_BK
    heavy_BK = weight_BK * residual_BK

    hinge_JK = jnp.maximum(x_K - x_K[1:-1, None], 0.0)
    jump_JK = (jnp.arange(len(x_K)) > jnp.arange(1, len(x_K) - 2)[:, None]).astype(float)

    def score_BJ(column_JK):
        plain_BJ = weight_BK @ column_JK.T
        tilted_BJ = (weight_BK * offset_BK) @ column_JK.T
        norm_BJ = (
            weight_BK @ (column_JK**2).T - plain_BJ**2 / total_B[:, None] - tilted_BJ**2 / spread_B[:, None]
        )
        return heavy_BK @ column_JK.T / jnp.sqrt(jnp.maximum(norm_BJ, 1e-300))

    bend_BJ = score_BJ(hinge_JK)
    jump_BJ = score_BJ(jump_JK)
    explained_B = jnp.maximum((bend_BJ**2).max(axis=1), (jump_BJ**2).max(axis=1))
    return Breaks(
        bend_BJ.max(axis=1),
        forecast_errors(x_K, y_BK, variance_BK).max(axis=1),
        jump_BJ.max(axis=1),
        explained_B,
        1 + bend_BJ.argmax(axis=1),
    )


def forecast_errors(x_K, y_BK, variance_BK) -> jax.Array:
    """Standardized one-step-ahead errors (B, K - FIRST_FORECAST): recursive residuals.

    Brown, Durbin and Evans 1975 (JRSS B 37, 149), weighted: independent standard normals under a line.
    """
    weight_BK = 1.0 / variance_BK
    x_K = x_K - x_K.mean()
    sums = [
        jnp.cumsum(part, axis=1)
        for part in (weight_BK, weight_BK * x_K, weight_BK * x_K**2, weight_BK * y_BK, weight_BK * x_K * y_BK)
    ]
    known = slice(FIRST_FORECAST - 1, -1)
    w, wx, wxx, wy, wxy = (part[:, known] for part in sums)
    next_x = x_K[FIRST_FORECAST:]
    determinant = w * wxx - wx**2
    slope = (w * wxy - wx * wy) / determinant
    level = (wy - slope * wx) / w
    leverage = (wxx - 2.0 * next_x * wx + next_x**2 * w) / determinant
    error = y_BK[:, FIRST_FORECAST:] - level - slope * next_x
    return error / jnp.sqrt(variance_BK[:, FIRST_FORECAST:] + leverage)
