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


def best_pair(rates: np.ndarray, batches: np.ndarray, loss_RB: np.ndarray) -> tuple[float, float, float, bool]:
    """Rate, batch and loss at the vertex of the quadratic surface through the lowest point of a grid and its eight
    neighbours (in logarithms, by least squares), and whether a higher loss was measured on each side of that point.

    The lowest point itself where a neighbour is missing, or the surface has no minimum among them.

    Args:
      rates: (R,) increasing and positive. batches: (B,) likewise.
      loss_RB: infinite where nothing was trained or training diverged.

    Raises:
      BadInput: no loss is finite.
    """
    if not np.isfinite(loss_RB).any():
        raise BadInput("no run of a group has finished")
    i, j = np.unravel_index(int(np.argmin(loss_RB)), loss_RB.shape)
    lowest = float(rates[i]), float(batches[j]), float(loss_RB[i, j])
    inside = 0 < i < rates.size - 1 and 0 < j < batches.size - 1
    if not inside:
        return *lowest, False
    near = loss_RB[i - 1 : i + 2, j - 1 : j + 2]
    across = np.isfinite(near[[0, 2], 1]).all() and np.isfinite(near[1, [0, 2]]).all()
    if not np.isfinite(near).all():
        return *lowest, bool(across)
    x, y = np.meshgrid(
        np.log(rates[i - 1 : i + 2] / rates[i]), np.log(batches[j - 1 : j + 2] / batches[j]), indexing="ij"
    )
    x, y = x.reshape(-1), y.reshape(-1)
    design = np.stack([np.ones(9), x, y, x * x, x * y, y * y], axis=1)
    height, by_x, by_y, xx, xy, yy = np.linalg.lstsq(design, near.reshape(-1), rcond=None)[0]
    curvature = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        return *lowest, True
    move = -np.linalg.solve(curvature, [by_x, by_y])
    if not (x.min() <= move[0] <= x.max() and y.min() <= move[1] <= y.max()):
        return *lowest, True
    loss = float(height + (by_x * move[0] + by_y * move[1]) / 2)
    return lowest[0] * math.exp(move[0]), lowest[1] * math.exp(move[1]), loss, True
