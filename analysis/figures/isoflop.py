"""isoFLOP slices with their valleys, and how the best size grows with compute."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.curves import PARAMS_LABEL
from analysis.figures.style import (
    BLACK,
    BLUE,
    GREY,
    MANY_POINTS,
    PALE,
    VERMILION,
    count_axis,
    end_labels,
    flops_text,
    headed,
    loss_axis,
    new_figure,
    size_colours,
    styled,
)
from analysis.fit.identified import known_to_within_itself
from analysis.isoflop.find import Isoflop
from analysis.isoflop.hull import lower_hull
from analysis.isoflop.slices import flops_of, read_weights, size_curves
from analysis.isoflop.valleys import akima_values, cubic_values, parabola_values
from core.numbers import short_count


@styled
def isoflop_slices(result: Isoflop, columns: Mapping[str, np.ndarray]) -> Figure:
    """Left: loss against size at each budget, the curve through it and the valley. Right: best size against FLOPs."""
    figure, (left, right) = new_figure(columns=2, width=8.6, height=4.0)
    if result.method == "hull":
        _hull_panel(left, result, columns)
    elif result.method == "envelope":
        _envelope_panel(left, result, columns)
    else:
        _slices_panel(left, result, columns)
    _growth_panel(right, result)
    return figure


def _slices_panel(axes: Axes, result: Isoflop, columns: Mapping[str, np.ndarray]) -> None:
    pairs = [
        (piece, valley)
        for piece, valley in zip(result.slices, result.valleys, strict=True)
        if piece.log_params_S.size >= 3
    ]
    losses = [piece.losses(columns["loss"]) for piece, _ in pairs]
    colours = size_colours([piece.flops for piece, _ in pairs])
    count_axis(
        axes, "x", PARAMS_LABEL.replace(" (", "\n("), np.exp(np.concatenate([p.log_params_S for p, _ in pairs]))
    )
    loss_axis(axes, np.concatenate(losses))
    values = {"akima": akima_values, "cubic": cubic_values}.get(result.method, parabola_values)
    for (piece, valley), loss_S, colour in zip(pairs, losses, colours, strict=True):
        fine = np.linspace(piece.log_params_S[0], piece.log_params_S[-1], 80)
        curve = values(piece.log_params_S, loss_S, fine)
        axes.plot(np.exp(fine), curve, color=colour, linewidth=1.2, linestyle="-" if valley.ok else (0, (2, 2)))
        axes.plot(
            np.exp(piece.log_params_S), loss_S, "o", color=colour, markersize=3.6,
            markerfacecolor="white" if piece.interpolated else colour,
        )  # fmt: skip
        if valley.params_opt is not None and valley.loss_opt is not None:
            axes.plot(
                valley.params_opt, valley.loss_opt, "*", color=VERMILION, markersize=10, markeredgecolor="white",
                zorder=4,
            )  # fmt: skip
    end_labels(
        axes,
        [float(loss_S[-1]) for loss_S in losses],
        [flops_text(piece.flops) for piece, _ in pairs],
        colours,
        title="FLOPs",
    )
    note = "stars: valleys"
    if any(piece.interpolated for piece, _ in pairs):
        note += "; hollow points: between runs"
    if any(not valley.ok for _, valley in pairs):
        note += "; dashed: no valley to report"
    headed(axes, "Loss at equal compute", note)


def _hull_panel(axes: Axes, result: Isoflop, columns: Mapping[str, np.ndarray]) -> None:
    flops = flops_of(columns)
    sizes = np.unique(columns["params"])
    colours = size_colours(sizes)
    count_axis(axes, "x", "training FLOPs C", flops, flops=True)
    loss_axis(axes, columns["loss"])
    tints = [colours[index] for index in np.searchsorted(sizes, columns["params"])]
    axes.scatter(flops, columns["loss"], s=12, c=tints, rasterized=flops.size > MANY_POINTS)
    hull = lower_hull(np.log(flops), np.log(columns["loss"]))
    axes.plot(flops[hull], columns["loss"][hull], "-", color=VERMILION, linewidth=1.0, zorder=1)
    good = np.array([valley.flops for valley in result.valleys if valley.ok])
    lowest = np.array([valley.loss_opt for valley in result.valleys if valley.ok], dtype=float)
    axes.plot(good, lowest, "*", color=VERMILION, markersize=9, markeredgecolor="white")
    headed(axes, "Loss against compute", "line: lower hull; stars: on it, with smaller and larger sizes beside")


def _envelope_panel(axes: Axes, result: Isoflop, columns: Mapping[str, np.ndarray]) -> None:
    flops = flops_of(columns)
    curves = size_curves(columns, flops)
    colours = size_colours([np.exp(curve.log_params) for curve in curves])
    count_axis(axes, "x", "training FLOPs C", flops, flops=True)
    loss_axis(axes, columns["loss"])
    ends = []
    for curve, colour in zip(curves, colours, strict=True):
        fine = np.linspace(curve.log_flops_K[0], curve.log_flops_K[-1], 80)
        knots_K = curve.map_KR @ columns["loss"][curve.rows]
        losses = read_weights(curve.log_flops_K, fine) @ knots_K
        axes.plot(np.exp(fine), losses, color=colour, linewidth=1.2)
        axes.plot(
            flops[curve.rows], columns["loss"][curve.rows], "o", color=colour, markersize=3.2,
            rasterized=flops.size > MANY_POINTS,
        )  # fmt: skip
        ends.append(float(losses[-1]))
    good = [valley for valley in result.valleys if valley.ok]
    axes.plot(
        [valley.flops for valley in good], [valley.loss_opt or 0.0 for valley in good], "*", color=VERMILION,
        markersize=10, markeredgecolor="white", zorder=4,
    )  # fmt: skip
    names = [short_count(float(np.exp(curve.log_params))) for curve in curves]
    end_labels(axes, ends, names, colours, title="parameters")
    headed(axes, "Loss against compute, by size", "stars: where a larger size becomes the best")


def _growth_panel(axes: Axes, result: Isoflop) -> None:
    good = [valley for valley in result.valleys if valley.ok]
    headed(axes, "Best size at each budget", "bars: under the noise of the runs" if result.slices else "")
    if not good:
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            "no budget has a best size inside the sizes",
            transform=axes.transAxes,
            ha="center",
            color=GREY,
        )
        return
    flops = np.array([valley.flops for valley in good])
    best = np.array([valley.params_opt for valley in good], dtype=float)
    low, high = (
        np.array(
            [valley.params_interval[end] if valley.params_interval else valley.params_opt for valley in good],
            float,
        )
        for end in (0, 1)
    )
    ends = np.array([low.min(), high.max()])
    count_axis(axes, "x", "training FLOPs C", flops, flops=True)
    count_axis(axes, "y", "best size, parameters", ends)
    axes.errorbar(
        flops, best, yerr=[np.maximum(best - low, 0), np.maximum(high - best, 0)], fmt="*", color=VERMILION,
        ecolor=PALE, elinewidth=1.6, markersize=9, markeredgecolor="white", zorder=3,
    )  # fmt: skip
    slope, coefficient = result.derived["a_opt"], result.derived["params_coefficient"]
    if slope is None or coefficient is None:
        return
    line = np.geomspace(flops.min(), flops.max(), 50)
    axes.plot(line, coefficient * line**slope, color=BLUE)
    interval = result.intervals["a_opt"]
    shown = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    known = known_to_within_itself(slope, interval)
    words = rf"$N_\mathrm{{opt}} \propto C^{{{slope:.2f}}}$" if known else "growth not identified"
    axes.text(
        0.04, 0.95, words + shown, transform=axes.transAxes, va="top",
        color=BLACK,
    )  # fmt: skip
