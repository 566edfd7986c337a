"""Approach 1: the runs on the lower convex hull of log loss against log FLOPs."""

from collections.abc import Mapping

import numpy as np

from analysis.isoflop.slices import flops_of


def lower_hull(log_flops_R: np.ndarray, log_loss_R: np.ndarray) -> np.ndarray:
    """Indices, by increasing FLOPs, of the falling part of the lower convex hull (Andrew's monotone chain)."""
    order = np.lexsort((log_loss_R, log_flops_R))
    lowest = np.minimum.accumulate(log_loss_R[order])
    # Runs that cost more than another and are no better cannot be on the falling part.
    better = np.concatenate([[True], log_loss_R[order][1:] < lowest[:-1]])
    chain: list[int] = []
    for row in order[better].tolist():
        while len(chain) >= 2 and _above(chain[-2], chain[-1], row, log_flops_R, log_loss_R):
            chain.pop()
        chain.append(row)
    return np.array(chain, dtype=int)


def _above(first: int, middle: int, last: int, x_R: np.ndarray, y_R: np.ndarray) -> bool:
    """Whether the middle point lies on or above the line from the first to the last."""
    return (y_R[middle] - y_R[first]) * (x_R[last] - x_R[first]) >= (y_R[last] - y_R[first]) * (
        x_R[middle] - x_R[first]
    )


def bracketed(columns: Mapping[str, np.ndarray], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """For each row, whether a smaller size, and whether a larger one, was trained through its budget.

    A size was trained through a budget if it has runs at both sides of it, or one within `tolerance`.
    """
    log_flops_R, reach = np.log(flops_of(columns)), np.log1p(tolerance)
    params_N, size_R = np.unique(columns["params"], return_inverse=True)
    from_N, to_N = np.full(params_N.size, np.inf), np.full(params_N.size, -np.inf)
    np.minimum.at(from_N, size_R, log_flops_R - reach)
    np.maximum.at(to_N, size_R, log_flops_R + reach)
    smaller_R, larger_R = np.zeros(size_R.size, bool), np.zeros(size_R.size, bool)
    for row, (size, budget) in enumerate(zip(size_R.tolist(), log_flops_R.tolist(), strict=True)):
        through_N = (from_N <= budget) & (budget <= to_N)
        smaller_R[row] = through_N[:size].any()
        larger_R[row] = through_N[size + 1 :].any()
    return smaller_R, larger_R
