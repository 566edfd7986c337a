"""Loss against tokens for each size, and against parameters for each data size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.figures.style import (
    MANY_POINTS,
    count_axis,
    end_labels,
    headed,
    loss_axis,
    new_figure,
    size_colours,
    styled,
)
from core.numbers import short_count

Predict = Callable[[Mapping[str, np.ndarray]], np.ndarray]
MOST_LABELS = 12
PARAMS_LABEL = "parameters N (embedding table not counted, head counted)"
TOKENS_LABEL = "training tokens D"


@styled
def loss_curves(
    columns: Mapping[str, np.ndarray],
    along: Literal["tokens", "params"],
    predict: Predict | None = None,
    paths: Sequence[tuple[float, np.ndarray, np.ndarray]] = (),
) -> Figure:
    """Final losses against one of (tokens, params), one curve for each value of the other.

    Args:
      columns: params, tokens, loss.
      predict: a fitted law, drawn as a line through each family; where there is none, points are joined.
      paths: held-out loss on the way, (size, tokens, loss) of a run; drawn faintly, `along` tokens only.
    """
    family = "params" if along == "tokens" else "tokens"
    values = np.unique(columns[family])
    colours = size_colours(values)
    shown = _spread(values.size, MOST_LABELS)
    figure, (axes,) = new_figure()
    many = columns["loss"].size > MANY_POINTS
    segments = [np.column_stack([x, y]) for _, x, y in paths if x.size > 1]
    every_x = np.concatenate([columns[along], *(x for _, x, _ in paths)])
    fitted = [] if predict is None else [predict({name: columns[name] for name in ("params", "tokens")})]
    every_y = np.concatenate([columns["loss"], *(y for _, _, y in paths), *fitted])
    count_axis(axes, "x", TOKENS_LABEL if along == "tokens" else PARAMS_LABEL, every_x)
    loss_axis(axes, every_y)
    if segments:
        tints = [colours[int(np.searchsorted(values, size))] for size, x, _ in paths if x.size > 1]
        axes.add_collection(LineCollection(segments, colors=tints, linewidths=0.7, alpha=0.35, rasterized=many))
    ends: dict[int, float] = {}
    for index, value in enumerate(values):
        rows = columns[family] == value
        x, y = columns[along][rows], columns["loss"][rows]
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        axes.plot(x, y, "o", color=colours[index], markersize=3 if many else 4.5, rasterized=many, zorder=3)
        ends[index] = float(y[-1])
        if index not in shown:
            continue
        if predict is not None:
            fine = np.geomspace(x[0], x[-1], 60)
            axes.plot(
                fine, predict({family: np.full(60, value), along: fine}), color=colours[index], linewidth=1.2
            )
        else:
            axes.plot(*_means(x, y), color=colours[index], linewidth=1.2)
    end_labels(
        axes,
        [ends[index] for index in shown],
        [short_count(values[index]) for index in shown],
        [colours[index] for index in shown],
        title="parameters" if family == "params" else "tokens",
    )
    note = "points: finished runs; lines: " + ("the fitted law" if predict else "joining the points")
    headed(
        axes,
        "Loss against training tokens" if along == "tokens" else "Loss against parameters",
        note + ("; faint: held-out loss on the way" if segments else ""),
    )
    return figure


@styled
def training_paths(
    paths: Sequence[tuple[float, np.ndarray, np.ndarray]],
    title: str,
    note: str,
    label: str,
    markers: bool = False,
) -> Figure:
    """Loss along training: (size, tokens, loss) of each run; one colour a size, `markers` where points are few."""
    values = np.unique([size for size, _, _ in paths])
    colours = size_colours(values)
    figure, (axes,) = new_figure()
    count_axis(axes, "x", TOKENS_LABEL, np.concatenate([x for _, x, _ in paths]))
    loss_axis(axes, np.concatenate([y for _, _, y in paths]), label)
    # One artist for all lines: of hundreds, each with its own is several times as slow to draw.
    lines = LineCollection(
        [np.column_stack([x, y]) for _, x, y in paths],
        colors=[colours[int(np.searchsorted(values, size))] for size, _, _ in paths],
        linewidths=0.9,
        alpha=0.8,
        capstyle="projecting",
        joinstyle="round",
    )
    axes.add_collection(lines, autolim=False)
    lowest: dict[int, float] = {}
    for size, x, y in paths:
        index = int(np.searchsorted(values, size))
        if x.size == 1 or markers:
            axes.plot(x, y, "o", color=colours[index], alpha=0.8, markersize=2)
        lowest[index] = min(lowest.get(index, np.inf), float(y[-1]))
    shown = [index for index in _spread(values.size, MOST_LABELS) if index in lowest]
    end_labels(
        axes,
        [lowest[index] for index in shown],
        [short_count(values[index]) for index in shown],
        [colours[index] for index in shown],
        title="parameters",
    )
    headed(axes, title, note)
    return figure


def _spread(count: int, most: int) -> list[int]:
    """At most `most` indices spread evenly over `count`, both ends included."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of y at each distinct x."""
    distinct, index = np.unique(x, return_inverse=True)
    return distinct, np.bincount(index, y) / np.bincount(index)
