"""Loss along training of the runs of a sweep, and where it is drawn: SVG in the look of the report's figures.

No figure of matplotlib: while a sweep trains, its cores belong to the training.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape
from matplotlib.colors import to_hex

from analysis.figures.style import PALE, log_ticks, padded, round_ticks, size_colours
from analysis.figures.thinned import thinned
from analysis.logs.load_curves import EVALUATION_COLUMNS, METRIC_COLUMNS, read_curves
from analysis.logs.load_run import LOSS, read_run
from core.numbers import short_count
from core.rundir import EVALUATIONS, METRICS, RunDirectory

MOST_CURVES = 80  # that are drawn: more cannot be told apart, and the page stays small
WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 54, 62, 52, 44
MOST_NAMES = 8


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """Losses (P,) at tokens (P,) of one run: in training, averaged over blocks of steps, and on held-out text.

    size is its parameters, 0 where unknown; warnings name what was left out.
    """

    size: float
    training: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    warnings: tuple[str, ...] = ()


def curves_of(path: Path) -> RunCurves | None:
    """Of a run directory; None where it has logged nothing that can be drawn."""
    run = read_run(path)
    if run is None:
        return None

    def read(folder: str, file: str) -> bytes | None:
        return RunDirectory(path).read(file)

    metrics = read_curves([run], METRICS, METRIC_COLUMNS, ("tokens",), read)
    evaluations = read_curves([run], EVALUATIONS, EVALUATION_COLUMNS, ("tokens", "name"), read)
    steps = metrics.frame.drop_nulls(["tokens", "loss"])
    marks = evaluations.frame.filter(evaluations.frame["name"] == LOSS).drop_nulls(["value"])
    training = _positive(steps["tokens"].to_numpy(), steps["loss"].to_numpy())
    held_out = _positive(marks["tokens"].to_numpy(), marks["value"].to_numpy())
    warnings = (*metrics.warnings, *evaluations.warnings)
    if not training[0].size and not held_out[0].size and not warnings:
        return None
    return RunCurves(
        run.count() or 0.0, thinned(*training) if training[0].size else training, held_out, warnings
    )


def _positive(tokens: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = (tokens > 0) & (loss > 0)
    return tokens[good], loss[good]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line: what it is called, its size, and whether its run is still trained."""

    run: str
    size: float
    tokens: np.ndarray
    loss: np.ndarray
    live: bool


def figure(curves: Sequence[Curve], title: str, label: str) -> Markup:
    """An SVG of at most MOST_CURVES curves, those of running runs before others; empty where there is none."""
    drawn = sorted(curves, key=lambda curve: not curve.live)[:MOST_CURVES]
    if not drawn:
        return Markup("")
    x, y = (
        Scale(LEFT, WIDTH - RIGHT, [c.tokens for c in drawn]),
        Scale(HEIGHT - BOTTOM, TOP, [c.loss for c in drawn]),
    )
    sizes = np.unique([curve.size for curve in drawn if curve.size > 0])
    colours = dict(zip(sizes.tolist(), map(to_hex, size_colours(sizes)), strict=True)) if sizes.size else {}
    note = "one colour a size; running in full, others faint"
    if len(drawn) < len(curves):
        note += f"; {len(drawn)} of {len(curves)} runs are drawn"
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" font-size="11">').format(
            WIDTH, HEIGHT, title
        ),
        _text(LEFT, 20, title, "start", 'font-weight="bold" font-size="13"'),
        _text(LEFT, 37, note, "start", 'fill="#6B6B6B" font-size="10"'),
        *(_grid(x, y)),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "training tokens D", "middle"),
        Markup('<text x="16" y="{0}" text-anchor="middle" transform="rotate(-90 16 {0})">{1}</text>').format(
            f"{(TOP + HEIGHT - BOTTOM) / 2:g}", label
        ),
        *(_line(curve, x, y, colours.get(curve.size, PALE)) for curve in reversed(drawn)),
        *_names(drawn, y, colours),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


class Scale:
    """A log axis from `start` to `end` on the page, over the values of all curves, with a margin."""

    def __init__(self, start: float, end: float, values: Sequence[np.ndarray]):
        self.low, self.high = padded(np.concatenate(values), 0.04)
        self.start, self.end = start, end

    def __call__(self, value: float | np.ndarray) -> np.ndarray:
        share = (np.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.start + share * (self.end - self.start)


def _grid(x: Scale, y: Scale) -> list[Markup]:
    lines = []
    for tick in log_ticks(x.low, x.high, 6):
        at = f"{float(x(tick)):.1f}"
        lines.append(_rule(at, TOP, at, HEIGHT - BOTTOM))
        lines.append(_text(at, HEIGHT - BOTTOM + 16, short_count(tick), "middle"))
    for tick in round_ticks(y.low, y.high):
        at = f"{float(y(tick)):.1f}"
        lines.append(_rule(LEFT, at, WIDTH - RIGHT, at))
        lines.append(_text(LEFT - 6, float(y(tick)) + 4, f"{tick:.10g}", "end"))
    return [
        *lines,
        _rule(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#000000"),
        _rule(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#000000"),
    ]


def _rule(x1: object, y1: object, x2: object, y2: object, colour: str = "#E8E8E8") -> Markup:
    text = '<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="0.8"/>'
    return Markup(text).format(x1, y1, x2, y2, colour)


def _text(x: object, y: object, text: str, anchor: str, also: str = "") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" {}>{}</text>').format(x, y, anchor, Markup(also), text)


def _line(curve: Curve, x: Scale, y: Scale, colour: str) -> Markup:
    places = list(zip(x(curve.tokens), y(curve.loss), strict=True))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    said = f"{curve.run}: {curve.loss[-1]:.4f} at {short_count(float(curve.tokens[-1]))} tokens"
    end = '<circle cx="{}" cy="{}" r="{}"><title>{}</title></circle>'
    return Markup(
        '<g opacity="{}" fill="{}"><polyline points="{}" fill="none" stroke="{}" stroke-width="{}">'
        "<title>{}</title></polyline>" + end + "</g>"
    ).format(
        *("1" if curve.live else "0.35", colour, points, colour, "2" if curve.live else "1.2", said),
        *(f"{places[-1][0]:.1f}", f"{places[-1][1]:.1f}", "3.5" if curve.live else "2", said),
    )


def _names(curves: Sequence[Curve], y: Scale, colours: dict[float, str]) -> list[Markup]:
    """Sizes in the right margin, at the lowest end of their curves, moved apart where they would touch."""
    ends: dict[float, float] = {}
    for curve in curves:
        if curve.size in colours:
            ends[curve.size] = max(ends.get(curve.size, 0.0), float(y(curve.loss[-1])))
    if len(ends) > MOST_NAMES:
        kept = sorted(ends)[:: -(-len(ends) // MOST_NAMES)]
        ends = {size: ends[size] for size in kept}
    lines, free = [], float(TOP)
    for place, (size, end) in enumerate(sorted(ends.items(), key=lambda one: one[1]), 1):
        free = max(free, min(end, HEIGHT - BOTTOM - 13.0 * (len(ends) - place)))
        also = f'fill="{escape(colours[size])}" font-weight="bold"'
        lines.append(_text(WIDTH - RIGHT + 8, f"{free + 4:.1f}", short_count(size), "start", also))
        free += 13
    return [*lines, _text(WIDTH - 4, TOP - 10, "parameters", "end", 'fill="#6B6B6B" font-size="10"')]
