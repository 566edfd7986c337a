"""Sums of powers above a floor, fitted to two sides together: L = E + sum over k of A_k x_k^-alpha_k.

One term is a law of the cost; two are the law of size and data of Hoffmann et al. 2022 (arXiv 2203.15556, eq. 2). The
floor is one for both sides, one each, or given; it may come out below zero, so that errors near zero are regular. The
residual is that of the log loss. Many tables are fitted in one batch (Levenberg and Marquardt; Moré 1978): analysis.fit
knows one table and no parameter that two tables share.
"""

import dataclasses
import itertools
from typing import Literal

import numpy as np

Floor = Literal["shared", "own", "given"]

ITERATIONS = 60
CLOSE = 1e-10  # relative change of the sum of squares at which a fit is done
LOWEST_FLOOR = -20.0  # floors, in smallest losses
FLOOR_STARTS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96)
EXPONENT_STARTS = (0.15, 0.35, 0.7)


@dataclasses.dataclass(frozen=True)
class Powers:
    """The rows of both sides, and which parameters they share.

    Attributes:
      x_NK: log of what each term is a power of, less `centre_K`.
      y_N: log loss.
      side_N: 0 or 1.
      floor: whose the floor is.
      given: its value, where it is given.
    """

    x_NK: np.ndarray
    y_N: np.ndarray
    side_N: np.ndarray
    centre_K: np.ndarray
    floor: Floor = "shared"
    given: float = 0.0

    @classmethod
    def of(
        cls, x_NK: np.ndarray, y_N: np.ndarray, side_N: np.ndarray, floor: Floor, given: float = 0.0
    ) -> "Powers":
        """From logs that are not centred."""
        centre = x_NK.mean(axis=0)
        return cls(x_NK - centre, y_N, side_N, centre, floor, given)

    @property
    def terms(self) -> int:
        return self.x_NK.shape[1]

    @property
    def floors(self) -> int:
        """How many floors are fitted."""
        return {"shared": 1, "own": 2, "given": 0}[self.floor]

    @property
    def size(self) -> int:
        """P."""
        return self.floors + 4 * self.terms

    def floor_of(self, point_RP: np.ndarray, side: int) -> np.ndarray:
        """(R,) the floor of a side, nats."""
        if self.floor == "given":
            return np.full(point_RP.shape[0], self.given)
        return point_RP[:, side if self.floor == "own" else 0]

    def term_of(self, point_RP: np.ndarray, side: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(R,) log A_k of the centred x, and alpha_k."""
        at = self.floors + 2 * (side * self.terms + k)
        return point_RP[:, at], point_RP[:, at + 1]

    def predicted(self, point_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log loss (R, N), and its derivatives (R, N, P). NaN where the loss would not be positive."""
        draws = point_RP.shape[0]
        loss_RN = np.empty((draws, self.y_N.size))
        slope_RNP = np.zeros((draws, self.y_N.size, self.size))
        for side in (0, 1):
            own = self.side_N == side
            total = np.repeat(self.floor_of(point_RP, side)[:, None], int(own.sum()), axis=1)
            for k in range(self.terms):
                at = self.floors + 2 * (side * self.terms + k)
                x = self.x_NK[own, k]
                with np.errstate(over="ignore"):
                    power = np.exp(point_RP[:, at, None] - point_RP[:, at + 1, None] * x)
                slope_RNP[:, own, at] = power
                slope_RNP[:, own, at + 1] = -power * x
                total = total + power
            if self.floors:
                slope_RNP[:, own, side if self.floor == "own" else 0] = 1.0
            loss_RN[:, own] = total
        with np.errstate(divide="ignore", invalid="ignore"):
            slope_RNP /= loss_RN[:, :, None]
            return np.log(loss_RN), slope_RNP


def solve(problem: Powers, start_RP: np.ndarray, y_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of each table of log losses (R, N) from its start: parameters (R, P), sums of squares (R,)."""
    point, least = start_RP.copy(), LOWEST_FLOOR * float(np.exp(problem.y_N.min()))
    damping = np.full(point.shape[0], 1e-3)
    cost = np.full(point.shape[0], np.inf)
    active = np.arange(point.shape[0])
    value, slope = problem.predicted(point)
    cost = _squares(y_RN - value)
    for _ in range(ITERATIONS):
        residual = y_RN[active] - value
        slope_t = slope.transpose(0, 2, 1)
        normal = slope_t @ slope
        scale = np.einsum("rpp->rp", normal) + 1e-12
        lifted = normal + np.einsum("rp,pq->rpq", damping[active, None] * scale, np.eye(problem.size))
        step = np.linalg.solve(lifted, (slope_t @ residual[:, :, None]))[:, :, 0]
        tried = point[active] + step
        if problem.floors:
            tried[:, : problem.floors] = np.maximum(tried[:, : problem.floors], least)
        new_value, new_slope = problem.predicted(tried)
        new_cost = _squares(y_RN[active] - new_value)
        better = new_cost <= cost[active]
        gain = cost[active] - new_cost
        done = (better & (gain <= CLOSE * cost[active])) | (damping[active] > 1e12)
        point[active[better]] = tried[better]
        cost[active[better]] = new_cost[better]
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 4), 1e-12, 1e13)
        value = np.where(better[:, None], new_value, value)[~done]
        slope = np.where(better[:, None, None], new_slope, slope)[~done]
        active = active[~done]
        if not active.size:
            break
    return point, cost


def _squares(residual: np.ndarray) -> np.ndarray:
    total = (residual**2).sum(axis=1)
    return np.where(np.isfinite(total), total, np.inf)


def best(problem: Powers) -> np.ndarray:
    """The parameters (P,) of least squares from many starts."""
    starts = np.array(list(_starts(problem)))
    point, cost = solve(problem, starts, np.tile(problem.y_N, (starts.shape[0], 1)))
    return point[int(np.argmin(cost))]


def _starts(problem: Powers) -> list[np.ndarray]:
    """Floors and exponents of a coarse grid; the coefficients follow from them by linear least squares."""
    loss = np.exp(problem.y_N)
    floors = [problem.given] if problem.floor == "given" else [share * loss.min() for share in FLOOR_STARTS]
    found = []
    exponents = list(itertools.product(EXPONENT_STARTS, repeat=problem.terms))
    for floor, alphas in itertools.product(floors, exponents):
        point = np.zeros(problem.size)
        point[: problem.floors] = floor
        for side in (0, 1):
            own = problem.side_N == side
            powers = np.exp(-problem.x_NK[own] * np.array(alphas))
            above = np.maximum(loss[own] - floor, 1e-9 * loss[own])
            answer = np.linalg.lstsq(powers, above, rcond=None)[0]
            if problem.terms == 1:
                answer = np.exp(np.mean(np.log(above) + problem.x_NK[own, 0] * alphas[0]))[None]
            least = 1e-3 * above.mean()
            for k, alpha in enumerate(alphas):
                at = problem.floors + 2 * (side * problem.terms + k)
                point[at : at + 2] = np.log(max(float(answer[k]), least)), alpha
        found.append(point)
    return found
