"""Loss against a setting: one line a size, bars over seeds; as it is, and above the best value of each size."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    LOSS_LABEL,
    PALE,
    VERMILION,
    end_labels,
    headed,
    loss_axis,
    new_figure,
    size_colours,
    styled,
)

MOST_TICKS = 8
WIDE = 3.0  # numbers over this range stand on a log axis
MOST_ABOVE = 12.0  # times the median excess: far worse values would flatten the rest


@dataclasses.dataclass(frozen=True)
class SettingLine:
    """One size: V values of the setting.

    Attributes:
      label: of the size. size: for its colour.
      x: (V,) the setting as a number; its place among the values where it is none.
      loss: (V,) mean over seeds. seeds: (2, V) the lowest and highest of them.
      above: (V,) percent above the best value of this size. reach: (2, V) its interval, or None.
      best: the interpolated best value, or None.
    """

    label: str
    size: float
    x: np.ndarray
    loss: np.ndarray
    seeds: np.ndarray
    above: np.ndarray
    reach: np.ndarray | None
    best: float | None = None


@dataclasses.dataclass(frozen=True)
class SettingPanel:
    """Lines on common axes, of equal values of the other settings; `title` names these."""

    title: str
    lines: Sequence[SettingLine]


@styled
def setting_figure(
    panels: Sequence[SettingPanel], name: str, values: Sequence[str] | None, loss_label: str = LOSS_LABEL
) -> Figure:
    """Of one panel its losses and what they are above the best; of several, what each is above the best of its size.

    Args:
      values: names of a category; None for a number.
    """
    both = len(panels) == 1
    count = 2 if both else len(panels)
    figure, axes = new_figure(columns=count, width=1.6 + 3.6 * count, height=3.9)
    if both:
        lines = panels[0].lines
        _losses(axes[0], lines, name, values, loss_label)
        _above(axes[1], lines, name, values)
        headed(axes[0], "Loss", "bars: lowest and highest seed")
        headed(axes[1], "Above the best of each size", _note(lines))
        return figure
    for axis, panel in zip(axes, panels, strict=True):
        _above(axis, panel.lines, name, values)
        headed(axis, panel.title, _note(panel.lines))
    top = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(axes[0].get_ylim()[0], top)
    return figure


def _note(lines: Sequence[SettingLine]) -> str:
    stars = "stars: interpolated best" if any(line.best for line in lines) else ""
    bars = "bars: 95% interval" if any(line.reach is not None for line in lines) else "one seed: no intervals"
    return "; ".join(filter(None, (bars, stars)))


def _losses(
    axes: Axes, lines: Sequence[SettingLine], name: str, values: Sequence[str] | None, label: str
) -> None:
    colours = size_colours([line.size for line in lines])
    place = _axis(axes, lines, name, values)
    loss_axis(axes, np.concatenate([line.seeds.ravel() for line in lines]), label)
    for line, colour in zip(lines, colours, strict=True):
        x, order = place(line.x), np.argsort(place(line.x), kind="stable")
        axes.errorbar(
            x, line.loss, yerr=np.abs(line.seeds - line.loss), fmt="none", ecolor=PALE, elinewidth=1.4, zorder=1
        )
        axes.plot(x[order], line.loss[order], "o-", color=colour, linewidth=1.2 if values is None else 0.6)


def _above(axes: Axes, lines: Sequence[SettingLine], name: str, values: Sequence[str] | None) -> None:
    colours = size_colours([line.size for line in lines])
    place = _axis(axes, lines, name, values)
    dodge = 0.0 if values is None else 0.24 / max(1, len(lines) - 1)
    every = np.concatenate([line.above for line in lines])
    positive = every[every > 0]
    top = min(float(every.max()), MOST_ABOVE * float(np.median(positive))) if positive.size else 1.0
    low = min(0.0, min(float((line.above - line.reach[0]).min()) for line in lines if line.reach is not None)) if any(
        line.reach is not None for line in lines
    ) else 0.0  # fmt: skip
    axes.axhline(0.0, color=PALE, linewidth=0.9)
    ends = []
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True)):
        x = place(line.x) + (number - (len(lines) - 1) / 2) * dodge
        if axes.get_xscale() == "log":  # bars beside each other
            x = x * np.exp(0.008 * np.ptp(np.log(x)) * (number - (len(lines) - 1) / 2))
        order = np.argsort(x, kind="stable")
        if line.reach is not None:
            axes.errorbar(
                x, line.above, yerr=line.reach, fmt="none", ecolor=colour, elinewidth=1.0, alpha=0.5, zorder=1
            )
        axes.plot(x[order], line.above[order], "o-" if values is None else "o", color=colour, linewidth=1.2)
        if line.best is not None:
            axes.plot(
                place(np.array([line.best])),
                [0.0],
                "*",
                color=VERMILION,
                markersize=8,
                markeredgecolor=colour,
                zorder=4,
            )
        ends.append(min(float(line.above[order][-1]), top))
    axes.set_ylim(max(low, -top) - 0.08 * top, 1.15 * top)
    axes.set_ylabel("loss above the best value (%)")
    end_labels(axes, ends, [line.label for line in lines], colours)


def _axis(axes: Axes, lines: Sequence[SettingLine], name: str, values: Sequence[str] | None):
    """Set up the x axis; how a value finds its place on it."""
    axes.set_xlabel(name)
    if values is not None:
        long = max(map(len, values)) * len(values) > 36
        axes.set_xticks(
            range(len(values)), values, rotation=25 if long else 0, ha="right" if long else "center"
        )
        axes.set_xlim(-0.5, len(values) - 0.5)
        return lambda x: np.asarray(x, dtype=float)
    known = np.unique(np.concatenate([line.x for line in lines]))
    positive = known[known > 0]
    if known.min() < 0 or positive.size < 2 or positive[-1] < WIDE * positive[0]:
        axes.set_xticks(_thin(known), [f"{tick:.4g}" for tick in _thin(known)])
        return lambda x: np.asarray(x, dtype=float)
    # Zero has no logarithm: it stands one step below the smallest.
    step = float(np.median(np.diff(np.log(positive))))
    zero = float(positive[0] * np.exp(-max(step, 0.3)))
    axes.set_xscale("log")

    def place(x: np.ndarray) -> np.ndarray:
        return np.where(np.asarray(x, dtype=float) > 0, x, zero)

    ticks = _thin(known)
    axes.xaxis.set_major_locator(ticker.FixedLocator([float(tick) for tick in place(ticks)]))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(
        ticker.FuncFormatter(
            lambda value, _: "0" if abs(value / zero - 1) < 1e-9 and 0 in known else f"{value:.3g}"
        )
    )
    return place


def _thin(values: np.ndarray) -> np.ndarray:
    return values[:: -(-values.size // MOST_TICKS)]
