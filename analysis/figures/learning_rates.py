"""Loss against learning rate, one line a width, one panel a parametrization."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    LOSS_LABEL,
    VERMILION,
    end_labels,
    headed,
    log_ticks,
    loss_axis,
    new_figure,
    padded,
    size_colours,
    styled,
)
from analysis.learning_rate import RateGroup

MOST_ABOVE = 1.35  # losses are drawn up to this many times the lowest: far worse ones would flatten the valleys


@styled
def learning_rate_figure(panels: Mapping[str, Sequence[RateGroup]]) -> Figure:
    """Loss against peak; a star at each width's best. Runs that failed, and losses far above the rest, are cut off.

    Args:
      panels: {title: curves}; all panels share their axes.
    """
    figure, axes = new_figure(columns=len(panels), width=1.4 + 3.7 * len(panels), height=3.9, sharey=True)
    curves = [curve for members in panels.values() for curve in members]
    lowest = min(curve.best_loss for curve in curves)
    shown = np.concatenate([curve.losses[np.isfinite(curve.losses)] for curve in curves])
    shown = np.append(shown[shown <= MOST_ABOVE * lowest], lowest)
    rates = np.unique(np.concatenate([curve.rates for curve in curves]))
    for place, (axis, (title, members)) in enumerate(zip(axes, panels.items(), strict=True)):
        loss_axis(axis, shown, LOSS_LABEL if place == 0 else "")
        _panel(axis, members, rates)
        headed(axis, title, "stars: best peak of each width")
    return figure


def _panel(axes: Axes, members: Sequence[RateGroup], rates: np.ndarray) -> None:
    axes.set_xscale("log")
    low, high = padded(rates, 0.05)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(ticker.FixedLocator(log_ticks(low, high)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("peak learning rate")
    colours = size_colours([curve.width for curve in members])
    top = axes.get_ylim()[1]
    for curve, colour in zip(members, colours, strict=True):
        inside = curve.losses <= top
        axes.plot(curve.rates[inside], curve.losses[inside], "o-", color=colour)
        axes.plot(
            curve.best, curve.best_loss, "*", color=VERMILION, markersize=9, markeredgecolor="white", zorder=4
        )
    end_labels(
        axes,
        [float(min([top, *curve.losses[curve.losses <= top][-1:]])) for curve in members],
        [str(curve.width) for curve in members],
        colours,
        title="width",
    )
