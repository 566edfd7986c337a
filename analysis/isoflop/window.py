"""Only the sizes near the minimum: what a parabola misses grows with the range of sizes that it is drawn through."""

import dataclasses

import numpy as np

from analysis.isoflop.slices import Slice
from analysis.isoflop.valleys import CUBIC_COEFFICIENTS, cubic_minima


def within(piece: Slice, loss: np.ndarray, factor: float) -> Slice:
    """The sizes of a slice within a factor of its minimum.

    The minimum is that of a cubic through all sizes, which noise moves less than the lowest point, or the lowest point
    where the cubic has none inside.
    """
    x_S, loss_S = piece.log_params_S, piece.losses(loss)
    centre = float(x_S[loss_S.argmin()])
    if x_S.size > CUBIC_COEFFICIENTS:
        smooth = cubic_minima(x_S, loss_S[None])
        centre = float(smooth.log_params_B[0]) if smooth.proper_B[0] else centre
    near = np.abs(x_S - centre) <= np.log(factor) + 1e-9
    used = (piece.weights_SR[near] != 0).any(axis=0)
    return dataclasses.replace(
        piece,
        log_params_S=x_S[near],
        log_tokens_S=piece.log_tokens_S[near],
        rows_R=piece.rows_R[used],
        weights_SR=piece.weights_SR[near][:, used],
        shift_S=piece.shift_S[near],
    )
