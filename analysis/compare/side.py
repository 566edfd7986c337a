"""One side of a comparison: its runs, what each cost and where each ended."""

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np

from analysis.logs.settings import groups_of_rows

Axis = Literal["flops", "tokens", "seconds", "params"]
AXES: tuple[Axis, ...] = get_args(Axis)
NEAR = 0.02  # of a logarithm: costs, sizes and data sizes within it count as equal
ON_A_LINE = 0.995  # correlation of log size and log data above which sizes have their own data sizes
FEWEST_EACH = 3  # sizes, and data sizes, of a law of both


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the logs of a side say of how its numbers were made; empty where they do not say.

    Attributes:
      tokenizers, corpora: read. heldout: what was scored. counted: how FLOPs were counted. devices: trained on.
      questions: what the held-out loss asks (analysis/logs/question.py).
      rates: most learning rates (or other tuned settings) that were tried at one size.
    """

    tokenizers: frozenset[str] = frozenset()
    corpora: frozenset[str] = frozenset()
    heldout: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    questions: frozenset[str] = frozenset()
    rates: int | None = None


@dataclasses.dataclass(frozen=True)
class RecipeRuns:
    """Runs of one recipe, (N,) each.

    Attributes:
      label: how sentences call it.
      cost: on the axis. loss: positive, the lower the better.
      params, tokens: None where a table does not have them.
      luck: a name that runs share whose luck is one: the checkpoints of a run, and on both sides the runs of one size,
        data size and seed where the order of the data is the same. "" for a run by itself.
      source: path, sha256 and rows, for the result file.
      warnings: of its logs.
    """

    label: str
    cost: np.ndarray
    loss: np.ndarray
    params: np.ndarray | None = None
    tokens: np.ndarray | None = None
    luck: np.ndarray | None = None
    source: dict[str, str | int] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    recipe: Recipe = Recipe()

    @functools.cached_property
    def cells(self) -> np.ndarray:
        """(N,) the number of each run's cell: runs of one cell differ in their seed only."""
        columns = {"cost": _rounded(self.cost)}
        if self.params is not None and self.tokens is not None:
            columns = {"params": _rounded(self.params), "tokens": _rounded(self.tokens)}
        return groups_of_rows(columns, list(columns))

    @functools.cached_property
    def costs(self) -> int:
        """How many of them there are that differ."""
        return np.unique(_rounded(self.cost)).size

    @functools.cached_property
    def sizes(self) -> int | None:
        """How many model sizes, where they are known."""
        return None if self.params is None else np.unique(_rounded(self.params)).size

    @property
    def is_ladder(self) -> bool:
        """Whether each cost has one kind of run, so that all runs lie on the frontier."""
        if self.params is None or self.tokens is None:
            return self._falls
        n, d = np.log(self.params), np.log(self.tokens)
        if min(np.ptp(n), np.ptp(d)) <= NEAR:
            return True
        return bool(np.corrcoef(n, d)[0, 1] > ON_A_LINE)

    @property
    def _falls(self) -> bool:
        """Whether most cells are better than all cheaper ones, where only costs are known."""
        _, first = np.unique(self.cells, return_index=True)
        cost = np.log(self.cost[first])
        loss = np.bincount(self.cells, self.loss) / np.bincount(self.cells)
        ordered = loss[np.argsort(cost, kind="stable")]
        return bool((ordered <= np.minimum.accumulate(ordered)).mean() > 0.5)

    @property
    def is_surface(self) -> bool:
        """Whether sizes and data sizes vary apart, enough of each for a law of both."""
        if self.params is None or self.tokens is None or self.is_ladder:
            return False
        each = min(np.unique(_rounded(self.params)).size, np.unique(_rounded(self.tokens)).size)
        return each >= FEWEST_EACH and np.unique(self.cells).size >= 2 * FEWEST_EACH


def _rounded(values: np.ndarray) -> np.ndarray:
    """The same number for values that are within NEAR of the next smaller one."""
    logs = np.log(values)
    order = np.argsort(logs, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(logs[order]) > NEAR)])
    number = np.empty(values.size)
    number[order] = steps
    return number


def luck_of(first: RecipeRuns, second: RecipeRuns) -> np.ndarray:
    """(N,) the number of each run's luck, of both sides' runs in order."""
    named: dict[str, int] = {}
    numbers: list[int] = []
    for side in (first, second):
        names = [""] * side.cost.size if side.luck is None else side.luck.tolist()
        for row, name in enumerate(names):
            key = name or f"\0{len(numbers)} {row}"
            numbers.append(named.setdefault(key, len(named)))
    return np.array(numbers)


def best_tuned(
    params: np.ndarray, tokens: np.ndarray, loss: np.ndarray, tuned: list[str]
) -> tuple[np.ndarray, int]:
    """Of each size and data size the runs of the tuned settings with the lowest mean loss, and most tried at one size.

    Args:
      tuned: (N,) what was tuned, as one text a run.
    """
    cells = groups_of_rows({"params": _rounded(params), "tokens": _rounded(tokens)}, ["params", "tokens"])
    sizes, names = _rounded(params), np.array(tuned)
    kept = np.zeros(loss.size, bool)
    for cell in np.unique(cells):
        own = np.flatnonzero(cells == cell)
        means = {name: loss[own][names[own] == name].mean() for name in np.unique(names[own])}
        kept[own] = names[own] == min(means, key=lambda name: means[name])
    return kept, max(np.unique(names[sizes == size]).size for size in np.unique(sizes))
