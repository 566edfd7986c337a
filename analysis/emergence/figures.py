"""Figures of the emergence test: curves with null and alternative, verdicts, seeds, and power."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from analysis.emergence.noise import Design, Overdispersion, draw
from analysis.emergence.settings import MINIMUM_SCALES, Settings
from analysis.emergence.statistics import evaluate
from analysis.emergence.table import TaskRows, TaskTable
from analysis.emergence.verdict import design_of, distinct, scale_of
from analysis.figures.style import (
    BLACK,
    BLUE,
    GREY,
    MARKERS,
    ORANGE,
    PALE,
    SKY,
    VERMILION,
    new_figure,
    render,
    styled,
)
from core.files import write_atomic

VERDICTS = ("not enough scales", "none", "smooth", "inverse", "metric artefact", "delayed onset", "sharp")
VERDICT_COLOURS = ("#FFFFFF", "#E8E8E8", SKY, "#F0E442", ORANGE, BLUE, VERMILION)
VERDICT_MARKS = ("?", "–", "~", "i", "m", "d", "S")
PANELS_A_PAGE = 12
BAND_REPLICATES = 400
TASKS_A_HEAT_MAP = 60


def save_figures(table: TaskTable, result: dict[str, Any], directory: Path) -> list[Path]:
    """Write every figure as SVG and PNG; the footer carries the hash of the table. Returns the paths."""
    paths = []
    for name, figure in drawings(table, result):
        svg, png = render(figure, name, table.sha256)
        for suffix, payload in ((".svg", svg), (".png", png)):
            write_atomic(directory / f"{name}{suffix}", payload)
            paths.append(directory / f"{name}{suffix}")
    return paths


def drawings(table: TaskTable, result: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of everything that there is to draw."""
    settings = settings_of(result)
    pairs = list(zip(table.tasks, result["tasks"], strict=True))
    for page, start in enumerate(range(0, len(pairs), PANELS_A_PAGE), start=1):
        yield f"emergence_curves_{page}", curves_figure(pairs[start : start + PANELS_A_PAGE], settings)
    yield "emergence_verdicts", verdict_map(result["tasks"])
    seeded = [entry for entry in result["tasks"] if entry["seeds"] and _most_seeds(entry) > 1]
    if seeded:
        yield "emergence_seeds", seeds_figure(seeded[:PANELS_A_PAGE])
    powered = [entry for entry in result["tasks"] if entry["power"]]
    if powered:
        # Tasks differ in chance level and seed noise: the one in the middle stands for the table.
        powered.sort(key=lambda entry: entry["power"]["overdispersion"])
        yield "emergence_power", power_figure(powered[len(powered) // 2], settings)


def settings_of(result: dict[str, Any]) -> Settings:
    """The settings that a result was made with."""
    names = Settings.__dataclass_fields__
    return Settings(**{key: value for key, value in result["settings"].items() if key in names})


def _most_seeds(entry: dict[str, Any]) -> int:
    return max(row["seeds"] for row in entry["seeds"]["success"])


def _scale_axis(axes: Axes, axis: str, last_row: bool) -> None:
    if axis != "loss":
        axes.set_xscale("log")
    if last_row:
        axes.set_xlabel("minus pre-training loss (nats)" if axis == "loss" else axis)


def _shorten(name: str, most: int = 30) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


@styled
def curves_figure(pairs: Sequence[tuple[TaskRows, dict[str, Any]]], settings: Settings) -> Figure:
    """Accuracy against scale, one panel a task, the continuous metric on a strip below it."""
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    strips = any(task.metrics for task, _ in pairs)
    heights = [3.0, 1.3] * rows if strips else [1.0] * rows
    figure, axes = new_figure(
        columns,
        width=0.6 + 3.1 * columns,
        height=0.7 + (3.4 if strips else 2.3) * rows,
        rows=len(heights),
        gridspec_kw={"height_ratios": heights},
    )
    for panel in axes:
        panel.set_visible(False)
    for number, (task, entry) in enumerate(pairs):
        row, column = divmod(number, columns)
        last = number + columns >= len(pairs)
        top = axes[(row * 2 if strips else row) * columns + column]
        top.set_visible(True)
        _accuracy_panel(top, task, entry, settings)
        _scale_axis(top, task.axis, last and not strips)
        if strips:
            below = axes[(row * 2 + 1) * columns + column]
            below.set_visible(True)
            _metric_strip(below, task, entry)
            _scale_axis(below, task.axis, last)
            below.set_xlim(top.get_xlim())
        if column == 0:
            top.set_ylabel("accuracy")
    named: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=3)
    return figure


def _accuracy_panel(axes: Axes, task: TaskRows, entry: dict[str, Any], settings: Settings) -> None:
    axes.set_title(f"{_shorten(task.name)}\n{entry['verdict']}", fontsize=8.5)
    design = design_of(task)
    if design is None or task.correct_R is None:
        axes.text(0.5, 0.5, "no accuracy in the table", ha="center", transform=axes.transAxes, color=GREY)
        return
    scales_K = np.array([scale_of(x, task.axis) for x in design.x_K])
    if design.scales >= MINIMUM_SCALES:
        low_K, high_K, null_K, other_K = _bands(design, task.correct_R, settings, task.axis)
        axes.fill_between(
            scales_K, low_K, high_K, color=PALE, alpha=0.6, lw=0, label="smooth null, 95% of data sets"
        )
        axes.plot(scales_K, null_K, color=GREY, lw=1.0, label="best smooth null")
        axes.plot(scales_K, other_K, color=VERMILION, lw=1.3, ls="--", label="best break or narrow rise")
    rows = np.array([scale_of(x, task.axis) for x in design.x_K[design.scale_R]])
    axes.plot(rows, task.correct_R / design.n_R, "o", color=BLUE, ms=3.5, mew=0, alpha=0.8, label="runs")
    axes.axhline(design.chance, color=BLACK, lw=0.7, ls=":", label="chance")
    if entry["onset"]:
        low, high = entry["onset"]["interval"]
        axes.axvspan(low, high, color=ORANGE, alpha=0.35, lw=0, label="onset, 95% interval")
        axes.axvline(entry["onset"]["scale"], color=ORANGE, lw=1.2)
    axes.set_ylim(-0.03, 1.03)


def _bands(design: Design, correct_R: np.ndarray, settings: Settings, axis: str):
    """2.5% and 97.5% of scale means under the best null, that null, and the best alternative; each (K,)."""
    observed = evaluate(design, correct_R[None], settings, axis)
    null = min((observed.line, observed.sharp_null), key=lambda fit: float(fit.chi2_B[0]))
    other = min((observed.sharp, observed.flat_then_rise), key=lambda fit: float(fit.chi2_B[0]))
    null_K = np.clip(null.mean_BK[0], 0.0, 1.0)
    over = Overdispersion(*(np.repeat(part, BAND_REPLICATES) for part in observed.over))
    drawn_BR = draw(
        design, np.repeat(null_K[None], BAND_REPLICATES, axis=0), over, np.random.default_rng(settings.seed)
    )
    low_K, high_K = np.quantile(drawn_BR @ design.gather_RK / design.n_K, [0.025, 0.975], axis=0)
    return low_K, high_K, null_K, np.clip(other.mean_BK[0], 0.0, 1.0)


def _metric_strip(axes: Axes, task: TaskRows, entry: dict[str, Any]) -> None:
    if not task.metrics:
        axes.text(
            0.5, 0.45, "no continuous metric", ha="center", transform=axes.transAxes, color=GREY, fontsize=7.5
        )
        axes.set_yticks([])
        return
    name = min(task.metrics, key=lambda metric: (metric != "nll", metric))
    x_K, scale_R = distinct(task.coordinate_R)
    scales_R = np.array([scale_of(x, task.axis) for x in x_K[scale_R]])
    axes.plot(scales_R, task.metrics[name], "D", color=BLACK, ms=2.8, mew=0, alpha=0.8)
    if name == "nll" and np.nanmin(task.metrics[name]) > 0.0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if np.nanmax(task.metrics[name]) < 30.0 * np.nanmin(task.metrics[name]):  # else decades suffice
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        else:
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.tick_params(axis="y", which="both", labelsize=6.5)
    p = next((check["p"] for check in entry["metric_check"]["metrics"] if check["metric"] == name), None)
    label = {"nll": "loss per token", "brier": "Brier", "edit_distance": "edit distance"}[name]
    axes.set_ylabel(label, fontsize=7.5)
    if p is not None:
        axes.text(0.98, 0.88, f"break: p = {p:.2g}", ha="right", va="top", transform=axes.transAxes, fontsize=7)


@styled
def verdict_map(entries: Sequence[dict[str, Any]]) -> Figure:
    """Tasks by axes, coloured and lettered by verdict; the most telling tasks first, as many as fit."""
    order = sorted(
        {e["task"] for e in entries},
        key=lambda task: (-max(_rank(e) for e in entries if e["task"] == task), task),
    )
    tasks, axes_names = order[:TASKS_A_HEAT_MAP], sorted({entry["axis"] for entry in entries})
    figure, (axes,) = new_figure(1, width=4.6 + 0.7 * len(axes_names), height=1.5 + 0.2 * len(tasks))
    grid = np.full((len(tasks), len(axes_names)), np.nan)
    for entry in entries:
        if entry["task"] in tasks:
            grid[tasks.index(entry["task"]), axes_names.index(entry["axis"])] = _rank(entry)
    colours = ListedColormap(list(VERDICT_COLOURS))
    axes.imshow(grid, cmap=colours, vmin=-0.5, vmax=len(VERDICTS) - 0.5, aspect="auto")
    for (row, column), rank in np.ndenumerate(grid):
        if np.isfinite(rank):
            dark = VERDICTS[int(rank)] in ("delayed onset", "sharp")
            axes.text(
                column,
                row,
                VERDICT_MARKS[int(rank)],
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else BLACK,
            )
    axes.set_xticks(range(len(axes_names)), axes_names)
    axes.set_yticks(range(len(tasks)), [_shorten(task, 40) for task in tasks])
    axes.grid(visible=False)
    for row in range(1, len(tasks)):
        axes.axhline(row - 0.5, color="white", lw=1.0)
    for column in range(1, len(axes_names)):
        axes.axvline(column - 0.5, color="white", lw=1.0)
    left_out = f" ({len(order) - len(tasks)} more not shown)" if len(order) > len(tasks) else ""
    axes.set_title(f"Verdict by task and axis{left_out}")
    for k, name in enumerate(VERDICTS):
        axes.plot(
            [], [], "s", color=VERDICT_COLOURS[k], mec=GREY, mew=0.5, ms=7, label=f"{VERDICT_MARKS[k]}  {name}"
        )
    figure.legend(loc="outside right upper")
    return figure


def _rank(entry: dict[str, Any]) -> int:
    return VERDICTS.index(entry["verdict"])


@styled
def seeds_figure(entries: Sequence[dict[str, Any]]) -> Figure:
    """Share of seeds that succeed against scale, with 95% score intervals."""
    columns = min(3, len(entries))
    rows = math.ceil(len(entries) / columns)
    figure, axes = new_figure(columns, width=0.6 + 3.1 * columns, height=0.6 + 2.3 * rows, rows=rows)
    for panel in axes[len(entries) :]:
        panel.set_visible(False)
    for number, (panel, entry) in enumerate(zip(axes, entries, strict=False)):
        success = entry["seeds"]["success"]
        scales = [row["scale"] for row in success]
        share = np.array([row["share"] for row in success])
        ends = np.array([row["interval"] for row in success])
        panel.errorbar(
            scales,
            share,
            yerr=np.maximum([share - ends[:, 0], ends[:, 1] - share], 0.0),
            fmt=MARKERS[0],
            color=BLUE,
            ecolor=GREY,
            elinewidth=0.9,
            ms=4,
        )
        panel.set_title(
            f"{_shorten(entry['task'])}\nsuccess: accuracy above {entry['seeds']['success_above']:.2f}",
            fontsize=8.5,
        )
        panel.set_ylim(-0.05, 1.05)
        _scale_axis(panel, entry["axis"], number + columns >= len(entries))
        if number % columns == 0:
            panel.set_ylabel("share of seeds")
    return figure


@styled
def power_figure(entry: dict[str, Any], settings: Settings) -> Figure:
    """Power for the design and noise of one task: against the size of a late break, and the width of a rise."""
    figure, (left, right) = new_figure(2, width=7.2, height=3.6)
    power = entry["power"]
    unit = "nats" if entry["axis"] == "loss" else "decades"
    figure.suptitle(f"Power as for {entry['task']}: over-dispersion {power['overdispersion']:g}", fontsize=9)
    for panel, key, label, title, detected in (
        (
            left,
            "break_curve",
            "gain of a break in the last third of the scales",
            "Delayed onset",
            power["smallest_break"],
        ),
        (
            right,
            "rise_curve",
            f"10%–90% width of a full rise ({unit})",
            f"Sharp (W0 = {entry['effect']['sharp_within']:.3g})",
            power["widest_rise"],
        ),
    ):
        x, rate = zip(*power[key], strict=True)
        panel.plot(x, rate, "o-", color=BLUE)
        panel.axhline(power["power"], color=GREY, lw=0.8, ls="--")
        panel.axhline(settings.alpha, color=GREY, lw=0.8, ls=":")
        if detected is not None:
            panel.axvline(detected, color=ORANGE, lw=1.2)
            panel.text(detected, 0.02, f" {detected:.3g}", color=BLACK, fontsize=8)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        panel.tick_params(axis="x", which="both", labelsize=8, length=3)
        panel.set_ylim(-0.02, 1.04)
        panel.set_xlabel(label)
        panel.set_title(title)
    left.set_ylabel(f"share detected at alpha = {settings.alpha:g}")
    return figure
