"""Predictions beside what came: back-tests inside a table, and forecasts of runs."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import BLACK, BLUE, VERMILION, headed, new_figure, styled


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One prediction with its interval, and the value measured."""

    label: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


@styled
def prediction_figure(predictions: Sequence[Prediction], title: str, level: float) -> Figure:
    """Error of each prediction in percent of it, with the interval that it had; order as given, from the top."""
    figure, (axes,) = new_figure(height=1.35 + 0.24 * len(predictions), width=6.6)
    rows = np.arange(len(predictions))[::-1]
    for row, one in zip(rows, predictions, strict=True):
        low, high, measured = (100 * (value / one.predicted - 1) for value in (one.low, one.high, one.measured))
        colour = BLUE if one.inside else VERMILION
        axes.plot([low, high], [row, row], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt")
        axes.plot(measured, row, "o" if one.inside else "X", color=colour, markersize=5.5, zorder=3)
    axes.axvline(0.0, color=BLACK, linewidth=0.8)
    axes.set_yticks(rows, [one.label for one in predictions])
    axes.set_ylim(-0.8, len(predictions) - 0.2)
    axes.set_xlabel("measured over predicted loss, less 1 (%)")
    hits = sum(one.inside for one in predictions)
    headed(
        axes,
        f"{title}: {hits} of {len(predictions)} inside their {level:.0%} interval",
        "bar: interval of the prediction; point: measured (cross: outside)",
    )
    return figure
