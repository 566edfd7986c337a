"""The best learning rate of one group of runs that differ in nothing else."""

import math

import numpy as np

from core.errors import BadInput

LEAST_RATES = 3


def best_rate(rates: np.ndarray, losses: np.ndarray) -> tuple[float, float, bool]:
    """Peak and loss at the vertex, and whether the lowest point has a higher one on either side.

    Args:
      rates: (R,) increasing and positive.
      losses: (R,); infinite where training diverged.

    Raises:
      BadInput: no loss is finite.
    """
    if not np.isfinite(losses).any():
        raise BadInput("no run of a group has finished")
    low = int(np.argmin(losses))
    inside = 0 < low < rates.size - 1
    near = slice(low - 1, low + 2)
    if not inside or not np.isfinite(losses[near]).all() or np.ptp(losses[near]) == 0:
        return float(rates[low]), float(losses[low]), inside
    curve, slope, height = np.polyfit(np.log(rates[near] / rates[low]), losses[near], 2)
    vertex = -slope / (2 * curve)
    return float(rates[low] * math.exp(vertex)), float(height + slope * vertex / 2), True
