"""Choose the runs that make the interval of a forecast smallest, under a budget of FLOPs and a number of runs.

A greedy start and exchanges, in the manner of Fedorov (1972, Theory of Optimal Experiments): take runs out, put the
best ones in, keep what is better. The aim is the mean over plausible laws of the log standard deviation of the
forecast, so that no single law decides.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from core.errors import BadInput
from planning.design import ScaledLaws
from planning.grids import COOLDOWN, Candidates, Grid

RIDGE = 1e-9  # of the information of one run: lets a greedy start begin from nothing
THRIFT = (0.0, 0.4, 0.8)  # exponents of cost in the greedy start: gain / cost^thrift
LEAST_RUNS = 6  # for a law of 5 parameters
SMALLEST_GAIN = 1e-3  # in log standard deviation; below this a round of exchanges has settled


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a grid may cost.

    Attributes:
      flops: of all new runs. runs: most runs. seeds: most runs of one size and data size.
      trunks: branches of one trunk a size and seed, in place of independent runs.
      correlation: share of the noise's variance that branches of one trunk have in common.
    """

    flops: float
    runs: int
    seeds: int = 1
    trunks: bool = False
    correlation: float = 0.0


class Search:
    """One search.

    Args:
      rows: (K, J, 5) derivatives of log loss at each candidate (`ScaledLaws.rows`).
      forecast: (K, 5) of `ScaledLaws.forecast`.
      existing: (K, n, 5) of runs that are there already and cost nothing.
    """

    def __init__(
        self,
        pool: Candidates,
        rows: np.ndarray,
        forecast: np.ndarray,
        limits: Limits,
        existing: np.ndarray | None = None,
    ):
        self.pool, self.rows, self.forecast, self.limits = pool, rows, forecast, limits
        size = rows.shape[-1]
        self.base = np.broadcast_to(RIDGE * np.eye(size), (rows.shape[0], size, size)).copy()
        self.has_existing = existing is not None
        if existing is not None:
            self.base += np.einsum("kni,knj->kij", existing, existing)

    # A design is a list of (candidate, seed).

    def objective(self, design: Sequence[tuple[int, int]]) -> float:
        """Mean log standard deviation of the forecast, in units of the noise."""
        inverse, weights, sums = self._state(design)
        own = np.einsum("ki,kij,kj->k", self.forecast, inverse, self.forecast)
        return float(np.mean(np.log(self._variance(own, weights[:, None], sums)[:, 0])) / 2)

    def _state(self, design: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, dict]:
        """Inverse information, its product with the forecast, and the summed rows of each trunk."""
        chosen = self.rows[:, [candidate for candidate, _ in design]]
        inverse = np.linalg.inv(self.base + np.einsum("kni,knj->kij", chosen, chosen))
        sums: dict[tuple[float, int], np.ndarray] = {}
        if self.limits.trunks and self.limits.correlation:
            for candidate, seed in design:
                trunk = (float(self.pool.params[candidate]), seed)
                sums[trunk] = sums.get(trunk, 0.0) + self.rows[:, candidate]
        return inverse, np.einsum("kij,kj->ki", inverse, self.forecast), sums

    def _variance(self, own: np.ndarray, weights: np.ndarray, sums: dict) -> np.ndarray:
        """Sandwich variance from c' M^-1 c (K,) or (K, J) and the weights M^-1 c (K, J, 5)."""
        own = own if own.ndim == 2 else own[:, None]
        if not sums:
            return own
        together = sum(np.einsum("kji,ki->kj", weights, total) ** 2 for total in sums.values())
        rho = self.limits.correlation
        return (1 - rho) * own + rho * together

    def after_adding(self, design: Sequence[tuple[int, int]], seed: int) -> np.ndarray:
        """The objective after adding each candidate with this seed, shape (J,)."""
        inverse, weights, sums = self._state(design)
        moved = np.einsum("kij,knj->kni", inverse, self.rows)  # M^-1 g
        gain = 1 + np.einsum("kni,kni->kn", moved, self.rows)
        along = np.einsum("kni,ki->kn", self.rows, weights)
        own = np.einsum("ki,ki->k", self.forecast, weights)[:, None] - along**2 / gain
        if not (self.limits.trunks and self.limits.correlation):
            return np.mean(np.log(own), axis=0) / 2
        new_weights = weights[:, None] - moved * (along / gain)[..., None]
        rho = self.limits.correlation
        influence = {trunk: np.einsum("kji,ki->kj", new_weights, total) for trunk, total in sums.items()}
        everything = sum((one**2 for one in influence.values()), np.zeros_like(own))
        added = np.einsum("kji,kji->kj", new_weights, self.rows)
        for params in np.unique(self.pool.params):
            there = np.flatnonzero(self.pool.params == params)
            old = influence.get((float(params), seed))
            before = old[:, there] if old is not None else np.zeros((own.shape[0], there.size))
            everything[:, there] += (before + added[:, there]) ** 2 - before**2
        return np.mean(np.log((1 - rho) * own + rho * everything), axis=0) / 2

    def flops(self, design: Sequence[tuple[int, int]]) -> float:
        if not design:
            return 0.0
        chosen = [candidate for candidate, _ in design]
        cost = self.pool.flops[chosen]
        if not self.limits.trunks:
            return float(cost.sum())
        longest: dict[tuple[float, int], float] = {}
        for candidate, seed in design:
            trunk = (float(self.pool.params[candidate]), seed)
            longest[trunk] = max(longest.get(trunk, 0.0), float(self.pool.flops[candidate]))
        return float(cost.sum() * COOLDOWN + (1 - COOLDOWN) * sum(longest.values()))

    def added_flops(self, design: Sequence[tuple[int, int]], seed: int) -> np.ndarray:
        """Cost of adding each candidate, shape (J,): a longer trunk only where it is the longest of its size."""
        if not self.limits.trunks:
            return self.pool.flops
        longest = np.zeros(self.pool.params.size)
        for candidate, other in design:
            if other == seed:
                same = self.pool.params == self.pool.params[candidate]
                longest[same] = np.maximum(longest[same], self.pool.flops[candidate])
        return COOLDOWN * self.pool.flops + (1 - COOLDOWN) * np.maximum(self.pool.flops - longest, 0.0)

    def fill(self, design: list[tuple[int, int]], thrift: float = 0.0) -> list[tuple[int, int]]:
        """Add the best candidates until runs or FLOPs are used up."""
        design = list(design)
        spent = self.flops(design)
        while len(design) < self.limits.runs:
            now = self.objective(design)
            taken = set(design)
            best: tuple[float, int, int, float] | None = None
            for seed in range(self.limits.seeds):
                cost = self.added_flops(design, seed)
                allowed = spent + cost <= self.limits.flops * (1 + 1e-9)
                allowed[[candidate for candidate, other in taken if other == seed]] = False
                if seed:  # a repetition only after the one before it, so that seeds are used in order
                    before = np.zeros_like(allowed)
                    before[[candidate for candidate, other in taken if other == seed - 1]] = True
                    allowed &= before
                if not allowed.any():
                    continue
                score = (now - self.after_adding(design, seed)) / cost**thrift
                score[~allowed] = -np.inf
                place = int(np.argmax(score))
                if best is None or score[place] > best[0]:
                    best = (float(score[place]), place, seed, float(cost[place]))
            if best is None:
                return design
            design.append((best[1], best[2]))
            spent += best[3]
        return design

    def improve(
        self, design: list[tuple[int, int]], rng: np.random.Generator, rounds: int
    ) -> list[tuple[int, int]]:
        """Take one or two runs out and fill up again, for as long as that helps."""
        best, value = list(design), self.objective(design)
        for number in range(rounds):
            began = value
            for run in [best[place] for place in rng.permutation(len(best))]:
                if run not in best:
                    continue
                out = {run}
                if number % 2 and len(best) > 6:
                    out.add(best[int(rng.integers(len(best)))])
                kept = [one for one in best if one not in out]
                tried = self.fill(kept)
                new = self.objective(tried)
                if new < value - 1e-9:
                    best, value = tried, new
            if began - value < SMALLEST_GAIN:
                break
        return best

    def grid(self, design: Sequence[tuple[int, int]]) -> Grid:
        chosen = [candidate for candidate, _ in design]
        seeds = np.array([seed for _, seed in design], dtype=int)
        return Grid(self.pool.params[chosen], self.pool.tokens[chosen], seeds, self.limits.trunks)


