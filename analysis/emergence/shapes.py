"""Smooth curves of accuracy against scale, fitted to many data sets at once by weighted least squares.

A logistic runs from a floor a to a ceiling A, 0 <= a <= A <= 1, both free: tasks with answer bias sit below
chance. Its width is the distance over which it covers 10% to 90% of its rise. For given midpoint and width
the best (a, A) is a two-variable box-constrained quadratic with a closed form; midpoint and width start from
the best point of a grid and are polished by bounded Gauss-Newton steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TEN_TO_NINETY = 2.0 * np.log(9.0)  # the 10%-90% rise of 1/(1+exp(-z)) in z
POLISHING_STEPS = 6


class CurveFit(NamedTuple):
    """Best member of a family for each data set: weighted sum of squares (B,), fitted means (B, K), and
    parameters (B, 4): floor, ceiling, midpoint, width (for a line: value at both ends, then NaN)."""

    chi2_B: jax.Array
    mean_BK: jax.Array
    parameters_BP: jax.Array


class Bounds(NamedTuple):
    """Closed intervals of the midpoint and the width, in units of x, and the grid (G,) that the fit starts from."""

    middle: tuple[float, float]
    width: tuple[float, float]
    middle_G: np.ndarray
    width_G: np.ndarray


def bounds(middle: tuple[float, float], width: tuple[float, float], middles: int, widths: int) -> Bounds:
    """Bounds with a grid of `middles` evenly spaced midpoints by `widths` geometrically spaced widths."""
    grid_W, grid_M = np.geomspace(*width, widths), np.linspace(*middle, middles)
    return Bounds(middle, width, np.tile(grid_M, widths), np.repeat(grid_W, middles))


def logistic(x, middle, width):
    """Share of the rise reached at x."""
    return 1.0 / (1.0 + jnp.exp(jnp.clip(-TEN_TO_NINETY * (x - middle) / width, -500.0, 500.0)))


def fit_line(x_K: jax.Array, y_BK: jax.Array, weight_BK: jax.Array) -> CurveFit:
    """Weighted least-squares straight line."""
    total_B = weight_BK.sum(axis=1)
    centre_B = weight_BK @ x_K / total_B
    mean_B = (weight_BK * y_BK).sum(axis=1) / total_B
    offset_BK = x_K - centre_B[:, None]
    slope_B = (weight_BK * offset_BK * y_BK).sum(axis=1) / (weight_BK * offset_BK**2).sum(axis=1)
    fitted_BK = mean_B[:, None] + slope_B[:, None] * offset_BK
    chi2_B = (weight_BK * (y_BK - fitted_BK) ** 2).sum(axis=1)
    unknown_B = jnp.full_like(chi2_B, jnp.nan)
    return CurveFit(
        chi2_B, fitted_BK, jnp.stack([fitted_BK[:, 0], fitted_BK[:, -1], unknown_B, unknown_B], axis=1)
    )


def _ends(low, cross, high, y_low, y_high, cap):
    """Best floor and ceiling in 0 <= a <= A <= 1 of a quadratic form.

    Args: sums of weights times (1-s)^2, s(1-s), s^2, y(1-s) and ys; any common shape.
    """
    determinant = jnp.maximum(low * high - cross * cross, 1e-12 * low * high + 1e-300)
    floor = (high * y_low - cross * y_high) / determinant
    ceiling = (low * y_high - cross * y_low) / determinant
    ceiling_at_zero = jnp.clip(y_high / jnp.maximum(high, 1e-300), 0.0, cap)
    floor_at_cap = jnp.clip((y_low - cap * cross) / jnp.maximum(low, 1e-300), 0.0, cap)
    below = floor < 0.0
    above = ceiling > cap
    # Both bounds violated: the better of the two edges is the one whose other end stays inside.
    new_floor = jnp.where(below, 0.0, jnp.where(above, floor_at_cap, floor))
    new_ceiling = jnp.where(below, ceiling_at_zero, jnp.where(above, cap, ceiling))
    constant = (y_low + y_high) / jnp.maximum(low + 2.0 * cross + high, 1e-300)
    falling = new_ceiling < new_floor
    return jnp.where(falling, constant, new_floor), jnp.where(falling, constant, new_ceiling)


def fit_logistics(x_K, y_BK, weight_BK, lowest_B, families: Sequence[Bounds]) -> list[CurveFit]:
    """Best rising logistic within each of several bounds, its floor at or above `lowest_B`."""
    y_BK = y_BK - lowest_B[:, None]
    cap_B = 1.0 - lowest_B
    starts = [_start(x_K, y_BK, weight_BK, cap_B, bounds) for bounds in families]
    size, copies = len(y_BK), len(families)

    def limits(values):
        return jnp.concatenate([jnp.full(size, value) for value in values])

    stacked = _polish(
        x_K,
        jnp.concatenate([y_BK] * copies),
        jnp.concatenate([weight_BK] * copies),
        jnp.concatenate([cap_B] * copies),
        jnp.concatenate([middle_B for middle_B, _ in starts]),
        jnp.concatenate([width_B for _, width_B in starts]),
        tuple(limits(family.middle[end] for family in families) for end in (0, 1)),
        tuple(limits(family.width[end] for family in families) for end in (0, 1)),
    )
    fits = [jax.tree.map(lambda leaf, k=k: leaf[k * size : (k + 1) * size], stacked) for k in range(copies)]
    shift_BP = jnp.stack([lowest_B, lowest_B, jnp.zeros(size), jnp.zeros(size)], axis=1)
    return [CurveFit(fit.chi2_B, fit.mean_BK + lowest_B[:, None], fit.parameters_BP + shift_BP) for fit in fits]


def _start(x_K, y_BK, weight_BK, cap_B, bounds: Bounds):
    """Best midpoint and width of the grid."""
    middle_G, width_G = bounds.middle_G, bounds.width_G
    share_GK = logistic(x_K, middle_G[:, None], width_G[:, None])
    rest_GK = 1.0 - share_GK
    weighted_BK = weight_BK * y_BK
    low, cross, high = (
        weight_BK @ (rest_GK**2).T,
        weight_BK @ (rest_GK * share_GK).T,
        weight_BK @ (share_GK**2).T,
    )
    y_low, y_high = weighted_BK @ rest_GK.T, weighted_BK @ share_GK.T
    floor, ceiling = _ends(low, cross, high, y_low, y_high, cap_B[:, None])
    gain_BG = floor * (2.0 * y_low - floor * low - 2.0 * ceiling * cross) + ceiling * (
        2.0 * y_high - ceiling * high
    )
    best_B = gain_BG.argmax(axis=1)
    return middle_G[best_B], width_G[best_B]


def _solve_ends(y_BK, weight_BK, cap_B, share_BK):
    rest_BK = 1.0 - share_BK
    heavy_rest, heavy_share = weight_BK * rest_BK, weight_BK * share_BK
    return _ends(
        (heavy_rest * rest_BK).sum(axis=1),
        (heavy_rest * share_BK).sum(axis=1),
        (heavy_share * share_BK).sum(axis=1),
        (heavy_rest * y_BK).sum(axis=1),
        (heavy_share * y_BK).sum(axis=1),
        cap_B,
    )


def _at(x_K, y_BK, weight_BK, cap_B, middle_B, width_B):
    share_BK = logistic(x_K, middle_B[:, None], width_B[:, None])
    floor_B, ceiling_B = _solve_ends(y_BK, weight_BK, cap_B, share_BK)
    mean_BK = floor_B[:, None] + (ceiling_B - floor_B)[:, None] * share_BK
    chi2_B = (weight_BK * (y_BK - mean_BK) ** 2).sum(axis=1)
    return chi2_B, share_BK, floor_B, ceiling_B, mean_BK


def _polish(x_K, y_BK, weight_BK, cap_B, middle_B, width_B, middles, widths) -> CurveFit:
    """Gauss-Newton on (midpoint, log width), floor and ceiling projected out; only improvements are kept."""
    log_widths = tuple(jnp.log(end) for end in widths)

    def improve(_, state):
        middle_B, log_width_B, trust_B, (chi2_B, share_BK, floor_B, ceiling_B, mean_BK) = state
        steep_BK = (ceiling_B - floor_B)[:, None] * share_BK * (1.0 - share_BK) * TEN_TO_NINETY
        by_middle_BK = -steep_BK / jnp.exp(log_width_B)[:, None]
        by_width_BK = by_middle_BK * (x_K - middle_B[:, None])
        residual_BK = y_BK - mean_BK
        heavy_BK = weight_BK * residual_BK
        push_middle_B, push_width_B = (heavy_BK * by_middle_BK).sum(1), (heavy_BK * by_width_BK).sum(1)
        held_middle_B = _held(middle_B, push_middle_B, *middles)
        held_width_B = _held(log_width_B, push_width_B, *log_widths)
        floor_BK = jnp.where((floor_B > 0.0)[:, None], 1.0 - share_BK, 0.0)
        ceiling_BK = jnp.where((ceiling_B < cap_B)[:, None], share_BK, 0.0)
        by_middle_BK = jnp.where(held_middle_B[:, None], 0.0, by_middle_BK)
        by_width_BK = jnp.where(held_width_B[:, None], 0.0, by_width_BK)
        columns = (floor_BK, ceiling_BK, by_middle_BK, by_width_BK)
        to_middle_B, to_width_B = _last_two_steps(weight_BK, residual_BK, columns)
        limit_B = jnp.exp(log_width_B) * trust_B
        trial_middle_B = jnp.clip(middle_B + jnp.clip(to_middle_B, -limit_B, limit_B), *middles)
        trial_width_B = jnp.clip(log_width_B + jnp.clip(to_width_B, -trust_B, trust_B), *log_widths)
        trial = _at(x_K, y_BK, weight_BK, cap_B, trial_middle_B, jnp.exp(trial_width_B))
        better_B = trial[0] < chi2_B

        def keep(new, old):
            return jnp.where(better_B if new.ndim == 1 else better_B[:, None], new, old)

        kept = tuple(keep(new, old) for new, old in zip(trial, state[3], strict=True))
        trust_B = jnp.where(better_B, trust_B, 0.25 * trust_B)
        return keep(trial_middle_B, middle_B), keep(trial_width_B, log_width_B), trust_B, kept

    start = _at(x_K, y_BK, weight_BK, cap_B, middle_B, width_B)
    state = (middle_B, jnp.log(width_B), jnp.ones_like(middle_B), start)
    middle_B, log_width_B, _, (chi2_B, _, floor_B, ceiling_B, mean_BK) = jax.lax.fori_loop(
        0, POLISHING_STEPS, improve, state
    )
    return CurveFit(chi2_B, mean_BK, jnp.stack([floor_B, ceiling_B, middle_B, jnp.exp(log_width_B)], axis=1))


def _held(value_B, push_B, low, high):
    """Whether a parameter sits at a bound that the data push it against."""
    return ((value_B <= low) & (push_B < 0.0)) | ((value_B >= high) & (push_B > 0.0))


def _last_two_steps(weight_BK, residual_BK, columns):
    """Least-squares step of the last two of four columns, by elimination; a column of zeros takes a step of zero."""
    matrix = [[(weight_BK * a * b).sum(1) for b in columns] for a in columns]
    right = [(weight_BK * a * residual_BK).sum(1) for a in columns]
    ridge = 1e-9 * (matrix[0][0] + matrix[1][1] + matrix[2][2] + matrix[3][3]) + 1e-300
    for k in range(4):
        matrix[k][k] = matrix[k][k] * (1.0 + 1e-6) + ridge
    for k in range(3):
        for row in range(k + 1, 4):
            factor = matrix[row][k] / matrix[k][k]
            right[row] = right[row] - factor * right[k]
            for column in range(k, 4):
                matrix[row][column] = matrix[row][column] - factor * matrix[k][column]
    fourth_B = right[3] / matrix[3][3]
    return (right[2] - matrix[2][3] * fourth_B) / matrix[2][2], fourth_B


def fit_flat_then_rise(x_K: jax.Array, y_BK: jax.Array, weight_BK: jax.Array) -> CurveFit:
    """Best curve that is flat up to a knot and rises in a straight line after it.

    Knots are the scales, and the points midway between neighbours, that leave two scales on either side.
    Parameters (B, 4): flat level, level at the largest scale, knot, NaN.
    """
    knot_J = jnp.sort(jnp.concatenate([x_K[1:-2], 0.5 * (x_K[1:-2] + x_K[2:-1])]))
    hinge_JK = jnp.maximum(x_K - knot_J[:, None], 0.0)
    total_B1 = weight_BK.sum(axis=1, keepdims=True)
    weighted_BK = weight_BK * y_BK
    mean_B1 = weighted_BK.sum(axis=1, keepdims=True) / total_B1
    hinge_mean_BJ = weight_BK @ hinge_JK.T / total_B1
    spread_BJ = weight_BK @ (hinge_JK**2).T - total_B1 * hinge_mean_BJ**2
    slope_BJ = jnp.maximum((weighted_BK @ hinge_JK.T - total_B1 * mean_B1 * hinge_mean_BJ) / spread_BJ, 0.0)
    best_B = (slope_BJ**2 * spread_BJ).argmax(axis=1)
    take = jnp.arange(len(best_B))
    slope_B = slope_BJ[take, best_B]
    level_B = mean_B1[:, 0] - slope_B * hinge_mean_BJ[take, best_B]
    mean_BK = level_B[:, None] + slope_B[:, None] * hinge_JK[best_B]
    chi2_B = (weight_BK * (y_BK - mean_BK) ** 2).sum(axis=1)
    unknown_B = jnp.full_like(chi2_B, jnp.nan)
    return CurveFit(chi2_B, mean_BK, jnp.stack([level_B, mean_BK[:, -1], knot_J[best_B], unknown_B], axis=1))
