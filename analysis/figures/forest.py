"""A forest plot: one line a contestant, its strength and its score with their intervals."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import BLUE, GREY, PALE, headed, new_figure, styled

if TYPE_CHECKING:
    from analysis.leaderboard.board import Board

MOST = 40  # lines; the strongest
LABEL = 46  # characters


@dataclasses.dataclass(frozen=True)
class Forest:
    """What is drawn, the strongest first, (M,) each: value, low and high of strength and score."""

    metric: str
    items: int
    level: float
    labels: Sequence[str]
    ranks: Sequence[int]
    strength: tuple[np.ndarray, np.ndarray, np.ndarray]
    score: tuple[np.ndarray, np.ndarray, np.ndarray]


def panel_of(board: "Board") -> Forest:
    """Of a board's strongest."""
    kept = board.standings[:MOST]

    def three(rows: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, low, high = np.array(rows).T
        return value, low, high

    return Forest(
        board.metric,
        board.items,
        board.level,
        [one.label if len(one.label) <= LABEL else f"…{one.label[1 - LABEL :]}" for one in kept],
        [one.rank for one in kept],
        three([(one.strength, *one.strength_interval) for one in kept]),
        three([(one.value, *one.interval) for one in kept]),
    )


@styled
def forest_figure(panel: Forest) -> Figure:
    """Left: strengths; right: the metric. Bars are intervals."""
    height = 1.5 + 0.24 * len(panel.labels)
    figure, (left, right) = new_figure(columns=2, width=9.4, height=height)
    _bars(left, panel, panel.strength)
    left.set_yticks(
        range(len(panel.labels)),
        [f"{label}   {rank}" for label, rank in zip(panel.labels, panel.ranks, strict=True)],
    )
    left.axvline(0.0, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
    left.set_xlabel("strength (nats; 0: the mean of all)")
    headed(left, "Who wins", f"names with ranks; bars: {panel.level:.0%} intervals over {panel.items} items")
    _bars(right, panel, panel.score)
    right.set_yticks(range(len(panel.labels)), ["" for _ in panel.labels])
    right.set_xlabel(panel.metric)
    headed(right, "By how much", "each by itself; paired differences are known better")
    return figure


def _bars(axes: Axes, panel: Forest, three: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    value, low, high = three
    lines = np.arange(len(value))
    axes.hlines(lines, low, high, color=PALE, linewidth=3.0)
    axes.plot(value, lines, "o", color=BLUE)
    axes.set_ylim(len(value) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
