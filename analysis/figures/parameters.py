"""Each parameter under every choice of the analyst, beside its standard error."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import BLUE, GREY, SKY, VERMILION, new_figure, styled


@styled
def sensitivity_figure(
    names: Sequence[str],
    choices: Sequence[tuple[str, Mapping[str, float]]],
    intervals: Mapping[str, tuple[float, float]],
    level: float = 0.95,
    unknown: Collection[str] = (),
) -> Figure:
    """One panel a parameter, one row a choice; the band is the interval of the first choice.

    Args:
      names: of the parameters.
      choices: (label, values); the first is the fit reported. A missing or non-finite value is left blank.
      intervals: of the first choice.
      unknown: parameters that are not identified, which the title of their panel says.
    """
    figure, panels = new_figure(
        columns=len(names), width=2.2 + 1.55 * len(names), height=1.25 + 0.27 * len(choices), sharey=True
    )
    rows = np.arange(len(choices))[::-1]
    for axes, name in zip(panels, names, strict=True):
        values = np.array([values.get(name, np.nan) for _, values in choices], dtype=float)
        low, high = intervals.get(name, (np.nan, np.nan))
        if np.isfinite([low, high]).all():
            axes.axvspan(low, high, color=SKY, alpha=0.25, linewidth=0)
        axes.axvline(values[0], color=BLUE, linewidth=0.9)
        axes.plot(values[1:], rows[1:], "o", color=VERMILION, markersize=4.5)
        axes.plot(values[:1], rows[:1], "s", color=BLUE, markersize=5.5)
        finite = np.array([value for value in (*values, low, high) if np.isfinite(value)])
        if finite.size:
            inside = _limits(values[np.isfinite(values)], low, high)
            axes.set_xlim(*inside)
        axes.set_title(_symbol(name) + ("\nnot identified" if name in unknown else ""), fontsize=9)
        axes.locator_params(axis="x", nbins=3)
        axes.set_ylim(-0.7, len(choices) - 0.3)
    panels[0].set_yticks(rows, [label for label, _ in choices])
    figure.supxlabel(
        f"square and line: the fit reported; band: its {level:.0%} interval; points: the fit with one choice changed",
        fontsize=7.5, color=GREY,
    )  # fmt: skip
    return figure


def _limits(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Room for all the choices; for the interval only as far as it does not squeeze them together."""
    span = max(float(np.ptp(values)), 0.02 * abs(float(values[0])), 1e-12)
    left, right = float(values.min()), float(values.max())
    if np.isfinite([low, high]).all():
        left, right = min(left, max(low, left - 4 * span)), max(right, min(high, right + 4 * span))
    margin = 0.12 * (right - left) or 0.05 * max(abs(left), 1e-12)
    return left - margin, right + margin


def _symbol(name: str) -> str:
    greek = {"alpha": r"$\alpha$", "beta": r"$\beta$", "gamma": r"$\gamma$"}
    return greek.get(name, name)
