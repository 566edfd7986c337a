"""A new section is one new file: it is found by its place, shown on both pages, and its files go when it goes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.synthetic_sweep import write_sweep

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SECTION = '''
"""How long runs took."""

from analysis.figures.style import new_figure
from analysis.report.section import File, Paragraph, Picture, Rows, Section

ORDER = 55
RESULT = File("seconds.json")
PICTURE = Picture("seconds", "Seconds of each run <on one machine>.")


def figure(seconds):
    drawn, (axes,) = new_figure()
    axes.plot(seconds, "o")
    return drawn


def section(study):
    seconds = [run.result["wall_seconds"] for run in study.sweep.usable]
    if not seconds:
        return None
    return Section(
        title="Time & money",
        said=(f"All runs together took {sum(seconds):.0f} seconds.",),
        warnings=("time was measured on a shared machine",),
        blocks=(
            Paragraph("Wall clock."),
            Rows(("run", "seconds"), [(run.run, f"{one:.2f}") for run, one in zip(study.sweep.usable, seconds)]),
            PICTURE.by(lambda: figure(seconds)),
        ),
        results={RESULT: {"seconds": seconds}},
    )
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of what a report is made with, and a small sweep beside it."""
    tree = tmp_path_factory.mktemp("tree")
    for room in ("analysis", "core"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    write_sweep(tree / "runs", "small", pairs=[(16, 524_288), (32, 524_288), (32, 1_048_576)])
    return tree


def report(tree: Path) -> tuple[Path, str]:
    """The report's folder and what the command said."""
    done = subprocess.run(
        [sys.executable, "-m", "analysis.report", "runs/small", "--bootstrap", "0"],
        cwd=tree, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return tree / "runs" / "small" / "report", done.stdout


def test_a_section_is_one_file_and_its_files_go_with_it(tree):
    place = tree / "analysis" / "report" / "sections" / "seconds.py"
    place.write_text(SECTION)
    folder, said = report(tree)
    seconds = json.loads((folder / "seconds.json").read_text())["seconds"]
    assert len(seconds) == 3
    assert f"All runs together took {sum(seconds):.0f} seconds." in said
    assert {"seconds.svg", "seconds.png"} <= {path.name for path in folder.iterdir()}
    html, markdown = ((folder / name).read_text() for name in ("report.html", "report.md"))
    assert '<a href="#seconds">Time &amp; money</a>' in html
    assert "Seconds of each run &lt;on one machine&gt;." in html
    assert html.index('id="curves"') < html.index('id="seconds"') < html.index('id="law"')
    assert "](seconds.svg)" in markdown
    assert "- time was measured on a shared machine" in markdown
    assert "seconds.json" in markdown[markdown.index("Beside this page") :]

    place.unlink()
    folder, said = report(tree)
    assert "took" not in said
    assert not list(folder.glob("seconds.*"))
