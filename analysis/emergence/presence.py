"""Is there an ability at all, and how much of one? Exact binomial test against chance at the largest scale."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.emergence.settings import PRESENCE_GAIN, PRESENCE_LEVEL


@dataclass(frozen=True)
class Presence:
    """p-value against chance at the largest scale; accuracy there; gain over the smallest scale."""

    p: float
    accuracy: float
    gain: float

    @property
    def present(self) -> bool:
        return self.p < PRESENCE_LEVEL and self.gain >= PRESENCE_GAIN - 1e-12


def binomial_upper_tail(successes: int, items: int, chance: float) -> float:
    """P(X >= successes) of a binomial, summed from its largest term outwards."""
    if successes <= 0:
        return 1.0
    if chance == 0.0:
        return 0.0
    terms = np.arange(successes, items + 1)
    log_choose = np.array(
        [math.lgamma(items + 1) - math.lgamma(k + 1) - math.lgamma(items - k + 1) for k in terms.tolist()]
    )
    log_terms = log_choose + terms * math.log(chance) + (items - terms) * math.log1p(-chance)
    top = log_terms.max()
    return float(min(1.0, math.exp(top) * np.exp(log_terms - top).sum()))


def presence(correct_K: np.ndarray, n_K: np.ndarray, chance: float) -> Presence:
    """Presence from the items of all rows of a scale, taken together."""
    accuracy_K = correct_K / n_K
    p = binomial_upper_tail(round(correct_K[-1]), round(n_K[-1]), chance)
    return Presence(p, float(accuracy_K[-1]), float(accuracy_K[-1] - accuracy_K[0]))
