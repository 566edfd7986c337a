"""Frontiers: the least loss that a cost buys on one side, for one fit or many draws at once.

Costs are logs. A `CostFrontier` of R draws gives log losses (R, G) at log costs (R or 1, G), and costs at log losses.
"""

import dataclasses
from typing import Protocol

import numpy as np

from analysis.compare.powers import Powers
from analysis.isoflop.hull import lower_hull

CURVE_POINTS = 240
STRAIGHT_ON = 1.0  # how far beyond its corners a hull goes, in natural logs of cost
BEYOND = 12.0  # a curve of sizes reaches so far beyond the runs, in natural logs


class CostFrontier(Protocol):
    """Of one side."""

    def loss_at(self, cost_RG: np.ndarray) -> np.ndarray:
        """Log loss; NaN where there is none."""
        ...

    def cost_at(self, loss_RG: np.ndarray) -> np.ndarray:
        """Log cost; infinite below the floor, NaN where there is none."""
        ...

    def ends(self, cost_2: np.ndarray) -> np.ndarray:
        """Log losses of the first draw at the smallest and the largest cost of the runs, (2,)."""
        ...


@dataclasses.dataclass(frozen=True)
class PowerFrontier:
    """L = E + A C^-alpha: floor_R, log A and alpha, (R,) each."""

    floor_R: np.ndarray
    scale_R: np.ndarray
    alpha_R: np.ndarray

    def loss_at(self, cost_RG: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            powers = np.exp(self.scale_R[:, None] - self.alpha_R[:, None] * cost_RG)
            return np.log(self.floor_R[:, None] + powers)

    def cost_at(self, loss_RG: np.ndarray) -> np.ndarray:
        above = np.exp(loss_RG) - self.floor_R[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            cost = (self.scale_R[:, None] - np.log(above)) / self.alpha_R[:, None]
        cost = np.where(above <= 0, np.inf, cost)
        return np.where(self.alpha_R[:, None] > 0, cost, np.nan)

    def ends(self, cost_2: np.ndarray) -> np.ndarray:
        return self.loss_at(cost_2[None])[0]


@dataclasses.dataclass(frozen=True)
class CurveFrontier:
    """Log costs and log losses of points of a curve, (R, G) each: cost ascending, loss descending."""

    cost_RG: np.ndarray
    loss_RG: np.ndarray

    def loss_at(self, cost_RG: np.ndarray) -> np.ndarray:
        return _interpolated(cost_RG, self.cost_RG, self.loss_RG)

    def cost_at(self, loss_RG: np.ndarray) -> np.ndarray:
        return _interpolated(loss_RG, self.loss_RG[:, ::-1], self.cost_RG[:, ::-1])

    def ends(self, cost_2: np.ndarray) -> np.ndarray:
        return self.loss_at(cost_2[None])[0]


@dataclasses.dataclass(frozen=True)
class HullFrontier(CurveFrontier):
    """Corners of a hull; the first and the last of a draw are straight on, so that draws reach a bit farther."""

    def ends(self, cost_2: np.ndarray) -> np.ndarray:
        corners = self.loss_RG[0][np.isfinite(self.loss_RG[0])]
        return corners[[1, -2]]


def _interpolated(x_RG: np.ndarray, from_RG: np.ndarray, to_RG: np.ndarray) -> np.ndarray:
    draws = from_RG.shape[0]
    x_RG = np.broadcast_to(x_RG, (draws, x_RG.shape[-1]))
    found = np.full(x_RG.shape, np.nan)
    for row in range(draws):
        good = np.isfinite(from_RG[row]) & np.isfinite(to_RG[row])
        if good.sum() > 1:
            found[row] = np.interp(x_RG[row], from_RG[row][good], to_RG[row][good], left=np.nan, right=np.nan)
    return found


@dataclasses.dataclass(frozen=True)
class Price:
    """What a token costs at a size, on one side: log g is a polynomial of log N, less `centre`, highest power first.

    Attributes:
      least, most: logs of the smallest and the largest size.
    """

    polynomial: np.ndarray
    centre: float
    least: float
    most: float

    @classmethod
    def of(cls, log_params: np.ndarray, log_price: np.ndarray) -> "Price":
        """From the runs: a quadratic through three sizes or more, since attention and the head bend it."""
        sizes, first = np.unique(log_params, return_index=True)
        centre = float(sizes.mean())
        polynomial = np.polyfit(sizes - centre, log_price[first], min(2, sizes.size - 1))
        return cls(polynomial, centre, float(sizes[0]), float(sizes[-1]))

    def at(self, log_params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log price of a token, and its slope, straight on beyond the sizes of the runs."""
        inside = np.clip(log_params, self.least, self.most) - self.centre
        slope = np.polyval(np.polyder(self.polynomial), inside)
        return np.polyval(self.polynomial, inside) + slope * (log_params - self.centre - inside), slope


def surface_frontier(
    powers: Powers, point_RP: np.ndarray, side: int, price: Price
) -> tuple[CurveFrontier, np.ndarray]:
    """The frontier of a law of size and data, and the log sizes along it, (G,).

    At the least loss for a cost C = D g(N): beta B D^-beta dlog g / dlog N = alpha A N^-alpha, which gives the tokens
    that belong to each size (Hoffmann et al. 2022, eq. 4, with g = 6 N).
    """
    (scale_n, alpha), (scale_d, beta) = (powers.term_of(point_RP, side, k) for k in (0, 1))
    sizes = np.linspace(price.least - BEYOND, price.most + BEYOND, CURVE_POINTS)
    log_price, growth = price.at(sizes)
    x_n = sizes - powers.centre_K[0]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        of_size = scale_n[:, None] - alpha[:, None] * x_n
        of_data = np.log(alpha / beta)[:, None] + of_size - np.log(growth)
        tokens = powers.centre_K[1] + (scale_d[:, None] - of_data) / beta[:, None]
        loss = np.log(powers.floor_of(point_RP, side)[:, None] + np.exp(of_size) + np.exp(of_data))
    cost = tokens + log_price
    rising = np.concatenate([np.ones((cost.shape[0], 1), bool), np.diff(cost, axis=1) > 0], axis=1)
    return CurveFrontier(np.where(rising & np.isfinite(cost), cost, np.nan), loss), sizes


def power_frontier(
    powers: Powers, point_RP: np.ndarray, side: int, k: int = 0, held: float = 0.0
) -> PowerFrontier:
    """The frontier of a law of the cost; of a law of size and data over one, `k`, at the other's log, `held`."""
    scale, alpha = powers.term_of(point_RP, side, k)
    floor = powers.floor_of(point_RP, side)
    if powers.terms > 1:
        other, beta = powers.term_of(point_RP, side, 1 - k)
        floor = floor + np.exp(other - beta * (held - powers.centre_K[1 - k]))
    return PowerFrontier(floor, scale + alpha * powers.centre_K[k], alpha)


def hull_frontier(cost_N: np.ndarray, loss_RN: np.ndarray) -> HullFrontier:
    """Lower convex hulls of log loss over the same log costs, at each draw of the losses, as far as the loss falls."""
    draws, rows = loss_RN.shape
    cost, loss = np.full((draws, rows + 2), np.nan), np.full((draws, rows + 2), np.nan)
    for row in range(draws):
        kept = lower_hull(cost_N, loss_RN[row])
        if kept.size < 2:
            continue
        x, y = cost_N[kept], loss_RN[row, kept]
        slopes = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
        cost[row, : kept.size + 2] = [x[0] - STRAIGHT_ON, *x, x[-1] + STRAIGHT_ON]
        loss[row, : kept.size + 2] = [y[0] - STRAIGHT_ON * slopes[0], *y, y[-1] + STRAIGHT_ON * slopes[1]]
    return HullFrontier(cost, loss)
