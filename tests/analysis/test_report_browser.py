"""The report in a headless browser: its controls work, it fits the screen, it prints, and it logs no error."""

import re

import pytest

from analysis.report.command import write_report
from tests.support.browser import browser
from tests.support.synthetic_sweep import write_sweep

pytestmark = pytest.mark.slow
FIRST = "document.querySelector('figure')"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("runs"), widths=(16, 32, 64), tokens=(524_288, 1_048_576))
    return write_report(folder, bootstrap=0)[0]


@pytest.fixture(scope="module")
def page(report):
    with browser() as shown:
        yield shown


@pytest.fixture
def fresh(page, report):
    page.open(report)
    return page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen_and_nothing_fails(page, report, width, dark):
    page.errors.clear()
    page.open(report, width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (not dark)


def test_a_point_says_what_it_is(fresh):
    fresh.run(
        f"{FIRST}.querySelector('use:has(title)').dispatchEvent(new Event('pointerover', {{bubbles: true}}))"
    )
    assert not fresh.run("document.querySelector('.tip').hidden")
    said = fresh.run("document.querySelector('.tip').textContent")
    assert re.fullmatch(r"training tokens D [\d.]+[kM]; validation loss [\d.]+", said)


def test_a_name_hides_its_curve_and_brings_it_back(fresh):
    shown = (
        f"[...{FIRST}.querySelectorAll('[data-series=\"0-0\"]')].filter(e => getComputedStyle(e).display != 'none')"
        ".length"
    )
    press = f"{FIRST}.querySelector('[data-name=\"0-0\"]').dispatchEvent(new Event('click'))"
    before = fresh.run(shown)
    fresh.run(press)
    hidden = fresh.run(shown)
    fresh.run(press)
    assert before > 1 and hidden == 0 and fresh.run(shown) == before


def test_an_axis_turns_linear_and_back(fresh):
    places = (
        f"[...{FIRST}.querySelectorAll('[data-x] use:has(title)')].map(e => [+e.getAttribute('x'), "
        "parseFloat(e.querySelector('title').textContent.match(/D ([\\d.]+)/)[1])"
        " * (/D [\\d.]+M/.test(e.querySelector('title').textContent) ? 1000 : 1)])"
    )
    press = f"{FIRST}.querySelector('button[data-axis=x]').click()"
    before = fresh.run(places)
    fresh.run(press)
    after = fresh.run(places)
    assert fresh.run(f"{FIRST}.querySelector('button[data-axis=x]').textContent") == "x axis: linear"
    _, low, high, left, right = fresh.run(f"{FIRST}.querySelector('[data-x]').dataset.x").split()
    low, high, left, right = (float(one) for one in (low, high, left, right))
    for x, tokens in after:  # a point lies where a linear axis has its value; titles have three digits
        expected = left + (1000 * tokens - low) / (high - low) * (right - left)
        assert x == pytest.approx(expected, abs=0.01 * (right - left))
    fresh.run(press)
    assert fresh.run(places) == before


def test_a_column_sorts_by_its_numbers(fresh):
    table = "[...document.querySelectorAll('table')].at(-1)"
    column = f"[...{table}.tBodies[0].rows].map(row => row.cells[3].textContent)"
    press = f"{table}.querySelectorAll('th button')[3].click()"
    first = fresh.run(column)
    seen = []
    for _ in range(3):
        fresh.run(press)
        seen.append(fresh.run(column))
    assert seen[0] == ["524k"] * 3 + ["1.05M"] * 3
    assert seen[1] == seen[0][::-1]
    assert seen[2] == first


def test_it_prints_without_its_controls(fresh):
    assert fresh.pdf().startswith(b"%PDF")
    fresh.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert fresh.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert fresh.run("getComputedStyle(document.querySelector('.axes')).display") == "none"
    finally:
        fresh.call("Emulation.setEmulatedMedia", media="")


def test_without_a_script_points_have_titles_and_nothing_is_missing(page, report):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(report)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelectorAll('use > title').length") > 5
    assert page.run("document.querySelectorAll('figure button').length") == 0
    assert page.run("document.querySelectorAll('nav a').length") > 3
