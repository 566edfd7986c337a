"""A law of fresh text takes rows of at most one epoch, and what it left out is said."""

import json
import math

import numpy as np
import pytest

from analysis.fit.command import main as fit
from analysis.logs.load import load_sweep
from analysis.logs.read import fresh_rows, read_table
from analysis.report.command import write_report
from analysis.report.sections import repeated
from experiments import quickstart
from tests.support.synthetic_sweep import truth_loss
from tests.support.trained_by_law import write_runs

TOKENS = (65_536, 131_072, 262_144, 524_288, 1_048_576)
SPLIT = 300_000


@pytest.fixture(scope="module")
def read_often(tmp_path_factory):
    """Five sizes on up to a million tokens of a corpus that has 300,000."""
    folder = tmp_path_factory.mktemp("runs") / "often"
    return write_runs(folder, quickstart.sweep(tokens=TOKENS, trunk=False), corpus_tokens=SPLIT)


def test_what_a_run_really_saw_is_in_the_table(read_often):
    columns = load_sweep(read_often).table().columns
    held = (SPLIT - 1) // 128 * 128
    np.testing.assert_array_equal(columns["unique_tokens"], np.minimum(columns["tokens"], held))


@pytest.mark.slow
def test_the_report_fits_the_fresh_rows_and_says_on_top_how_often_text_was_read(read_often):
    page, said = write_report(read_often, bootstrap=0)
    text = page.with_name("report.md").read_text()
    warnings = text[text.index("## Warnings") : text.index("## Curves")]
    assert json.loads((page.parent / "fit.json").read_text())["n"] == 18
    epochs = TOKENS[-1] / ((SPLIT - 1) // 128 * 128)
    (sentence,) = [one for one in said if "read their training text more than once" in one]
    assert (
        sentence.startswith("12 of 30 runs")
        and f"up to {epochs:.3g} epochs of 300k distinct tokens" in sentence
    )
    assert "12 of 30 runs read their text more than once" in warnings and "leave them out" in warnings
    assert "## Repeated data" in text


@pytest.mark.slow
def test_a_report_of_repeated_text_alone_has_no_law_of_fresh_text(tmp_path, monkeypatch):
    monkeypatch.setattr(
        repeated, "_fitted", lambda study: ("", None, "not tried here")
    )  # its fit takes a minute
    sweep = quickstart.sweep(tokens=TOKENS, sizes=3, trunk=False)
    folder = write_runs(tmp_path / "all", sweep, corpus_tokens=20_000)
    page, said = write_report(folder, bootstrap=0)
    assert any(one.startswith("No law is fitted: 15 of 15 runs read their text more than once") for one in said)
    assert not (page.parent / "fit.json").exists()


def test_runs_that_do_not_say_are_named(tmp_path):
    folder = write_runs(
        tmp_path / "old", quickstart.sweep(sizes=1, tokens=TOKENS[:1], trunk=False), corpus_tokens=None
    )
    page, _ = write_report(folder, bootstrap=0)
    assert "do not say how often they read their text" in page.with_name("report.md").read_text().replace(
        "does", "do"
    )


def table(tmp_path, rows):
    path = tmp_path / "table.csv"
    lines = [f"{n},{d},{u},{loss}" for n, d, u, loss in rows]
    path.write_text("params,tokens,unique_tokens,loss\n" + "\n".join(lines) + "\n")
    return path


def rows_with(repeated, fresh):
    tokens = np.geomspace(1e6, 1e8, 5)
    grid = [(n, d) for n in np.geomspace(1e5, 1e7, 5) for d in tokens]
    rows = [(n, d, d, float(truth_loss(n, d))) for n, d in grid[:fresh]]
    return rows + [(n, d, d / 4, 1.2 * float(truth_loss(n, d / 4))) for n, d in grid[:repeated]]


@pytest.mark.slow
def test_fit_of_a_table_leaves_repeated_rows_out(tmp_path, capsys):
    path = table(tmp_path, rows_with(repeated=10, fresh=25))
    fit([str(path), "--law", "power_params", "--out", str(tmp_path / "fit.json")])
    stored = json.loads((tmp_path / "fit.json").read_text())
    assert stored["n"] == 25
    assert stored["warnings"][0].startswith(
        "10 of 35 rows read their text more than once, up to 4 times: left out"
    )


def test_where_too_few_fresh_rows_are_left_all_stay_and_that_is_said(tmp_path):
    read = fresh_rows(read_table(table(tmp_path, rows_with(repeated=10, fresh=3))))
    assert read.rows == 13
    assert "10 of 13 rows read their text more than once, up to 4 times: taken all the same" in read.warnings[0]
    assert math.isclose(read.columns["tokens"].max(), 1e8)
