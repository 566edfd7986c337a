"""Effective data transferred over the tokens of training on, a line a size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import GREY, count_axis, headed, new_figure, size_colours, styled
from core.numbers import short_count

if TYPE_CHECKING:
    from analysis.transfer import Transfer


@styled
def transfer_figure(found: Sequence["Transfer"], level: float) -> Figure:
    """A panel a base, at most three. What is not above 0 lies on the lower edge."""
    shown = found[:3]
    figure, panels = new_figure(columns=len(shown), width=3.4 * len(shown) + 1.0, height=3.8, sharey=True)
    cells = [cell for one in shown for cell in one.cells]
    amounts = np.array([cell.tokens for cell in cells])
    told = np.array([cell.transferred for cell in cells if cell.transferred > 0] or [1.0])
    least = told.min() / 2
    for axes, one in zip(panels, shown, strict=True):
        sizes = sorted({cell.params for cell in one.cells})
        for size, colour in zip(sizes, size_colours(sizes), strict=True):
            own = sorted((cell for cell in one.cells if cell.params == size), key=lambda cell: cell.tokens)
            x = np.array([cell.tokens for cell in own])
            y = np.array([cell.transferred for cell in own])
            ends = np.array([cell.interval for cell in own]).T
            low, high = (np.where(np.isnan(end), y, np.maximum(end, least)) for end in ends)
            y = np.where(y > 0, y, least)
            axes.plot(x, y, "o-", color=colour, label=f"{short_count(size)} parameters")
            axes.vlines(x, np.minimum(low, y), np.maximum(high, y), color=colour, alpha=0.5)
        axes.plot([amounts.min(), amounts.max()], [amounts.min(), amounts.max()], color=GREY, linestyle=":")
        count_axis(axes, "x", "tokens of training on, D_F", amounts)
        highest = max(float(np.nanmax([cell.interval[1] for cell in cells])), amounts.max())
        count_axis(axes, "y", "tokens transferred, D_T", [least, highest])
        headed(axes, one.base, f"bars: {level:.0%} intervals; dotted: as many as were trained on")
    panels[0].legend(loc="best")
    for axes in panels[1:]:
        axes.set_ylabel("")
    return figure
