"""Grids of runs as plain arrays: isoFLOP valleys of a given cost, and the runs that a search may choose from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import BadInput

COOLDOWN = 0.2  # share of a run that each branch trains for itself (experiments/scaling.py)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Runs: parameters, tokens and a seed each, shape (n,), as independent runs or as branches of one trunk a size and
    seed."""

    params: np.ndarray
    tokens: np.ndarray
    seeds: np.ndarray
    trunks: bool = False

    def __len__(self) -> int:
        return self.params.size

    @property
    def clusters(self) -> np.ndarray | None:
        """The trunk of each run; None for independent runs."""
        if not self.trunks:
            return None
        return np.unique(np.stack([self.params, self.seeds]), axis=1, return_inverse=True)[1].reshape(-1)

    def flops(self, flops_per_token: Mapping[float, float] | None = None) -> float:
        """Cost of training it all: tokens shared by branches count once.

        Args:
          flops_per_token: of each size; None for 6 N.
        """
        each = np.array([_per_token(n, flops_per_token) for n in self.params.tolist()])
        clusters = self.clusters
        if clusters is None:
            return float(np.sum(each * self.tokens))
        own = float(np.sum(each * self.tokens * COOLDOWN))
        for trunk in np.unique(clusters):
            longest = int(np.flatnonzero(clusters == trunk)[np.argmax(self.tokens[clusters == trunk])])
            own += float(each[longest] * self.tokens[longest] * (1 - COOLDOWN))
        return own

    def to_json(self) -> list[dict[str, Any]]:
        order = np.lexsort((self.seeds, self.tokens, self.params))
        return [
            {"params": float(self.params[i]), "tokens": float(self.tokens[i]), "seed": int(self.seeds[i])}
            for i in order
        ]


def _per_token(params: float, flops_per_token: Mapping[float, float] | None) -> float:
    return 6.0 * params if flops_per_token is None else flops_per_token[params]


def isoflop_grid(
    total_flops: float,
    budgets: int = 5,
    sizes: int = 6,
    budget_ratio: float = math.sqrt(10),
    size_spread: float = 8.0,
    tokens_per_param: float = 20.0,
) -> Grid:
    """A plain isoFLOP grid (Hoffmann et al. 2022, arXiv 2203.15556, section 3.2): at each budget, sizes around the
    expected optimum.

    Hoffmann et al. have nine budgets from 6e18 to 3e21, a factor 2.2 apart; the defaults here are five budgets half a
    decade apart with six sizes each, over a factor 8 around the expected optimum.

    Args:
      total_flops: of all runs together, which fixes the largest budget.
      size_spread: largest over smallest size at one budget.
      tokens_per_param: D / N at the expected optimum.
    """
    levels = float(budget_ratio) ** -np.arange(budgets, dtype=np.float64)
    largest = total_flops / (sizes * levels.sum())
    around = size_spread ** np.linspace(-0.5, 0.5, sizes)
    params = np.concatenate([np.sqrt(level * largest / 6 / tokens_per_param) * around for level in levels])
    each = np.repeat(levels * largest, sizes)
    return Grid(params, each / (6 * params), np.zeros(params.size, dtype=int))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Runs that a search may choose.

    Attributes:
      params, tokens, flops_per_token: (J,).
    """

    params: np.ndarray
    tokens: np.ndarray
    flops_per_token: np.ndarray

    @property
    def flops(self) -> np.ndarray:
        return self.flops_per_token * self.tokens


def candidates(
    sizes: Mapping[float, float],
    budget: float,
    tokens_per_param: tuple[float, float] = (2.0, 200.0),
    smallest: float = 1e-3,
    largest: float = 0.5,
    step: float = math.sqrt(2.0),
) -> Candidates:
    """Every size with every data size on a ladder.

    Args:
      sizes: parameters -> FLOPs per token.
      budget: FLOPs of the whole grid. smallest, largest: FLOPs of one run as shares of it.
      tokens_per_param: least and most D / N. The plain isoFLOP grid has the same range about its optimum.
      step: ratio of neighbouring data sizes.

    Raises:
      BadInput: nothing is left.
    """
    kept = []
    for params, each in sizes.items():
        low = math.ceil(math.log(tokens_per_param[0] * params) / math.log(step) - 1e-9)
        high = math.floor(math.log(tokens_per_param[1] * params) / math.log(step) + 1e-9)
        kept += [
            (params, step**rung, each)
            for rung in range(low, high + 1)
            if smallest * budget <= each * step**rung <= largest * budget
        ]
    if len({params for params, _, _ in kept}) < 3:
        raise BadInput(
            f"--budget {budget:g}: leaves runs of {len({params for params, _, _ in kept})} sizes to choose from; at "
            "least 3 are needed"
        )
    columns = np.array(kept, dtype=np.float64).T
    return Candidates(columns[0], columns[1], columns[2])


def ladder(budget: float, step: float = math.sqrt(2.0), tokens_per_param: float = 20.0) -> dict[float, float]:
    """Sizes from the optimum of a ten-thousandth of the budget to that of half of it, `step` apart, with 6 N each."""
    low, high = (math.sqrt(share * budget / 6 / tokens_per_param) for share in (1e-4, 0.5))
    count = max(3, round(math.log(high / low) / math.log(step)) + 1)
    return {float(size): 6.0 * float(size) for size in np.geomspace(low, high, count)}
