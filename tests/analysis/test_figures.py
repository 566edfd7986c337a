"""Figures: the data they were given, readable axes, and the same bytes each time."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from analysis.figures import curves, frontier, isoflop, parameters, predictions, residuals, style
from analysis.figures.predictions import Prediction
from analysis.isoflop.find import find_valleys
from tests.support.synthetic_sweep import truth_loss

SOURCE = "ab" * 32


@pytest.fixture(scope="module")
def grid():
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(2e4, 5e5, 5), np.geomspace(5e5, 8e6, 5)))
    loss = truth_loss(n, d) * np.exp(0.001 * np.random.default_rng(0).normal(size=n.size))
    return {"params": n, "tokens": d, "loss": loss, "flops": 6 * n * d}


def law(columns):
    return truth_loss(columns["params"], columns["tokens"])


def every_figure(grid):
    flops = np.geomspace(1e11, 1e14, 20)
    best = np.sqrt(flops / 6)
    ends = [(best / 5, best / 3), (best * 3, best * 5), (2 + 9e2 / best, 2 + 2e3 / best)]
    band = frontier.Band(flops, best / 4, best * 4, 2 + 1e3 / best, *ends)
    path = [(2e4, np.array([1e5, 2e5, 5e5]), np.array([5.0, 4.5, 4.0]))]
    one = Prediction("a run", 2.0, 1.9, 2.1, 2.05)
    return {
        "tokens": lambda: curves.loss_curves(grid, "tokens", law, path),
        "params": lambda: curves.loss_curves(grid, "params"),
        "training": lambda: curves.training_paths(path, "title", "note", style.LOSS_LABEL),
        "parabola": lambda: isoflop.isoflop_slices(find_valleys(grid, bootstrap=50), grid),
        "akima": lambda: isoflop.isoflop_slices(find_valleys(grid, "akima", bootstrap=50), grid),
        "hull": lambda: isoflop.isoflop_slices(find_valleys(grid, "hull", bootstrap=20), grid),
        "frontier": lambda: frontier.frontier_figure(band, grid["params"], grid["loss"], grid["flops"]),
        "residuals": lambda: residuals.residual_figure(
            grid["params"], grid["tokens"], np.log(grid["loss"] / law(grid)), 0.001
        ),
        "sensitivity": lambda: parameters.sensitivity_figure(
            ["E", "alpha"],
            [("base", {"E": 1.0, "alpha": 0.3}), ("other", {"E": 1.1, "alpha": float("nan")})],
            {"E": (0.9, 1.2), "alpha": (float("nan"), float("nan"))},
        ),
        "predictions": lambda: predictions.prediction_figure([one], "Back-test", 0.9),
    }


@pytest.mark.parametrize(
    "name",
    [
        "tokens",
        "params",
        "training",
        "parabola",
        "akima",
        "hull",
        "frontier",
        "residuals",
        "sensitivity",
        "predictions",
    ],
)
def test_same_bytes_each_time_and_ids_of_its_own(grid, name):
    draw = every_figure(grid)[name]
    svg, png = style.render(draw(), name, SOURCE)
    with matplotlib.rc_context({"font.size": 20.0, "axes.grid": False, "svg.hashsalt": "other"}):
        again = style.render(draw(), name, SOURCE)
    assert (svg, png) == again
    assert png.startswith(b"\x89PNG")
    root = ElementTree.fromstring(svg)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert all(identity.startswith(f"{name}-") for identity in ids)
    text = svg.decode()
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert used
    assert {first or second for first, second in used} <= set(ids)
    assert re.search(r"\d{4}-\d\d-\d\d", text) is None


def test_the_footer_holds_the_hash_of_the_input(grid):
    figure = every_figure(grid)["params"]()
    svg, _ = style.render(figure, "params", SOURCE)
    assert [text.get_text() for text in figure.texts] == [f"input sha256 {SOURCE[:16]}"]
    other, _ = style.render(every_figure(grid)["params"](), "params", "cd" * 32)
    assert svg != other


def points_of(axes, marker):
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return sorted(xy for line in lines for xy in zip(line.get_xdata(), line.get_ydata(), strict=True))


@pytest.mark.parametrize("along", ["tokens", "params"])
def test_every_run_is_a_point(grid, along):
    (axes,) = curves.loss_curves(grid, along, law).axes
    assert points_of(axes, "o") == sorted(zip(grid[along], grid["loss"], strict=True))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert low < grid["loss"].min() < grid["loss"].max() < high


def test_every_valley_is_a_star_and_no_refused_one_is(grid):
    result = find_valleys(grid, bootstrap=50)
    left, _ = isoflop.isoflop_slices(result, grid).axes
    expected = sorted((valley.params_opt, valley.loss_opt) for valley in result.valleys if valley.ok)
    assert expected
    assert points_of(left, "*") == expected


def test_no_valley_is_said_in_words(grid):
    flat = {**grid, "loss": np.full(grid["loss"].size, 3.0) + 1e-3 * np.sin(np.arange(25) * 7)}
    result = find_valleys(flat, bootstrap=50)
    assert not any(valley.ok for valley in result.valleys)
    _, right = isoflop.isoflop_slices(result, flat).axes
    assert "no budget has a best size inside the sizes" in [text.get_text() for text in right.texts]


def test_residuals_are_percent_of_the_prediction():
    figure = residuals.residual_figure(np.array([1e6, 2e6]), np.array([1e7, 2e7]), np.log([1.01, 0.98]), 0.01)
    for axes in figure.axes:
        offsets = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_allclose(offsets[:, 1], [1.0, -2.0])


def test_a_prediction_outside_its_interval_looks_different():
    inside, outside = Prediction("in", 2, 1.9, 2.1, 2.1), Prediction("out", 2, 1.9, 2.1, 2.2)
    (axes,) = predictions.prediction_figure([inside, outside], "Back-test", 0.9).axes
    assert points_of(axes, "o") == [pytest.approx((5.0, 1))]
    assert points_of(axes, "X") == [pytest.approx((10.0, 0))]
    assert "1 of 2 inside their 90% interval" in axes.get_title(loc="left")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e15, "$10^{15}$"), (3.2e15, r"$3.2\times10^{15}$"), (1000.0, "$10^{3}$"), (2e-3, r"$2\times10^{-3}$")],
)
def test_flops_are_readable(value, text):
    assert style.flops_text(value) == text


@settings(max_examples=200, deadline=None)
@given(low=st.floats(1e-6, 1e24), factor=st.floats(1.001, 1e12))
def test_log_axes_always_have_a_few_ticks(low, factor):
    ticks = style.log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 9
    assert all(low * (1 - 1e-9) <= tick <= low * factor * (1 + 1e-9) for tick in ticks)
    assert ticks == sorted(set(ticks))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1.5, 6.0), min_size=2, max_size=12))
def test_names_of_curves_never_overlap(heights):
    _, (axes,) = style.new_figure()
    style.loss_axis(axes, heights)
    style.end_labels(axes, heights, [f"{height:g}" for height in heights], ["k"] * len(heights))
    places = sorted(text.get_position()[1] for text in axes.texts)
    assert np.diff(places).min() > 0.04
    order = [float(text.get_text()) for text in sorted(axes.texts, key=lambda text: text.get_position()[1])]
    np.testing.assert_allclose(order, sorted(heights), rtol=1e-4)


def linear_light(colour):
    channels = np.array(to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def test_size_colours_keep_their_order_without_colour_vision():
    # Luminance (WCAG 2) must rise with size, so that print in grey and every colour vision keep the order.
    luminance = [
        float(linear_light(colour) @ [0.2126, 0.7152, 0.0722])
        for colour in style.size_colours(np.geomspace(1, 1e6, 9))
    ]
    assert (np.diff(luminance) > 0.01).all()
    # White paper: contrast of the palest at least 1.5.
    assert 1.05 / (luminance[-1] + 0.05) > 1.5


def test_large_tables_are_drawn_as_pixels():
    generator = np.random.default_rng(0)
    n, d = (10 ** generator.uniform(low, low + 2, 5000) for low in (5, 7))
    columns = {"params": np.round(n, -4) + 1e4, "tokens": d, "loss": truth_loss(n, d)}
    svg, _ = style.render(curves.loss_curves(columns, "tokens"), "many", SOURCE)
    assert len(svg) < 1_500_000
    assert b"<image" in svg
