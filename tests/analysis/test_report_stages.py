"""Every sweep has a report: every experiment at every stage, and grids with one row, one column or one run."""

import dataclasses
import functools
import html.parser
import random
import re

import numpy as np
import pytest

from analysis.fit.fit import fit_law
from analysis.report import study
from analysis.report.command import write_report
from experiments import quickstart, registry
from experiments.command import settings
from experiments.spec import Sweep
from tests.support.synthetic_sweep import TRUTH
from tests.support.trained_by_law import write_runs

NAMES = registry.names()
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Elements(html.parser.HTMLParser):
    """Whether every element that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked_report(folder):
    """Write the report of a sweep and hold its pages to what a reader may expect; the Markdown."""
    page, summary = write_report(folder, bootstrap=0)
    elements = Elements()
    elements.feed(page.read_text())
    assert elements.open == []
    text = page.with_name("report.md").read_text()
    assert summary
    for line in text.splitlines():
        if line.startswith("|"):
            continue
        assert re.search(r"\b(nan|inf|None(?! of|:|\.))\b", line) is None, line
    tables = re.findall(r"((?:^\|.*\n)+)", text, flags=re.M)
    for table in tables:
        assert re.search(r"\b(nan|inf)\b", table) is None
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    for heading in re.findall(r"^## .*\n\n(?=##|\Z)", text, flags=re.M):
        raise AssertionError(f"an empty section: {heading}")
    return text.replace("\\", "")


def stages(sweep):
    """Which runs are finished and which have failed, from nothing to everything, and two random parts."""
    names, trunks = [spec.run_id for spec in sweep], [spec.run_id for spec in sweep if spec.is_trunk]
    generator = random.Random(7)
    yield "nothing", [], []
    yield "one", names[-1:], []
    yield "trunks", trunks or names[:2], []
    yield "only failures", [], names
    yield "half", names[: len(names) // 2], names[-1:]
    yield "all but one", names[:-1], []
    yield "all", names, []
    for part in range(2):
        yield f"random {part}", generator.sample(names, generator.randrange(1, len(names))), []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_that_has_hardly_begun_has_a_report(name, tmp_path):
    sweep = registry.load(name).sweep()
    for stage, finished, failed in list(stages(sweep))[:4]:
        checked_report(write_runs(tmp_path / stage / name, sweep, finished, failed))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_has_a_report_at_every_stage(name, tmp_path):
    sweep = registry.load(name).sweep()
    for stage, finished, failed in list(stages(sweep))[4:]:
        checked_report(write_runs(tmp_path / stage / name, sweep, finished, failed))


GRIDS = {
    "one run": (dict(sizes=1, tokens=(65_536,)), "", "1 of 1 runs"),
    "one size": (dict(sizes=1, tokens=(65_536, 131_072, 262_144, 524_288)), "", "1 model size"),
    "one data size": (dict(sizes=5, tokens=(65_536,)), "", "1 data size"),
    "two by two": (dict(sizes=2, tokens=(65_536, 131_072)), "", "2 model sizes and 2 data sizes"),
    "one size, seeds": (dict(sizes=1, tokens=(65_536,), seeds=4), "", "1 model size"),
    "limited text alone": (
        dict(sizes=2, tokens=(65_536, 131_072)), "data.unique_tokens=65536", "read their text more than once",
    ),
    "limited text, one run": (dict(sizes=1, tokens=(131_072,)), "data.unique_tokens=65536", "1 of 1 runs"),
    "tasks alone": (dict(sizes=3, tokens=(65_536,)), "tasks=copying", "Held-out tasks"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_small_grids_have_a_report_that_says_what_is_missing(name, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "fit_law", functools.partial(fit_law, starts=np.array([list(TRUTH.values())])))
    arguments, settings_, said = GRIDS[name]
    sweep = quickstart.sweep(trunk=False, **arguments)
    if settings_ == "tasks=copying":
        sweep = Sweep(dataclasses.replace(spec, tasks=("copying",), task_items=40) for spec in sweep)
    elif settings_:
        sweep = sweep.with_settings(settings([settings_]))
    text = checked_report(write_runs(tmp_path / "grid", sweep))
    assert said in text


@pytest.mark.slow
def test_branches_on_limited_text_have_a_report(tmp_path):
    """`run quickstart --sizes 2 --tokens 65536 131072 --set data.unique_tokens=65536 --name rep`."""
    sweep = quickstart.sweep(sizes=2, tokens=(65_536, 131_072)).with_settings({"data.unique_tokens": "65536"})
    text = checked_report(write_runs(tmp_path / "rep", sweep))
    assert "no run of the same size has read as many tokens that are all different" in text
    assert "Runs without data.unique_tokens" in text


@pytest.mark.slow
def test_more_parameters_than_rows_less_one_is_no_division_by_zero(tmp_path):
    """AICc of every law is infinite with seven rows: they are shown, none is called better."""
    names = [spec.run_id for spec in quickstart.sweep(trunk=False, sizes=3, tokens=(65_536, 131_072, 262_144))]
    sweep = quickstart.sweep(trunk=False, sizes=3, tokens=(65_536, 131_072, 262_144))
    text = checked_report(write_runs(tmp_path / "grid", sweep, set(names[1:-1])))
    assert "describes these runs better" not in text
