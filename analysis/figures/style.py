"""How every figure looks, and how it becomes the same bytes every time.

Figures are `matplotlib.figure.Figure` objects without pyplot: no global state, no display. Colours are those
of Okabe and Ito (2008, "Color Universal Design"), and viridis where they stand for an ordered size.
"""

import functools
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analysis.figures import marked
from core.numbers import short_count

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6B6B6B"
PALE = "#C9C9C9"
MARKERS = "osD^vP*X<>"
PNG_DOTS_PER_INCH = 200
MANY_POINTS = 3000  # beyond this, markers are drawn as pixels inside the SVG

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # shipped with matplotlib, so the same on every machine
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "path.simplify": False,
    "text.usetex": False,
    "mathtext.fontset": "dejavusans",
    "axes.unicode_minus": True,
}


Drawn = TypeVar("Drawn", bound=Callable[..., Figure])


def styled(draw: Drawn) -> Drawn:
    """Draw under this file's settings, whatever the process has set: many of them are read at the call."""

    @functools.wraps(draw)
    def inside(*arguments: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(RC):
            return draw(*arguments, **options)

    return cast(Drawn, inside)


def new_figure(
    columns: int = 1, width: float = 6.6, height: float = 4.1, rows: int = 1, **shared: object
) -> tuple[Figure, list[Axes]]:
    """A figure with room for its footer, and its axes in reading order. Sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.0, 0.045, 1.0, 0.955), w_pad=0.06, h_pad=0.05, wspace=0.06)  # type: ignore[call-arg]
    axes = figure.subplots(rows, columns, squeeze=False, **shared)  # type: ignore[call-overload]
    return figure, list(axes.ravel())


def render(figure: Figure, name: str, source: str) -> tuple[bytes, bytes]:
    """SVG and PNG with the hash of the input in the footer.

    Args:
      name: of the figure; part of the ids inside the SVG, so that several can stand in one page.
      source: SHA-256 of what the figure was drawn from.
    """
    with matplotlib.rc_context({**RC, "svg.hashsalt": name}):
        figure.text(
            0.992, 0.008, f"input sha256 {source[:16]}", ha="right", va="bottom", fontsize=6, color=GREY
        )
        svg, png = io.BytesIO(), io.BytesIO()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once; both formats take the same places
        known = marked.name(figure)
        # The canvas itself: Figure.savefig would go through the whole figure once more for each format.
        figure.dpi = PNG_DOTS_PER_INCH
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    return _own_ids(marked.marked(svg.getvalue().decode(), figure, known), name), png.getvalue()


def _own_ids(text: str, name: str) -> bytes:
    """Prefix every id with the figure's name: ids are global to an HTML page."""
    prefix = re.sub(r"[^A-Za-z0-9]", "-", name) + "-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return re.sub(r"url\(#", f"url(#{prefix}", text).encode()


def size_colours(values: Sequence[float] | np.ndarray) -> list[tuple[float, float, float, float]]:
    """Viridis by the log of an ordered size, without its palest end."""
    logs = np.log(np.asarray(values, dtype=float))
    span = float(np.ptp(logs)) if logs.size else 0.0
    place = (logs - logs.min()) / span if span else np.full(logs.size, 0.4)
    return [tuple(colour) for colour in matplotlib.colormaps["viridis"](0.84 * place)]


def flops_text(value: float) -> str:
    """3.2e15 as mathtext, 3.2 x 10^15."""
    rounded = float(f"{value:.2g}")
    exponent = math.floor(math.log10(rounded) + 1e-9)
    mantissa = f"{rounded / 10**exponent:.2g}"
    return rf"$10^{{{exponent}}}$" if mantissa == "1" else rf"${mantissa}\times10^{{{exponent}}}$"


def count_axis(
    axes: Axes, which: str, label: str, values: Sequence[float] | np.ndarray, flops: bool = False
) -> None:
    """A log axis over counts, with labels such as 100k and 1M, or powers of ten for FLOPs."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = padded(values, 0.06)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(ticker.FixedLocator(log_ticks(low, high, 4 if flops else 7)))
    axis.set_minor_locator(ticker.NullLocator())
    text = flops_text if flops else short_count
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: text(value)))
    axis.set_label_text(label)


LOSS_LABEL = "validation loss (nats per token)"


def loss_axis(axes: Axes, values: Sequence[float] | np.ndarray, label: str = LOSS_LABEL) -> None:
    """A log axis over losses, which span too little for decades: round numbers as labels."""
    axes.set_yscale("log")
    low, high = padded(values, 0.05)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(ticker.FixedLocator(round_ticks(low, high)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
    axes.set_ylabel(label)


def padded(values: Sequence[float] | np.ndarray, share: float) -> tuple[float, float]:
    """Limits around positive values on a log axis, never of zero width."""
    logs = np.log(np.asarray(values, dtype=float))
    low, high = float(logs.min()), float(logs.max())
    margin = max(share * (high - low), 0.01 if high > low else 0.7)
    return math.exp(low - margin), math.exp(high + margin)


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Ticks at 1, 2, 5 or 1, 3 or whole powers of ten: the finest that leaves at most `most`."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(inside) <= most:
            return inside
    whole = [10.0**decade for decade in decades if low <= 10.0**decade <= high]
    if len(whole) > most:
        return whole[:: math.ceil(len(whole) / most)]
    return round_ticks(low, high)


def round_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten, at most `most` of them."""
    rough = (high - low) / most
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * base for factor in (1, 2, 2.5, 5, 10, 20) if factor * base >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def end_labels(
    axes: Axes, places: Sequence[float], texts: Sequence[str], colours: Sequence[object], title: str = ""
) -> None:
    """Names of curves in the right margin beside their ends, moved apart where they would touch.

    Args:
      places: the height of each curve's end, in data units of a log or linear y axis.
      title: what the names are, above them.
    """
    if not places:
        return
    heights = axes.transAxes.inverted().transform(
        axes.transData.transform([(axes.get_xlim()[0], place) for place in places])
    )[:, 1]
    gap = 0.052 * 4.1 / max(float(axes.figure.get_figheight()), 1.0)  # type: ignore[union-attr]
    order = np.argsort(heights, kind="stable")
    at = np.clip(heights[order], 0.0, 1.0)
    for _ in range(200):
        # Neighbours that are too close push each other away by half of what is missing.
        short = gap - np.diff(at)
        if not (short > 1e-6).any():
            break
        push = np.where(short > 0, short / 2, 0.0)
        at[:-1] -= push
        at[1:] += push
    top = min(float(at[-1]), 1.02)
    at = at - (at[-1] - top)
    for position, index in zip(at, order, strict=True):
        axes.text(
            1.015, position, texts[index], transform=axes.transAxes, ha="left", va="center",
            fontsize=7.5, color=colours[index], fontweight="bold", gid="name-",  # type: ignore[arg-type]
        )  # fmt: skip
    if title:
        axes.text(
            1.015,
            top + 1.3 * gap,
            title,
            transform=axes.transAxes,
            ha="left",
            va="center",
            fontsize=7.5,
            color=GREY,
        )


def headed(axes: Axes, title: str, note: str = "") -> None:
    """A panel's title, and under it in small print how to read the panel."""
    axes.set_title(title, pad=17 if note else 6)
    if note:
        axes.annotate(
            note, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom",
            fontsize=7, color=GREY,
        )  # fmt: skip
