"""The two tests of a departure from the smooth law: delayed onset and sharp rise.

Each null is composite. Data are simulated from its best-fitting members, every statistic is computed again with
every fit repeated, and the p-value is the largest over the members: for the onset, the straight line and the
best smooth S-curve; for sharpness, the straight line and the best logistic that is W0 wide or wider.
"""

from dataclasses import dataclass

import numpy as np

from analysis.transitions.noise import Design, Overdispersion, draw
from analysis.transitions.settings import Settings
from analysis.transitions.statistics import Evaluation, evaluate

NULLS = ("line", "onset_null", "sharp_null")
STAGES = (199, 1999)
KEEP_GOING = 0.1  # a p-value above this after a stage is not refined further
FEWEST_CLUSTERS = 3
# Webb 2023: six-point weights of mean 0, variance 1, for few clusters.
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])


@dataclass(frozen=True)
class PValues:
    """p-values (D,) of D data sets of one design."""

    delayed_onset_D: np.ndarray
    sharp_D: np.ndarray


def upper_p(observed_D: np.ndarray, null_DB: np.ndarray) -> np.ndarray:
    """(1 + number of replicates at least as large) / (B + 1)."""
    return (1.0 + (null_DB >= observed_D[:, None]).sum(axis=1)) / (null_DB.shape[1] + 1.0)


def minimum_p(observed: list[np.ndarray], null: list[np.ndarray]) -> np.ndarray:
    """p-value of the smallest of several p-values, dependence taken from the replicates themselves.

    Ranks are among replicates and the observed value together, so that a value beyond all replicates in every
    statistic has the smallest possible p, 1 / (B + 1).
    """
    smallest_D = np.min([upper_p(o, n) for o, n in zip(observed, null, strict=True)], axis=0)
    size = null[0].shape[1] + 1.0
    ranks = [
        (np.argsort(np.argsort(-n, axis=1), axis=1) + 1.0 + (o[:, None] >= n)) / size
        for o, n in zip(observed, null, strict=True)
    ]
    smallest_DB = np.min(ranks, axis=0)
    return (1.0 + (smallest_DB <= smallest_D[:, None] + 1e-12).sum(axis=1)) / size


def p_values(
    design: Design,
    correct_DR: np.ndarray,
    observed: Evaluation,
    settings: Settings,
    axis: str,
    rng: np.random.Generator,
    *,
    stages: tuple[int, ...] = STAGES,
    family_R: np.ndarray | None = None,
) -> PValues:
    """Bootstrap p-values of both tests.

    Args:
      correct_DR: observed data sets; `observed` are their statistics.
      stages: cumulative numbers of replicates. A data set goes on to the next stage while one of its
        p-values is below 0.1 (a sequential Monte Carlo test: Besag and Clifford 1991).
      family_R: model family of each row. With three or more, rows of a family are also resampled together
        (wild cluster bootstrap) and the larger p-value counts.
    """
    sampler: list[_Beta | _Wild] = [_Beta(design, observed)]
    if family_R is not None and len(set(family_R)) >= FEWEST_CLUSTERS:
        sampler.append(_Wild(design, correct_DR, observed, family_R))
    worst = [_staged(design, observed, settings, axis, rng, stages, draws) for draws in sampler]
    return PValues(*(np.max([pair[k] for pair in worst], axis=0) for k in (0, 1)))


def _staged(design, observed, settings, axis, rng, stages, sampler):
    count = len(observed.bend_B)
    delayed_D, sharp_D = np.ones(count), np.ones(count)
    active = np.arange(count)
    kept: dict[str, list[np.ndarray]] = {}
    done = 0
    for total in stages:
        fresh = {
            null: _replicates(design, sampler, null, active, total - done, settings, axis, rng)
            for null in NULLS
        }
        if done:
            fresh = {
                null: [np.concatenate(pair, axis=1) for pair in zip(kept[null], fresh[null], strict=True)]
                for null in NULLS
            }
        kept = fresh
        done = total
        delayed_D[active], sharp_D[active] = _compare(observed, active, kept)
        going = np.minimum(delayed_D[active], sharp_D[active]) < KEEP_GOING
        kept = {null: [part[going] for part in kept[null]] for null in NULLS}
        active = active[going]
        if not len(active):
            break
    return delayed_D, sharp_D


def _compare(observed: Evaluation, active, kept):
    bend, forecast, jump, _, sharp = kept["line"]
    against_line = minimum_p(
        [observed.bend_B[active], observed.forecast_B[active], observed.jump_B[active]], [bend, forecast, jump]
    )
    against_smooth = upper_p(observed.smooth_B[active], kept["onset_null"][3])
    sharp_line = upper_p(observed.sharp_ratio_B[active], sharp)
    sharp_wide = upper_p(observed.sharp_ratio_B[active], kept["sharp_null"][4])
    return np.maximum(against_line, against_smooth), np.maximum(sharp_line, sharp_wide)


def _replicates(design, sampler, null, active, replicates, settings, axis, rng):
    """bend, forecast, jump, smooth and sharp_ratio, each (active, replicates)."""
    result = evaluate(design, sampler.draw(null, np.repeat(active, replicates), rng), settings, axis)
    parts = (result.bend_B, result.forecast_B, result.jump_B, result.smooth_B, result.sharp_ratio_B)
    return [part.reshape(len(active), replicates) for part in parts]


@dataclass(frozen=True)
class _Beta:
    """Item noise with the estimated over-dispersion around a fitted null."""

    design: Design
    observed: Evaluation

    def draw(self, null: str, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        over = self.observed.over
        mean_BK = np.clip(getattr(self.observed, null).mean_BK, 0.0, 1.0)[which]
        return draw(self.design, mean_BK, Overdispersion(over.row_B[which], over.scale_B[which]), rng)


@dataclass(frozen=True)
class _Wild:
    """Residuals of a fitted null, times one random weight per family (Cameron, Gelbach and Miller 2008)."""

    design: Design
    correct_DR: np.ndarray
    observed: Evaluation
    family_R: np.ndarray

    def draw(self, null: str, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n_R = self.design.n_R
        mean_DR = np.clip(getattr(self.observed, null).mean_BK, 0.0, 1.0)[:, self.design.scale_R]
        residual_DR = self.correct_DR / n_R - mean_DR
        _, family_R = np.unique(self.family_R, return_inverse=True)
        weight_BF = rng.choice(WEBB, size=(len(which), family_R.max() + 1))
        return np.clip(mean_DR[which] + weight_BF[:, family_R] * residual_DR[which], 0.0, 1.0) * n_R
