"""What seeds say at a transition: two kinds of runs or one, and how often a run succeeds at each scale.

Zhao et al. 2025 (arXiv 2502.17356) find emergence to be a jump between two modes of a distribution over seeds;
whether there are two is tested on the logit scale by a likelihood ratio with a parametric bootstrap
(McLachlan 1987).
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

FEWEST_SEEDS = 4
REPLICATES = 999
EXPECTATION_STEPS = 60


def _logits(correct: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, float]:
    """Empirical logits and their mean sampling variance."""
    hits, misses = correct + 0.5, n - correct + 0.5
    return np.log(hits / misses), float((1.0 / hits + 1.0 / misses).mean())


def two_component_ratio(z_BS: np.ndarray, noise: float) -> np.ndarray:
    """Twice the log likelihood ratio of two normals against one, common variance at least `noise`; (B,)."""
    z_BS = np.sort(z_BS, axis=1)
    size = z_BS.shape[1]
    spread_B = np.maximum(z_BS.var(axis=1), noise)
    one_B = (
        -0.5 * size * np.log(spread_B)
        - 0.5 * ((z_BS - z_BS.mean(axis=1, keepdims=True)) ** 2).sum(1) / spread_B
    )
    best_B = one_B.copy()
    for split in range(1, size):
        share = np.full(len(z_BS), split / size)
        low, high = z_BS[:, :split].mean(axis=1), z_BS[:, split:].mean(axis=1)
        variance = spread_B / 4.0
        for _ in range(EXPECTATION_STEPS):
            parts = [
                (np.log(weight) - 0.5 * np.log(variance))[:, None]
                - 0.5 * (z_BS - mean[:, None]) ** 2 / variance[:, None]
                for weight, mean in ((share, low), (1.0 - share, high))
            ]
            total_BS = np.logaddexp(*parts)
            member_BS = np.exp(parts[0] - total_BS)
            count = np.clip(member_BS.sum(axis=1), 1e-6, size - 1e-6)
            share = count / size
            low = (member_BS * z_BS).sum(axis=1) / count
            high = ((1.0 - member_BS) * z_BS).sum(axis=1) / (size - count)
            around = member_BS * (z_BS - low[:, None]) ** 2 + (1.0 - member_BS) * (z_BS - high[:, None]) ** 2
            variance = np.maximum(around.sum(axis=1) / size, noise)
        best_B = np.maximum(best_B, total_BS.sum(axis=1))
    return 2.0 * (best_B - one_B)


def bimodality(correct_S: np.ndarray, n_S: np.ndarray, rng: np.random.Generator) -> float:
    """p-value of one kind of run against two, for the runs of one scale."""
    z_S, noise = _logits(correct_S, n_S)
    observed = two_component_ratio(z_S[None], noise)[0]
    deviation = np.sqrt(max(z_S.var(ddof=1), noise))
    null_B = two_component_ratio(z_S.mean() + deviation * rng.standard_normal((REPLICATES, len(z_S))), noise)
    return float((1.0 + (null_B >= observed).sum()) / (REPLICATES + 1.0))


def seed_report(
    x_K: np.ndarray,
    scale_R: np.ndarray,
    correct_R: np.ndarray,
    n_R: np.ndarray,
    chance: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """P(success) per scale, and bimodality at the scale where seeds differ most.

    A run succeeds when it is more than halfway from chance to the best pooled accuracy of any scale.
    """
    accuracy_R = correct_R / n_R
    counts_K = np.bincount(scale_R, minlength=len(x_K))
    pooled_K = np.bincount(scale_R, correct_R) / np.bincount(scale_R, n_R)
    bar = 0.5 * (chance + pooled_K.max())
    hits_K = np.bincount(scale_R, accuracy_R > bar, minlength=len(x_K))
    success = []
    for x, hits, count in zip(x_K.tolist(), hits_K.tolist(), counts_K.tolist(), strict=True):
        interval = binomtest(round(hits), count).proportion_ci(0.95, method="wilson")
        success.append(
            {"x": x, "share": hits / count, "seeds": count, "interval": [interval.low, interval.high]}
        )
    report: dict[str, Any] = {"success_above": float(bar), "success": success, "bimodality": None}
    most = int(counts_K.max())
    if most < FEWEST_SEEDS:
        report["note"] = (
            f"bimodality not computed: {most} seed{'s' * (most > 1)} at a scale, {FEWEST_SEEDS} needed"
        )
        return report
    enough = [k for k in range(len(x_K)) if counts_K[k] >= FEWEST_SEEDS]
    widest = max(enough, key=lambda k: float(np.ptp(accuracy_R[scale_R == k])))
    here = scale_R == widest
    p = bimodality(correct_R[here], n_R[here], rng)
    report["bimodality"] = {"x": float(x_K[widest]), "seeds": int(here.sum()), "p": p}
    report["note"] = "two kinds of runs" if p < 0.05 else "no sign of two kinds of runs"
    return report
