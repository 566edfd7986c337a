"""Differences in log loss between the values of a setting, with intervals from runs that differ in their seed only.

Runs that share a seed share their start and the order of their data, so differences are taken within a seed where
seeds are shared ("paired"). The interval of a difference is Student's. Where a setting has more than two values, the
one of the lowest loss is chosen after looking, so intervals are wider: they hold for all pairs of values at once
(Tukey's studentized range; Hsu 1996, Multiple Comparisons, chapter 5). For two values both are the same.

C cells (a size and a data size), V values, S seeds.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit
from scipy.stats import studentized_range

from analysis.settings.matched import MatchedRuns

LEVEL = 0.95
ENOUGH_FREEDOM = 5  # degrees of freedom; below it, noise is pooled over more runs
POOLED = ("of each pair by itself", "pooled over sizes", "pooled over all runs")


@dataclasses.dataclass(frozen=True)
class Difference:
    """Log loss of one value less that of another.

    Attributes:
      mean: natural log; -0.01 is a loss 1% lower.
      interval: None where no seed was repeated.
      freedom: degrees of freedom of its noise.
    """

    mean: float
    interval: tuple[float, float] | None
    freedom: float = 0.0

    @property
    def told(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def gain(self) -> tuple[float, float] | None:
        """How much lower the loss of the first is, as an interval of shares: 0.01 for 1%."""
        if self.interval is None:
            return None
        return -math.expm1(self.interval[1]), -math.expm1(self.interval[0])


@dataclasses.dataclass(frozen=True)
class Effects:
    """The losses of matched runs, and how well their differences are known.

    Attributes:
      values: of the setting.
      logs_CVS: log loss, NaN where there is no such run.
      paired: whether differences are taken within a seed.
      pooling: place in POOLED; None where no seed was repeated.
    """

    values: tuple[str, ...]
    logs_CVS: np.ndarray
    paired: bool
    pooling: int | None

    @functools.cached_property
    def means_CV(self) -> np.ndarray:
        return np.nanmean(self.logs_CVS, axis=2)

    @functools.cached_property
    def mean_V(self) -> np.ndarray:
        """Over cells, each of equal weight."""
        return self.means_CV.mean(axis=0)

    @property
    def seeds(self) -> tuple[int, int]:
        """Fewest and most runs of one value in one cell."""
        counts = np.isfinite(self.logs_CVS).sum(axis=2)
        return int(counts.min()), int(counts.max())

    def difference(
        self,
        value: str,
        other: str,
        cells: Sequence[int] | None = None,
        level: float = LEVEL,
        pairs: bool = True,
    ) -> Difference:
        """Mean over cells (all, or those named) of log loss of `value` less that of `other`.

        Args:
          level: of the interval.
          pairs: for all pairs of values at once; otherwise for this pair alone, chosen before looking.
        """
        one, two = self.values.index(value), self.values.index(other)
        chosen = list(range(len(self.logs_CVS))) if cells is None else list(cells)
        parts = [self._of_cell(cell, one, two) for cell in chosen]
        mean = float(np.mean([part[0] for part in parts]))
        if self.pooling is None:
            return Difference(mean, None)
        variance = sum(part[1] for part in parts) / len(parts) ** 2
        if self.pooling > 0:
            freedom = parts[0][2]
        else:  # Satterthwaite 1946
            squares = sum(part[1] ** 2 / part[2] for part in parts) / len(parts) ** 4
            freedom = variance**2 / squares if squares else parts[0][2]
        reach = critical(len(self.values) if pairs else 2, freedom, level) * math.sqrt(variance)
        return Difference(mean, (mean - reach, mean + reach), freedom)

    def deviation(self) -> tuple[float, float] | None:
        """Standard deviation of log loss over seeds (of paired runs what is left beside the seed), and its degrees of
        freedom; over all cells and values. None where no seed was repeated."""
        squares, freedom = self._residual
        return None if freedom == 0 else (math.sqrt(squares / freedom), freedom)

    @functools.cached_property
    def _residual(self) -> tuple[float, float]:
        """Sum of squares and degrees of freedom over all cells."""
        found = [_left_over(cell, self.paired) for cell in self.logs_CVS]
        return sum(one[0] for one in found), sum(one[1] for one in found)

    def _of_cell(self, cell: int, one: int, two: int) -> tuple[float, float, float]:
        """Mean difference in a cell, its variance and the degrees of freedom of that."""
        logs = self.logs_CVS
        if self.paired:
            within = _paired(logs[cell], one, two)
            mean = float(within.mean())
            if self.pooling is None:
                return mean, math.nan, 0.0
            if self.pooling == 2:
                squares, freedom = self._residual
                return mean, 2 * squares / freedom / within.size, freedom
            own = [cell] if self.pooling == 0 else range(len(logs))
            many = [_paired(logs[place], one, two) for place in own]
            freedom = sum(part.size - 1 for part in many)
            squares = sum(float(((part - part.mean()) ** 2).sum()) for part in many)
            return mean, squares / freedom / within.size, freedom
        return self._unpaired(cell, one, two)

    def _unpaired(self, cell: int, one: int, two: int) -> tuple[float, float, float]:
        """Welch 1947, with variances pooled over cells where seeds are few."""
        logs = self.logs_CVS
        mean = float(np.nanmean(logs[cell, one]) - np.nanmean(logs[cell, two]))
        if self.pooling is None:
            return mean, math.nan, 0.0
        if self.pooling == 2:
            squares, freedom = self._residual
            counts = [_finite(logs[cell, place]).size for place in (one, two)]
            return mean, squares / freedom * (1 / counts[0] + 1 / counts[1]), freedom
        variances, terms = [], []
        for place in (one, two):
            own = [cell] if self.pooling == 0 else range(len(logs))
            many = [_finite(logs[other, place]) for other in own]
            freedom = sum(part.size - 1 for part in many)
            squares = sum(float(((part - part.mean()) ** 2).sum()) for part in many)
            variance = squares / freedom / _finite(logs[cell, place]).size
            variances.append(variance)
            terms.append(variance**2 / freedom)
        whole = sum(variances)
        return mean, whole, whole**2 / sum(terms) if sum(terms) else 1.0


def effects_of(cells: Sequence[MatchedRuns], values: Sequence[str]) -> Effects:
    """Of cells that have all of `values`; how noise is pooled follows from the numbers of seeds alone."""
    most = max(len({seed for losses in cell.losses.values() for seed in losses}) for cell in cells)
    logs = np.full((len(cells), len(values), most), np.nan)
    for row, cell in zip(logs, cells, strict=True):
        seeds = sorted({seed for losses in cell.losses.values() for seed in losses})
        for place, value in enumerate(values):
            for seed, loss in cell.losses[value].items():
                row[place, seeds.index(seed)] = math.log(loss)
    return of_logs(logs, values)


def of_logs(logs_CVS: np.ndarray, values: Sequence[str]) -> Effects:
    """The same from log losses, where the places of the last axis are seeds."""
    there = np.isfinite(logs_CVS)
    shared = np.einsum("cvs,cws->cvw", there.astype(int), there.astype(int))
    counts = there.sum(axis=2)
    # Paired where every two values share a seed in every cell, and lose no more than half of their runs by it.
    paired = bool((2 * shared >= np.minimum(counts[:, :, None], counts[:, None, :])).all() and shared.min() > 0)
    bare = Effects(tuple(values), logs_CVS, paired, None)
    return dataclasses.replace(
        bare, pooling=_least_pooling(shared if paired else None, counts, bare._residual[1])
    )


def _least_pooling(shared_CVV: np.ndarray | None, counts_CV: np.ndarray, freedom: float) -> int | None:
    """The least pooling that leaves every difference ENOUGH_FREEDOM, or the most where none does."""
    many = len(counts_CV) > 1
    own = shared_CVV if shared_CVV is not None else np.minimum(counts_CV[:, :, None], counts_CV[:, None, :])
    if own.min() - 1 >= ENOUGH_FREEDOM:
        return 0
    over_cells = int((own - 1).sum(axis=0).min())
    if over_cells >= ENOUGH_FREEDOM and many:
        return 1
    if freedom <= 0:
        return None
    return 2


def critical(values: int, freedom: float, level: float) -> float:
    """Half-width of an interval in standard errors: Student's for two values, Tukey's for all pairs of more."""
    if values < 3:
        return float(stdtrit(freedom, 0.5 + level / 2))
    # Down to halves: an integral of a third of a second, which is then known for the next.
    return _tukey(
        values, max(1.0, math.floor(2 * freedom) / 2) if freedom < 100 else 10 * (freedom // 10), level
    )


@functools.cache
def _tukey(values: int, freedom: float, level: float) -> float:
    return float(studentized_range.ppf(level, values, min(freedom, 1e5)) / math.sqrt(2))


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _paired(logs_VS: np.ndarray, one: int, two: int) -> np.ndarray:
    return _finite(logs_VS[one] - logs_VS[two])


def _left_over(logs_VS: np.ndarray, paired: bool) -> tuple[float, float]:
    """What values (and seeds, of paired runs) leave over in a cell: sum of squares and its degrees of freedom."""
    value_R, seed_R = np.nonzero(np.isfinite(logs_VS))
    y_R = logs_VS[value_R, seed_R]
    columns = [value_R[:, None] == np.arange(logs_VS.shape[0])]
    columns += [seed_R[:, None] == np.arange(logs_VS.shape[1])] if paired else []
    terms = np.concatenate(columns, axis=1).astype(float)
    answer, _, rank, _ = np.linalg.lstsq(terms, y_R, rcond=None)
    return float(((y_R - terms @ answer) ** 2).sum()), float(y_R.size - rank)