def best_grid(search: Search, seed: int = 0, rounds: int = 6) -> Grid:
    """The best grid found.

    Raises:
      BadInput: the limits leave no room for a grid that determines a law of five parameters.
    """
    least = 1 if search.has_existing else LEAST_RUNS
    rng = np.random.default_rng(seed)
    starts = [search.fill([], thrift) for thrift in THRIFT]
    found = [search.improve(start, rng, rounds) for start in starts]
    best = min(found, key=search.objective)
    if len(best) < least:
        raise BadInput(
            f"--budget {search.limits.flops:g}: pays for {len(best)} runs of those allowed; at least {least} are needed"
        )
    return search.grid(best)


def choose(
    pool: Candidates,
    laws: Mapping[str, np.ndarray],
    target_flops: float,
    limits: Limits,
    existing: tuple[np.ndarray, np.ndarray] | None = None,
) -> Grid:
    """The best grid of a pool for a set of plausible laws.

    Args:
      existing: parameters and tokens of runs that are there already.
    """
    scaled = ScaledLaws.at(laws, pool.params, pool.tokens)
    there = None if existing is None else scaled.rows(*existing)
    search = Search(pool, scaled.rows(pool.params, pool.tokens), scaled.forecast(target_flops), limits, there)
    return best_grid(search)
