"""What the law leaves over, against what it was fitted on."""

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import BLACK, MANY_POINTS, SKY, count_axis, headed, new_figure, size_colours, styled


@styled
def residual_figure(params: np.ndarray, tokens: np.ndarray, residual: np.ndarray, sd: float) -> Figure:
    """Relative residuals (measured over predicted, less one, in percent) against parameters and tokens.

    Args:
      params, tokens: (R,).
      residual: log measured minus log predicted, (R,).
      sd: standard deviation of `residual`; the band is twice it to either side.
    """
    percent = 100 * np.expm1(residual)
    figure, panels = new_figure(columns=2, width=8.6, height=3.6, sharey=True)
    for axes, x, other, label, note in (
        (panels[0], params, tokens, "parameters N", "band: 2 standard deviations; darker: fewer tokens"),
        (panels[1], tokens, params, "training tokens D", "darker: fewer parameters"),
    ):
        values = np.unique(other)
        colours = size_colours(values)
        count_axis(axes, "x", label, x)
        axes.axhspan(-200 * sd, 200 * sd, color=SKY, alpha=0.18, linewidth=0)
        axes.axhline(0.0, color=BLACK, linewidth=0.8)
        axes.scatter(
            x, percent, s=16, c=[colours[index] for index in np.searchsorted(values, other)],
            rasterized=percent.size > MANY_POINTS, linewidths=0, zorder=3,
        )  # fmt: skip
        headed(axes, f"What the law leaves over, by {label.rsplit(' ', 1)[0]}", note)
    reach = 1.25 * max(float(np.abs(percent).max()), 230 * sd, 1e-6)
    panels[0].set_ylim(-reach, reach)
    panels[0].set_ylabel("measured over predicted loss, less 1 (%)")
    return figure
