"""The compute-optimal frontier of a fitted law: best split, and the loss that it buys."""

import dataclasses

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    BLUE,
    GREY,
    MANY_POINTS,
    SKY,
    VERMILION,
    count_axis,
    headed,
    loss_axis,
    new_figure,
    size_colours,
    styled,
)


@dataclasses.dataclass(frozen=True)
class Band:
    """A frontier at budgets C (K,): best values, and the ends of their intervals, each (K,)."""

    flops: np.ndarray
    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    params_ends: tuple[np.ndarray, np.ndarray] | None
    tokens_ends: tuple[np.ndarray, np.ndarray] | None
    loss_ends: tuple[np.ndarray, np.ndarray] | None


@styled
def frontier_figure(
    band: Band, params: np.ndarray, loss: np.ndarray, flops: np.ndarray, level: float = 0.95
) -> Figure:
    """Left: best parameters and tokens against FLOPs. Right: loss of the frontier and of the runs.

    Args:
      band: over the budgets of the runs and beyond; dashed beyond.
      params, loss, flops: of the runs, (R,).
      level: of the band.
    """
    figure, (left, right) = new_figure(columns=2, width=8.6, height=4.0)
    most = float(flops.max())
    for axes in (left, right):
        count_axis(axes, "x", "training FLOPs, C = 6 N D", band.flops, flops=True)
        axes.axvline(most, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    finite = [ends for ends in (band.params_ends, band.tokens_ends) if ends]
    counts = np.concatenate([band.params, band.tokens, *(end for ends in finite for end in ends)])
    count_axis(left, "y", "compute-optimal count", _seen(counts, np.concatenate([band.params, band.tokens])))
    for values, ends, colour, name in (
        (band.tokens, band.tokens_ends, VERMILION, "tokens D"),
        (band.params, band.params_ends, BLUE, "parameters N"),
    ):
        _line(left, band.flops, values, ends, colour, most)
        left.text(
            1.015, left.transAxes.inverted().transform(left.transData.transform((band.flops[-1], values[-1])))[1],
            name, transform=left.transAxes, color=colour, fontsize=7.5, fontweight="bold", va="center",
        )  # fmt: skip
    headed(left, "Best split of compute", f"bands: {level:.0%} intervals; dashed: beyond the runs")
    loss_ends = np.concatenate(band.loss_ends) if band.loss_ends else band.loss
    loss_axis(right, _seen(np.concatenate([loss, loss_ends]), np.concatenate([loss, band.loss])))
    sizes = np.unique(params)
    colours = size_colours(sizes)
    right.scatter(
        flops, loss, s=11, c=[colours[index] for index in np.searchsorted(sizes, params)],
        rasterized=loss.size > MANY_POINTS, zorder=3, linewidths=0,
    )  # fmt: skip
    _line(right, band.flops, band.loss, band.loss_ends, SKY, most)
    headed(right, "What it buys", "line: frontier of the law; points: runs, darker is smaller")
    return figure


def _seen(values: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Values within a factor 30 of the anchor's range: a hopeless band must not squeeze the rest to a line."""
    good = values[np.isfinite(values) & (values > anchor.min() / 30) & (values < anchor.max() * 30)]
    return np.concatenate([good, anchor])


def _line(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray] | None,
    colour: str,
    most: float,
) -> None:
    if ends is not None:
        axes.fill_between(x, *ends, color=colour, alpha=0.22, linewidth=0, zorder=1)
    inside = x <= most * (1 + 1e-9)
    axes.plot(x[inside], y[inside], color=colour)
    beyond = np.flatnonzero(~inside)
    if beyond.size:
        start = max(beyond[0] - 1, 0)
        axes.plot(x[start:], y[start:], color=colour, linestyle=(0, (4, 2)))
