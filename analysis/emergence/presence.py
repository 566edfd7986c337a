"""Is there an ability at all, and how much of one? Exact binomial test against chance at the largest scale."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

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


def presence(correct_K: np.ndarray, n_K: np.ndarray, chance: float) -> Presence:
    """Presence from the items of all rows of a scale, taken together."""
    accuracy_K = correct_K / n_K
    p = binom.sf(round(correct_K[-1]) - 1, round(n_K[-1]), chance)
    return Presence(float(p), float(accuracy_K[-1]), float(accuracy_K[-1] - accuracy_K[0]))
