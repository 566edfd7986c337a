"""Scales of activations against width after a few steps, one panel a parametrization."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.figures.style import count_axis, end_labels, headed, new_figure, size_colours, styled


@styled
def coordinate_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Root mean square of each activation against width; a flat line does not depend on width.

    Args:
      rows: parametrization, width, name of the activation, and its scale.
    """
    kinds = list(dict.fromkeys(row["parametrization"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, panels = new_figure(columns=len(kinds), width=1.4 + 3.7 * len(kinds), height=3.9, sharey=True)
    colours = size_colours(range(1, len(names) + 1))
    for axes, kind in zip(panels, kinds, strict=True):
        count_axis(axes, "x", "width", [row["width"] for row in rows])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        ends = []
        for name, colour in zip(names, colours, strict=True):
            points = sorted(
                (row["width"], row["scale"])
                for row in rows
                if row["name"] == name and row["parametrization"] == kind
            )
            axes.plot(*zip(*points, strict=True), "o-", color=colour)
            ends.append(points[-1][1])
        end_labels(axes, ends, names, colours)
        headed(axes, kind, "root mean square after the steps")
    panels[0].set_ylabel("scale of the activation")
    return figure
