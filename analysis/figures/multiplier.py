"""Two recipes: their frontiers over cost, and the compute multiplier over loss."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.families import colours
from analysis.figures.style import (
    GREY,
    PALE,
    count_axis,
    end_labels,
    headed,
    log_ticks,
    loss_axis,
    new_figure,
    padded,
    round_ticks,
    styled,
)

if TYPE_CHECKING:
    from analysis.compare.compare import RecipeComparison

AXES = {
    "flops": "training FLOPs",
    "tokens": "training tokens",
    "seconds": "training seconds",
    "params": "parameters",
}
FARTHEST = 30.0  # a band is drawn to so many times the multiplier


@dataclasses.dataclass(frozen=True)
class Recipes:
    """What is drawn: runs and frontier of each side by its label, and the multiplier of each but the first.

    Attributes:
      runs: costs and losses. frontiers: the same along a curve.
      multipliers: loss, multiplier and, where there is an interval, its ends low and high.
    """

    axis: str
    metric: str
    level: float
    runs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    frontiers: Mapping[str, tuple[np.ndarray, np.ndarray]]
    multipliers: Mapping[str, Mapping[str, np.ndarray]]


def panels_of(found: Sequence["RecipeComparison"], metric: str) -> Recipes:
    """Of comparisons with one baseline."""
    first = found[0]
    sides = [first.sides[0], *(one.sides[1] for one in found)]
    frontiers = {first.sides[0].label: (first.curves["a_cost"], first.curves["a_loss"])}
    frontiers |= {one.sides[1].label: (one.curves["b_cost"], one.curves["b_loss"]) for one in found}
    return Recipes(
        axis=first.choices.axis,
        metric=metric,
        level=first.choices.level,
        runs={side.label: (side.cost, side.loss) for side in sides},
        frontiers=frontiers,
        multipliers={one.sides[1].label: one.curves for one in found},
    )


@styled
def multiplier_figure(recipes: Recipes) -> Figure:
    """Left: loss over cost. Right: how many times less each side costs than the first, over the loss."""
    figure, (left, right) = new_figure(columns=2, width=9.4, height=4.0)
    tints = dict(zip(recipes.runs, colours(len(recipes.runs)), strict=True))
    _frontiers(left, recipes, tints)
    _multipliers(right, recipes, tints)
    return figure


def _frontiers(axes: Axes, recipes: Recipes, tints: Mapping[str, str]) -> None:
    every_x, every_y = (np.concatenate([pair[place] for pair in recipes.runs.values()]) for place in (0, 1))
    count_axis(axes, "x", AXES[recipes.axis], every_x, flops=recipes.axis == "flops")
    loss_axis(axes, every_y, recipes.metric)
    for label, (cost, loss) in recipes.runs.items():
        axes.plot(cost, loss, "o", color=tints[label], markersize=3.6, alpha=0.75, zorder=3)
        axes.plot(*recipes.frontiers[label], color=tints[label])
    ends = {label: line[1][np.isfinite(line[1])] for label, line in recipes.frontiers.items()}
    shown = [label for label, line in ends.items() if line.size]
    end_labels(axes, [float(ends[label][-1]) for label in shown], shown, [tints[label] for label in shown])
    headed(axes, "What a cost buys", "points: runs; lines: frontiers")


def _multipliers(axes: Axes, recipes: Recipes, tints: Mapping[str, str]) -> None:
    seen, losses = [np.ones(1)], []
    for label, curve in recipes.multipliers.items():
        good = np.isfinite(curve["multiplier"])
        loss, value = curve["loss"][good], curve["multiplier"][good]
        if not value.size:
            continue
        axes.plot(loss, value, color=tints[label])
        seen.append(value)
        losses.append(loss)
        if "low" in curve:
            ends = [
                np.clip(np.nan_to_num(curve[name][good], nan=1.0), value / FARTHEST, value * FARTHEST)
                for name in ("low", "high")
            ]
            axes.fill_between(loss, *ends, color=tints[label], alpha=0.2, linewidth=0)
            seen += ends
    low, high = padded(np.concatenate(seen), 0.08)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = round_ticks(low, high) if high / low < 12 else log_ticks(low, high)
    axes.yaxis.set_major_locator(ticker.FixedLocator([tick for tick in ticks if tick > 0]))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.axhline(1.0, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_xscale("log")
    span = padded(np.concatenate(losses), 0.05) if losses else (0.9, 1.1)
    axes.set_xlim(span[1], span[0])
    axes.xaxis.set_major_locator(ticker.FixedLocator(round_ticks(*span, most=5)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
    axes.set_xlabel(recipes.metric + ", scale grows to the right")
    axes.set_ylabel(f"times less than {next(iter(recipes.runs))}")
    axes.grid(color=PALE, alpha=0.4)
    headed(axes, "Multiplier at equal loss", f"bands: {recipes.level:.0%} intervals; dashed: equal cost")
