"""The best value of a number between those that were tried: the vertex of a parabola in its logarithm.

The parabola runs through the mean log losses of the lowest value and its neighbours, two on each side where there are
so many; one, where the wider parabola misses the means by more than noise does. The interval of its vertex is Fieller's
(1954), from the noise of the seeds; it is not finite where the curvature is not known.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import fdtri, stdtrit

from analysis.settings.effects import LEVEL, Effects
from core.numbers import finite

FEWEST_VALUES = 4
NEIGHBOURS = 2  # on each side of the lowest


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best value in one cell.

    Attributes:
      value: where the parabola is lowest.
      interval: None where no seed was repeated; infinite at an end that is not known.
      error: standard error of the logarithm of `value`, to first order; NaN where no seed was repeated.
    """

    value: float
    interval: tuple[float, float] | None
    error: float = math.nan


@dataclasses.dataclass(frozen=True)
class OptimumTrend:
    """The best value as a power of the size: its exponent, and the interval of that."""

    exponent: float
    interval: tuple[float, float] | None


def optima(x_CV: np.ndarray, effects: Effects) -> list[Optimum | None]:
    """Of each cell; None where the lowest mean is at an end of its values, or fewer than four are above zero.

    Args:
      x_CV: the setting in each cell, increasing along V.
    """
    noise = effects.deviation()
    seeds_C = np.isfinite(effects.logs_CVS).all(axis=1).sum(axis=1)
    wide, near = (
        [_fitted(x, means, reach) for x, means in zip(x_CV, effects.means_CV, strict=True)]
        for reach in (NEIGHBOURS, 1)
    )
    fits = near if noise is not None and _misses(wide, seeds_C, noise) else wide
    found: list[Optimum | None] = []
    for fit, seeds in zip(fits, seeds_C, strict=True):
        if fit is None:
            found.append(None)
        elif noise is None or not seeds:
            found.append(Optimum(math.exp(fit.vertex), None))
        else:
            variance = noise[0] ** 2 / seeds
            low, high = fit.fieller(variance, float(stdtrit(noise[1], 0.5 + LEVEL / 2)))
            found.append(Optimum(math.exp(fit.vertex), (_exp(low), _exp(high)), fit.error(variance)))
    return found


def _misses(fits: "Sequence[_Parabola | None]", seeds_C: np.ndarray, noise: tuple[float, float]) -> bool:
    """Whether parabolas miss the means by more than noise does (an F test at 5%)."""
    found = [
        (fit.missed * seeds, fit.spare) for fit, seeds in zip(fits, seeds_C, strict=True) if fit is not None
    ]
    missed, spare = sum(one[0] for one in found), sum(one[1] for one in found)
    return bool(spare and missed / spare > noise[0] ** 2 * fdtri(spare, noise[1], 0.95))


def trend(sizes: Sequence[float], best: Sequence[Optimum | None], freedom: float) -> OptimumTrend | None:
    """How the best value moves with size, by weighted least squares; None for fewer than three sizes.

    Args:
      sizes: parameters of each cell.
      freedom: degrees of freedom of the noise.
    """
    known = [(size, one) for size, one in zip(sizes, best, strict=True) if one is not None]
    if len({size for size, _ in known}) < 3:
        return None
    log_size = np.log([size for size, _ in known])
    log_best = np.log([one.value for _, one in known])
    errors = np.array([one.error for _, one in known])
    if not (np.isfinite(errors) & (errors > 0)).all():
        return OptimumTrend(float(np.polyfit(log_size, log_best, 1)[0]), None)
    weights = errors**-2.0
    centre = (weights * log_size).sum() / weights.sum()
    across = (weights * (log_size - centre) ** 2).sum()
    slope = float((weights * (log_size - centre) * log_best).sum() / across)
    front = (weights * (log_best - slope * log_size)).sum() / weights.sum()
    left = float((weights * (log_best - front - slope * log_size) ** 2).sum()) / (len(known) - 2)
    error, reach = math.sqrt(1 / across), float(stdtrit(freedom, 0.5 + LEVEL / 2))
    if left > fdtri(len(known) - 2, freedom, 0.95):  # no power of size: what the line misses by counts
        error, reach = error * math.sqrt(left), float(stdtrit(len(known) - 2, 0.5 + LEVEL / 2))
    return OptimumTrend(slope, (slope - reach * error, slope + reach * error))


@dataclasses.dataclass(frozen=True)
class _Parabola:
    """a + b u + c u^2 by least squares; covariance of (b, c) for noise of variance 1 in each mean."""

    centre: float
    b: float
    c: float
    covariance: np.ndarray
    missed: float  # sum of squares
    spare: int

    @property
    def vertex(self) -> float:
        return self.centre - self.b / (2 * self.c)

    def error(self, variance: float) -> float:
        """Standard error of the vertex, to first order."""
        u = self.vertex - self.centre
        (vb, vbc), (_, vc) = variance * self.covariance
        return math.sqrt(max(vb + 4 * u * vbc + 4 * u**2 * vc, 0.0)) / (2 * self.c)

    def fieller(self, variance: float, reach: float) -> tuple[float, float]:
        """The values u at which the slope b + 2 c u is not told from zero."""
        (vb, vbc), (_, vc) = variance * self.covariance
        square = reach**2
        # (b + 2 c u)^2 <= t^2 (vb + 4 u vbc + 4 u^2 vc)
        two, one, zero = (
            4 * (self.c**2 - square * vc),
            4 * (self.b * self.c - square * vbc),
            self.b**2 - square * vb,
        )
        if two <= 0:
            return -math.inf, math.inf
        root = math.sqrt(max(one**2 - 4 * two * zero, 0.0))
        return self.centre + (-one - root) / (2 * two), self.centre + (-one + root) / (2 * two)


def _fitted(x: np.ndarray, means: np.ndarray, reach: int) -> _Parabola | None:
    """The parabola through the lowest mean and so many of its neighbours on each side."""
    places = np.flatnonzero(x > 0)
    if places.size < FEWEST_VALUES:
        return None
    low = int(np.argmin(means[places]))
    if low in (0, places.size - 1) or int(np.argmin(means)) != places[low]:
        return None
    near = places[max(0, low - reach) : low + reach + 1]
    centre = math.log(x[places[low]])
    u = np.log(x[near]) - centre
    terms = np.stack([np.ones(u.size), u, u**2], axis=1)
    answer, *_ = np.linalg.lstsq(terms, means[near], rcond=None)
    if answer[2] <= 0:
        return None
    covariance = np.linalg.inv(terms.T @ terms)[1:, 1:]
    missed = float(((means[near] - terms @ answer) ** 2).sum())
    return _Parabola(centre, float(answer[1]), float(answer[2]), covariance, missed, u.size - 3)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def to_json(best: Sequence[Optimum | None], moved: OptimumTrend | None) -> Mapping[str, object]:
    """For a result file; an end that is not known is null."""
    return {
        "by_cell": [
            one and {"value": one.value, "interval": one.interval and [finite(end) for end in one.interval]}
            for one in best
        ],
        "exponent_of_size": moved and dataclasses.asdict(moved),
    }
