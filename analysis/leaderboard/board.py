"""A board: contestants on the same items, their means, strengths and ranks with intervals.

All intervals come from one bootstrap over items: every contestant is scored on the same draw, so that what is hard for
all of them cancels in their differences (Efron and Tibshirani 1993, ch. 8). Luck of the seed is not in them.

A contestant's rank is one more than the number of contestants that are better, where better means that the interval of
the difference of the two strengths lies above zero (after Chiang et al. 2024, arXiv 2403.04132, who compare the
intervals of the two strengths). So contestants share a rank where as many are better than each.
"""

import dataclasses

import numpy as np

from analysis.leaderboard.bradley_terry import solve
from core.errors import BadInput

WEIGHTS = 2**24  # numbers of one block of draws
MOST_RANKED = 100  # every pair of contestants is compared on every item


@dataclasses.dataclass(frozen=True)
class Standing:
    """One contestant on a board.

    Attributes:
      rank: from 1; shared where nothing tells contestants apart.
      strength: Bradley-Terry, nats above the mean of all.
      value: of the metric. win_share: of all its comparisons, ties half.
      strength_interval, interval: of strength and value.
    """

    label: str
    rank: int
    strength: float
    strength_interval: tuple[float, float]
    value: float
    interval: tuple[float, float]
    win_share: float


@dataclasses.dataclass(frozen=True)
class Board:
    """Contestants from the strongest to the weakest.

    Attributes:
      metric: its name. items: how many were compared.
      wins: share of items on which the one of a row beats that of a column, ties half; as the standings are ordered.
      separated: whether some strength is infinite, and half an item was added to each side of every pair.
      tied: share of comparisons that were ties.
    """

    metric: str
    items: int
    level: float
    standings: tuple[Standing, ...]
    wins: np.ndarray
    separated: bool
    tied: float


def board(
    metric: str,
    labels: list[str],
    scores_MI: np.ndarray,
    weights_I: np.ndarray,
    values: list[float],
    *,
    rises: bool,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Board:
    """Rank contestants.

    Args:
      scores_MI: of each contestant on each item.
      weights_I: of the items in a contestant's mean, such as a sequence's tokens.
      values: of the metric over all items, as the logs have it; intervals are about them.
      rises: whether more is better.

    Raises:
      BadInput: fewer than two contestants or items.
    """
    count, items = scores_MI.shape
    if count < 2 or items < 2:
        raise BadInput(f"{metric}: {count} runs on {items} items: at least 2 of each are compared")
    if count > MOST_RANKED:
        raise BadInput(
            f"{metric}: {count} runs: at most {MOST_RANKED} are ranked; --at ranks recipes at one size"
        )
    won_PI, places = _won(scores_MI if rises else -scores_MI)
    observed = _tables(won_PI.sum(axis=1)[None], places, count, items)
    best = solve(observed)
    chance = np.random.default_rng(seed)
    mean_MI = scores_MI * weights_I
    strengths, means = [], []
    block = max(1, WEIGHTS // items)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn_RI = chance.multinomial(items, np.full(items, 1 / items), size).astype(float)
        strengths.append(solve(_tables(drawn_RI @ won_PI.T, places, count, items)).nats_BM)
        means.append((drawn_RI @ mean_MI.T) / (drawn_RI @ weights_I)[:, None])
    strength_RM, mean_RM = np.concatenate(strengths), np.concatenate(means)
    ends = ((1 - level) / 2, (1 + level) / 2)
    low_M, high_M = np.quantile(strength_RM, ends, axis=0)
    moved_2M = np.quantile(mean_RM, ends, axis=0) - mean_MI.sum(1) / weights_I.sum()
    ranks = [_rank(strength_RM, place, ends) for place in range(count)]
    wins_MM = observed[0] / items
    share_M = (wins_MM.sum(1) - np.diag(wins_MM)) / (count - 1)
    order = sorted(range(count), key=lambda place: (-best.nats_BM[0, place], labels[place]))
    standings = tuple(
        Standing(
            labels[place],
            ranks[place],
            float(best.nats_BM[0, place]),
            (float(low_M[place]), float(high_M[place])),
            values[place],
            (values[place] + float(moved_2M[0, place]), values[place] + float(moved_2M[1, place])),
            float(share_M[place]),
        )
        for place in order
    )
    return Board(
        metric, items, level, standings, wins_MM[np.ix_(order, order)], bool(best.separated_B[0]),
        float((won_PI == 0.5).mean()),
    )  # fmt: skip


def shares(better_MI: np.ndarray) -> np.ndarray:
    """(M, I): the share of the others that a contestant is better than on an item; equal ones count half."""
    apart_MMI = np.sign(better_MI[:, None] - better_MI[None])
    return (apart_MMI.sum(1) / (len(better_MI) - 1) + 1) / 2


def _won(better_MI: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(P, I): 1 where the first of a pair is better on an item, 0.5 where both are equal; and who the pairs are."""
    places = np.triu_indices(len(better_MI), 1)
    apart_PI = np.sign(better_MI[places[0]] - better_MI[places[1]])
    return (apart_PI + 1) / 2, places


def _tables(won_RP: np.ndarray, places: tuple[np.ndarray, np.ndarray], count: int, items: int) -> np.ndarray:
    """(R, M, M) wins from those of the first of each pair; every pair met on as many items."""
    tables_RMM = np.zeros((len(won_RP), count, count))
    tables_RMM[:, places[0], places[1]] = won_RP
    tables_RMM[:, places[1], places[0]] = items - won_RP
    return tables_RMM


def _rank(strength_RM: np.ndarray, place: int, ends: tuple[float, float]) -> int:
    """One more than those whose difference to this one has its interval above zero."""
    above_RM = np.delete(strength_RM, place, axis=1) - strength_RM[:, [place]]
    return 1 + int((np.quantile(above_RM, ends[0], axis=0) > 0).sum())
