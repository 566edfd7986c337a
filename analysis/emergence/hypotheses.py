"""The two tests of a departure from the smooth law: delayed onset and sharp rise.

Each null is composite. Data are simulated from its best-fitting members, every statistic is computed again with
every fit repeated, and the p-value is the largest over the members: for the onset, the straight line and the
best smooth S-curve; for sharpness, the straight line and the best logistic that is W0 wide or wider.
"""

from dataclasses import dataclass

import numpy as np

from analysis.emergence.noise import Design, Overdispersion, draw
from analysis.emergence.settings import Settings
from analysis.emergence.statistics import Evaluation, evaluate

SECOND_NULL = {"delayed_onset": "onset_null", "sharp": "sharp_null"}  # beside the line
STAGES = (199, 1999)
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
      stages: cumulative numbers of replicates. A test goes on to the next stage while its p-value is below
        `undecided_below` (a sequential Monte Carlo test: Besag and Clifford 1991).
      family_R: model family of each row. With three or more, rows of a family are also resampled together
        (wild cluster bootstrap) and the larger p-value counts.
    """
    sampler: list[_Beta | _Wild] = [_Beta(design, observed)]
    if family_R is not None and len(set(family_R)) >= FEWEST_CLUSTERS:
        sampler.append(_Wild(design, correct_DR, observed, family_R))
    worst = [_staged(design, observed, settings, axis, rng, stages, draws) for draws in sampler]
    return PValues(*(np.max([pair[k] for pair in worst], axis=0) for k in (0, 1)))


def _staged(design, observed, settings, axis, rng, stages, sampler):
    """p-values (D,) of both tests under one sampler.

    Each test is held against the straight line first, and against its second null where the line leaves it undecided.
    A test that is decided gets no further replicates.
    """
    count = len(observed.bend_B)
    p = {test: np.ones(count) for test in SECOND_NULL}
    active = {test: np.arange(count) for test in SECOND_NULL}
    line: list[np.ndarray] = []
    second: dict[str, list[np.ndarray]] = {test: [] for test in SECOND_NULL}
    known, done = np.arange(count), 0
    for total in stages:
        either = np.union1d(*active.values())
        if not len(either):
            break
        keep = np.searchsorted(known, either)
        line = _extended(
            line, keep, _replicates(design, sampler, "line", either, total - done, settings, axis, rng)
        )
        known = either
        bar = undecided_below(settings.alpha, total)
        for test, null in SECOND_NULL.items():
            here = active[test]
            against_line = _against_line(
                test, observed, here, [part[np.searchsorted(known, here)] for part in line]
            )
            p[test][here] = against_line
            going = against_line < bar
            here, against_line = here[going], against_line[going]
            fresh = _replicates(design, sampler, null, here, total - done, settings, axis, rng)
            second[test] = _extended(second[test], going, fresh)
            p[test][here] = np.maximum(against_line, _against_second(test, observed, here, second[test]))
            going = p[test][here] < bar
            active[test] = here[going]
            second[test] = [part[going] for part in second[test]]
        done = total
    return p["delayed_onset"], p["sharp"]


def undecided_below(alpha: float, replicates: int) -> float:
    """A p-value of so many replicates above this is not refined: it lies three standard errors above alpha.

    Stopping there can only lose a rejection (for a p-value of exactly alpha, one time in 700), never make one.
    """
    return alpha + 3.0 * float(np.sqrt(alpha * (1.0 - alpha) / replicates))


def _extended(kept, rows, fresh):
    """Replicates of the rows that go on, and the fresh ones after them."""
    return (
        [np.concatenate([old[rows], new], axis=1) for old, new in zip(kept, fresh, strict=True)]
        if kept
        else fresh
    )


def _against_line(test: str, observed: Evaluation, active, kept) -> np.ndarray:
    bend, forecast, jump, _, sharp = kept
    if test == "sharp":
        return upper_p(observed.sharp_ratio_B[active], sharp)
    return minimum_p(
        [observed.bend_B[active], observed.forecast_B[active], observed.jump_B[active]], [bend, forecast, jump]
    )


def _against_second(test: str, observed: Evaluation, active, kept) -> np.ndarray:
    _, _, _, smooth, sharp = kept
    if test == "sharp":
        return upper_p(observed.sharp_ratio_B[active], sharp)
    return upper_p(observed.smooth_B[active], smooth)


def _replicates(design, sampler, null, active, replicates, settings, axis, rng):
    """bend, forecast, jump, smooth and sharp_ratio, each (active, replicates)."""
    if not len(active):
        return [np.empty((0, replicates))] * 5
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
