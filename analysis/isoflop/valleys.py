"""The minimum of a slice, for many noisy repetitions at once: parabola, cubic or Akima interpolation."""

import dataclasses

import numpy as np

PARABOLA_COEFFICIENTS, CUBIC_COEFFICIENTS = 3, 4


@dataclasses.dataclass(frozen=True)
class Minima:
    """Minima of B repetitions of one slice.

    Attributes:
      log_params_B: natural log of the best size; NaN where the curve has no minimum.
      loss_B: loss there.
      upward_B: whether the fitted curve opens upward (an interpolation always counts as such).
      inside_B: whether the minimum lies strictly inside the sizes tried.
    """

    log_params_B: np.ndarray
    loss_B: np.ndarray
    upward_B: np.ndarray
    inside_B: np.ndarray

    @property
    def proper_B(self) -> np.ndarray:
        """Repetitions that have a minimum to report."""
        return self.upward_B & self.inside_B


def parabola_minima(x_S: np.ndarray, loss_BS: np.ndarray) -> Minima:
    """Least-squares parabola of loss in log N (Hoffmann et al. 2022, arXiv 2203.15556, approach 2)."""
    middle, half = (x_S[0] + x_S[-1]) / 2, (x_S[-1] - x_S[0]) / 2
    c0, c1, c2 = np.linalg.pinv(_powers(x_S)) @ loss_BS.T
    upward = c2 > 0
    vertex = np.full(c2.shape, np.nan)
    vertex[upward] = -c1[upward] / (2 * c2[upward])
    return Minima(
        log_params_B=middle + half * vertex,
        loss_B=c0 + c1 * vertex + c2 * vertex**2,
        upward_B=upward,
        inside_B=np.abs(vertex) < 1,
    )


def parabola_values(x_S: np.ndarray, loss_S: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The fitted parabola at other log sizes."""
    return _values(x_S, loss_S, at, PARABOLA_COEFFICIENTS)


def _values(x_S: np.ndarray, loss_S: np.ndarray, at: np.ndarray, coefficients: int) -> np.ndarray:
    u = (at - (x_S[0] + x_S[-1]) / 2) / ((x_S[-1] - x_S[0]) / 2)
    return np.vander(u, coefficients, increasing=True) @ (np.linalg.pinv(_powers(x_S, coefficients)) @ loss_S)


def _powers(x_S: np.ndarray, coefficients: int = PARABOLA_COEFFICIENTS) -> np.ndarray:
    u_S = (x_S - (x_S[0] + x_S[-1]) / 2) / ((x_S[-1] - x_S[0]) / 2)
    return np.vander(u_S, coefficients, increasing=True)


def cubic_minima(x_S: np.ndarray, loss_BS: np.ndarray) -> Minima:
    """The local minimum of a least-squares cubic of loss in log N.

    Of the two places with slope 0 it is the one where the second derivative, twice the root below, is positive.
    """
    middle, half = (x_S[0] + x_S[-1]) / 2, (x_S[-1] - x_S[0]) / 2
    c0, c1, c2, c3 = np.linalg.pinv(_powers(x_S, CUBIC_COEFFICIENTS)) @ loss_BS.T
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(c2**2 - 3 * c3 * c1)
        vertex = np.where(c2 >= 0, -c1 / (c2 + root), (root - c2) / (3 * c3))
    upward = np.isfinite(vertex) & (root > 0)
    vertex = np.where(upward, vertex, np.nan)
    return Minima(
        log_params_B=middle + half * vertex,
        loss_B=c0 + vertex * (c1 + vertex * (c2 + vertex * c3)),
        upward_B=upward,
        inside_B=np.abs(vertex) < 1,
    )


def cubic_values(x_S: np.ndarray, loss_S: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The fitted cubic at other log sizes."""
    return _values(x_S, loss_S, at, CUBIC_COEFFICIENTS)


def akima_minima(x_S: np.ndarray, loss_BS: np.ndarray) -> Minima:
    """The lowest point of the Akima interpolation (Akima 1970, J. ACM 17, 589) through the points of a slice.

    Exact: within each interval the candidates are its ends and the real roots of the cubic's derivative.
    """
    # On interval I, with s from its left end: loss = y + t s + q s^2 + c s^3.
    c, q, t, y = (part.T for part in _akima(x_S, loss_BS.T).c)
    best_x = np.take(x_S, loss_BS.argmin(axis=1))
    best_loss = loss_BS.min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(q**2 - 3 * c * t)
        # The stable form of the root where the derivative crosses upward: -t / (q + root) or its mirror.
        for s in (-t / (q + root), (root - q) / (3 * c)):
            valid = np.isfinite(s) & (s > 0) & (s < np.diff(x_S))
            value = np.where(valid, y + s * (t + s * (q + s * c)), np.inf)
            interval = value.argmin(axis=1)
            rows = np.arange(len(value))
            lower = value[rows, interval] < best_loss
            best_loss = np.where(lower, value[rows, interval], best_loss)
            best_x = np.where(lower, x_S[interval] + s[rows, interval], best_x)
    inside = (best_x > x_S[0]) & (best_x < x_S[-1])
    return Minima(best_x, best_loss, np.ones(inside.shape, bool), inside)


def akima_values(x_S: np.ndarray, loss_S: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The Akima interpolation at log sizes within those of the slice."""
    return _akima(x_S, loss_S)(at)


def _akima(x_S: np.ndarray, loss_S: np.ndarray):
    # Imported here: it takes a third of a second, which the other methods do not need.
    from scipy.interpolate import Akima1DInterpolator

    return Akima1DInterpolator(x_S, loss_S)
