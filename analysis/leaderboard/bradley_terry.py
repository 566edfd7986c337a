"""Strengths from pairwise wins: P(i beats j) = 1 / (1 + exp(s_j - s_i)) (Bradley and Terry 1952; Zermelo 1929).

A tie counts as half a win for each. Strengths are in nats (logits) and sum to zero. The likelihood is concave; Newton's
method finds its maximum. There is one if and only if no runs can be split off that win, or lose, everything against the
rest (Ford 1957): otherwise some strength is infinite. Then half an item is added to each side of every pair, and it is
said.
"""

import dataclasses

import numpy as np
from scipy.sparse.csgraph import connected_components

PRIOR = 0.5  # items added to each side of a pair where the wins alone have no finite answer
STEPS = 100
SMALL = 1e-10


@dataclasses.dataclass(frozen=True)
class Strengths:
    """Of M runs, for each of B tables of wins.

    Attributes:
      nats_BM: strengths, which sum to zero.
      separated_B: whether half an item was added to each side of every pair.
    """

    nats_BM: np.ndarray
    separated_B: np.ndarray


def is_connected(wins_MM: np.ndarray) -> bool:
    """Whether every run was compared with every other, directly or over others."""
    return bool(connected_components(wins_MM + wins_MM.T > 0, directed=False)[0] == 1)


def has_finite_strengths(wins_MM: np.ndarray) -> bool:
    """Ford's condition: from each run to each other there is a way along wins."""
    return bool(connected_components(wins_MM > 0, directed=True, connection="strong")[0] == 1)


def solve(wins_BMM: np.ndarray) -> Strengths:
    """Strengths of largest likelihood.

    Args:
      wins_BMM: how often the run of a row won against that of a column, ties half; (B, M, M), connected.
    """
    wins_BMM = wins_BMM * (1 - np.eye(wins_BMM.shape[-1]))
    on_itself_MM = np.eye(wins_BMM.shape[-1], dtype=bool)
    everyone_B = np.all((wins_BMM > 0) | on_itself_MM, axis=(1, 2))  # has won against everyone
    separated_B = np.array([not every for every in everyone_B])
    for place in np.flatnonzero(separated_B):
        separated_B[place] = not has_finite_strengths(wins_BMM[place])
    compared_BMM = (wins_BMM + wins_BMM.swapaxes(1, 2)) > 0
    wins_BMM = wins_BMM + PRIOR * separated_B[:, None, None] * compared_BMM
    games_BMM = wins_BMM + wins_BMM.swapaxes(1, 2)
    count = wins_BMM.shape[-1]
    nats_BM = np.zeros(wins_BMM.shape[:2])
    level = np.ones((count, count)) / count  # strengths are known up to a constant: their mean stays 0
    best_B = _log_likelihood(nats_BM, wins_BMM)
    for _ in range(STEPS):
        share_BMM = 1 / (1 + np.exp(-(nats_BM[:, :, None] - nats_BM[:, None, :])))
        gradient_BM = wins_BMM.sum(2) - (games_BMM * share_BMM).sum(2)
        weight_BMM = games_BMM * share_BMM * share_BMM.swapaxes(1, 2)
        curvature_BMM = np.eye(count) * weight_BMM.sum(2)[:, :, None] - weight_BMM
        scale_B11 = weight_BMM.sum((1, 2))[:, None, None]
        step_BM = np.linalg.solve(curvature_BMM + level * scale_B11, gradient_BM[..., None])[..., 0]
        step_BM -= step_BM.mean(1, keepdims=True)
        size_B = np.ones(len(nats_BM))
        for _ in range(30):  # halve where the likelihood would fall
            trial_BM = nats_BM + size_B[:, None] * step_BM
            value_B = _log_likelihood(trial_BM, wins_BMM)
            worse_B = value_B < best_B - 1e-12 * np.abs(best_B)
            if not worse_B.any():
                break
            size_B = np.where(worse_B, size_B / 2, size_B)
        nats_BM, best_B = trial_BM, np.maximum(best_B, value_B)
        if np.abs(step_BM).max(initial=0.0) < SMALL:
            break
    return Strengths(nats_BM, separated_B)


def _log_likelihood(nats_BM: np.ndarray, wins_BMM: np.ndarray) -> np.ndarray:
    return -(wins_BMM * np.logaddexp(0, -(nats_BM[:, :, None] - nats_BM[:, None, :]))).sum((1, 2))
