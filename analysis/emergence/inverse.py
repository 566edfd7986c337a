"""Does accuracy fall with scale, beyond noise? (McKenzie et al. 2023, arXiv 2306.09479)

A weighted line through the accuracies; its slope over its standard error, whose variance is that of items times the
spread of scales about the line where that is larger. Under an accuracy that does not fall a slope so far below zero
comes no more often than Student's distribution says, whatever differs between the runs of different scales.
"""

import numpy as np
from scipy.special import stdtr

from analysis.emergence.noise import Design

FEWEST_FAMILIES = 3
FEWEST_FALLING = 3  # scales of a fall before a rise
PREFIX_LEVEL = 0.01


def fall_p(design: Design, correct_R: np.ndarray, family_R: np.ndarray | None = None) -> float:
    """One-sided p-value of a fall. With three or more families the larger of this and of one that leaves out each."""
    slope, error = _slope(design, correct_R, np.ones(design.rows))
    p = float(stdtr(design.scales - 2, slope / error))
    families = [] if family_R is None else [np.asarray(family_R == family) for family in np.unique(family_R)]
    if len(families) < FEWEST_FAMILIES:
        return p
    left = [_slope(design, correct_R, (~family).astype(float))[0] for family in families]
    count = len(left)
    spread = float(np.sqrt((count - 1) / count * np.square(np.array(left) - slope).sum()))
    return max(p, float(stdtr(count - 1, slope / spread))) if spread > 0 else p


def fall_before_rise(
    design: Design, correct_R: np.ndarray, family_R: np.ndarray | None = None
) -> tuple[int, int] | None:
    """The scales, by number, between which accuracy falls before it rises; None where it does not, beyond noise.

    Every run of scales from the smallest on is held to the test of a fall, at `PREFIX_LEVEL` over all of them.
    """
    y_K = correct_R @ design.gather_RK / design.n_K
    lowest = int(y_K.argmin())
    lengths = range(FEWEST_FALLING, design.scales)
    found = []
    for length in lengths:
        rows = design.scale_R < length
        part = Design(design.x_K[:length], design.scale_R[rows], design.n_R[rows], design.chance)
        found.append(fall_p(part, correct_R[rows], None if family_R is None else family_R[rows]))
    if not found or lowest in (0, design.scales - 1) or min(found) * len(found) > PREFIX_LEVEL:
        return None
    return int(y_K[: lowest + 1].argmax()), lowest


def _slope(design: Design, correct_R: np.ndarray, kept_R: np.ndarray) -> tuple[float, float]:
    """Change of accuracy per unit of the scale coordinate, and its standard error, over the rows kept."""
    n_K, correct_K = (design.n_R * kept_R) @ design.gather_RK, (correct_R * kept_R) @ design.gather_RK
    there = n_K > 0
    n_K, correct_K, x_K = n_K[there], correct_K[there], design.x_K[there]
    pilot_K = (correct_K + 2.0) / (n_K + 4.0)
    weight_K = n_K / (pilot_K * (1.0 - pilot_K))
    y_K = correct_K / n_K
    offset_K = x_K - np.average(x_K, weights=weight_K)
    spread = float((weight_K * offset_K**2).sum())
    if not spread > 0:
        return 0.0, float("inf")
    slope = float((weight_K * offset_K * y_K).sum()) / spread
    residual_K = y_K - np.average(y_K, weights=weight_K) - slope * offset_K
    over = float((weight_K * residual_K**2).sum()) / max(x_K.size - 2, 1)
    return slope, float(np.sqrt(max(over, 1.0) / spread))
