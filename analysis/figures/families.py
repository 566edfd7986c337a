"""Panels of families of points with their lines: what the sections of a report are drawn with."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    LOSS_LABEL,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    VERMILION,
    count_axis,
    end_labels,
    headed,
    loss_axis,
    new_figure,
    styled,
)

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)


@dataclasses.dataclass(frozen=True)
class Family:
    """Points of one name, (P,) each, and the line through them, (Q,) each.

    `reach` is how far each point is uncertain upward and downward, (2, P), or None.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    line_x: np.ndarray | None = None
    line_y: np.ndarray | None = None
    colour: Any = BLUE
    reach: np.ndarray | None = None
    dashed: bool = False

    @classmethod
    def joined(cls, label: str, points: Sequence[tuple[float, float]], colour: Any, **more: Any) -> "Family":
        """(x, y) of each point, and a line from one to the next."""
        x, y = np.array(points, dtype=float).reshape(-1, 2).T
        return cls(label, x, y, x, y, colour, **more)


@dataclasses.dataclass(frozen=True)
class Panel:
    """Families on common axes: x is a log axis of counts, or of FLOPs; y is a log axis, or linear with zero marked."""

    title: str
    families: Sequence[Family]
    x_label: str
    y_label: str = LOSS_LABEL
    note: str = ""
    key: str = ""
    flops: bool = False
    linear: bool = False
    counts: bool = False


def colours(count: int) -> list[str]:
    """Distinct colours for families without an order."""
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


@styled
def family_panels(panels: Sequence[Panel], height: float = 3.9) -> Figure:
    """The panels side by side."""
    figure, every = new_figure(
        columns=len(panels), width=6.6 if len(panels) == 1 else 4.4 * len(panels), height=height
    )
    for axes, panel in zip(every, panels, strict=True):
        _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    if not panel.families:
        axes.set_axis_off()
        headed(axes, panel.title, "nothing to draw yet")
        return
    every_x = np.concatenate([*(one.x for one in panel.families), *(_line(one)[0] for one in panel.families)])
    every_y = np.concatenate([*(one.y for one in panel.families), *(_line(one)[1] for one in panel.families)])
    count_axis(axes, "x", panel.x_label, every_x, flops=panel.flops)
    if panel.linear:
        axes.axhline(0.0, color=PALE, linewidth=0.9)
        axes.set_ylabel(panel.y_label)
        margin = 0.06 * max(float(np.ptp(every_y)), 1e-9)
        axes.set_ylim(min(0.0, float(every_y.min())) - margin, float(every_y.max()) + margin)
    elif panel.counts:
        count_axis(axes, "y", panel.y_label, every_y)
    else:
        loss_axis(axes, every_y, panel.y_label)
    ends = []
    for one in panel.families:
        line_x, line_y = _line(one)
        axes.plot(line_x, line_y, color=one.colour, linewidth=1.2, linestyle=(0, (3, 2)) if one.dashed else "-")
        if one.reach is not None:
            axes.errorbar(one.x, one.y, yerr=one.reach, fmt="none", ecolor=PALE, elinewidth=1.4, zorder=1)
        axes.plot(one.x, one.y, "o", color=one.colour, markersize=4, zorder=3)
        ends.append(float(line_y[-1] if line_y.size else one.y[np.argmax(one.x)]))
    named = [place for place, one in enumerate(panel.families) if one.label]
    end_labels(
        axes,
        [ends[place] for place in named],
        [panel.families[place].label for place in named],
        [panel.families[place].colour for place in named],
        title=panel.key,
    )
    headed(axes, panel.title, panel.note)


def _line(one: Family) -> tuple[np.ndarray, np.ndarray]:
    if one.line_x is None or one.line_y is None:
        return np.zeros(0), np.zeros(0)
    return one.line_x, one.line_y
