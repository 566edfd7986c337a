"""Quantiles of draws of which some, or all, are no numbers."""

from collections.abc import Sequence

import numpy as np


def finite_quantiles(draws: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Quantiles along the first axis of what is no NaN, (levels, ...); NaN where nothing is left."""
    nothing = np.isnan(draws).all(axis=0)
    return np.where(nothing, np.nan, np.nanquantile(np.where(nothing, 0.0, draws), levels, axis=0))
