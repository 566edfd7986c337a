"""Reports: from logs alone, the same bytes each time, honest where there is little to say."""

import hashlib
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.logs.read import read_table
from analysis.report import command as report
from analysis.report.folder import MADE_FROM
from analysis.report.page import Page as Content
from analysis.report.page import to_html, to_markdown
from analysis.report.section import Block, Bullets, Command, Paragraph, Rows, Section
from analysis.report.sections import declared
from tests.support.synthetic_sweep import TRUTH, params_of, run_name, write_run, write_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_reports(sweep_once, tmp_path_factory):
    """Reports of two copies of one sweep, made in two places."""
    copies = [tmp_path_factory.mktemp("x") / place / sweep_once.name for place in ("one", "another place")]
    for copy in copies:
        shutil.copytree(sweep_once, copy)
    return [report.write_report(copy, bootstrap=200)[0].parent for copy in copies]


@pytest.fixture(scope="module")
def folder(two_reports) -> Path:
    return two_reports[0]


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_logs_give_the_same_bytes_anywhere(two_reports):
    first, second = map(hashes, two_reports)
    assert first == second
    expected = {"report.html", "report.md", "table.csv", "runs.csv", "fit.json", "isoflop.json"}
    figures = (
        "loss_tokens",
        "loss_params",
        "training",
        "isoflop",
        "envelope",
        "frontier",
        "residuals",
        "sensitivity",
    )
    figures += ("backtest", "powers")
    expected |= {f"{name}.{kind}" for name in figures for kind in ("svg", "png")}
    expected |= {"powers.json"}
    assert set(first) == expected | {MADE_FROM}
    assert expected <= declared() | {"report.html", "report.md"}


def test_no_place_and_no_time_is_in_it(folder):
    for name in ("report.html", "report.md", "fit.json", "isoflop.json", "runs.csv", "table.csv"):
        text = (folder / name).read_text()
        assert str(folder.parent.parent) not in text
        assert "/tmp" not in text
        assert re.search(r"20\d\d-\d\d-\d\d", text) is None


def test_the_truth_is_within_its_intervals(folder):
    fit = json.loads((folder / "fit.json").read_text())
    for name, value in TRUTH.items():
        low, high = fit["intervals"][name]
        assert low < value < high
        assert fit["identified"][name]
    table = folder / "table.csv"
    assert fit["input"] == {
        "path": "table.csv", "sha256": hashlib.sha256(table.read_bytes()).hexdigest(), "rows": 20,
    }  # fmt: skip
    assert json.loads((folder / "isoflop.json").read_text())["input"] == fit["input"]


def test_table_csv_is_the_table_that_was_fitted(folder, sweep_once):
    back, direct = read_table(folder / "table.csv").columns, read_table(sweep_once).columns
    assert back.keys() == direct.keys()
    for name, values in direct.items():
        np.testing.assert_array_equal(back[name], values)


def test_the_words_say_what_the_fit_says(folder):
    fit = json.loads((folder / "fit.json").read_text())
    text = (folder / "report.md").read_text()
    head = text[: text.index("## Warnings")]
    assert f"N^-{fit['parameters']['alpha']:.3g}" in head
    assert f"D^-{fit['parameters']['beta']:.3g}" in head
    low, high = fit["intervals"]["alpha"]
    assert f"{low:.3g} to {high:.3g}" in head
    assert "20 of 20 runs are finished and used: 10.2k to 246k parameters" in head
    assert "at 10 times the largest budget" in head
    assert "python -m analysis.report runs/quickstart" in text


def test_the_best_split_minimizes_the_law(folder):
    fit = json.loads((folder / "fit.json").read_text())["parameters"]
    text = (folder / "report.html").read_text()
    flops = 10 * max(6 * params_of(96) * 4_194_304, 0)
    n = np.geomspace(1e4, 1e8, 400_001)
    loss = fit["E"] + fit["A"] * n ** -fit["alpha"] + fit["B"] * (flops / 6 / n) ** -fit["beta"]
    best = n[loss.argmin()]
    said = re.search(
        r"beyond all runs, it is ([\d.]+)k parameters on ([\d.]+)M tokens \(predicted loss ([\d.]+)", text
    )
    assert said
    assert float(said[1]) * 1e3 == pytest.approx(best, rel=0.01)
    assert float(said[2]) * 1e6 == pytest.approx(flops / 6 / best, rel=0.01)
    assert float(said[3]) == pytest.approx(loss.min(), abs=6e-4)


class Page(html.parser.HTMLParser):
    """Open and closed elements, ids, and whatever would be fetched."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self._look(attributes)

    def _look(self, attributes):
        for key, value in attributes:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "xlink:href", "action") and not value.startswith(("#", "data:")):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(folder):
    text = (folder / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 10
    assert page.tags.count("script") == 1  # without it the page is whole too (test_report_browser.py)
    assert "@import" not in text
    assert 'name="viewport"' in text


def test_every_run_is_listed(folder, sweep_once):
    names = {run.name for run in sweep_once.iterdir()}
    assert all(name in (folder / "report.html").read_text() for name in names)
    rows = (folder / "runs.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == names


def small_sweep(tmp_path, count=3, **options):
    pairs = [(16, 524_288), (32, 524_288), (32, 1_048_576)][:count]
    return write_sweep(tmp_path / "runs", "small", pairs=pairs, **options)


def test_too_few_runs_give_curves_and_the_reason(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    report.main([str(sweep), "--bootstrap", "50"])
    shown = capsys.readouterr().out
    assert "No law is fitted:" in shown
    assert shown.strip().endswith("report.html")
    files = set(hashes(sweep / "report"))
    assert {"report.html", "loss_tokens.svg", "loss_params.png", "training.svg", "table.csv"} <= files
    assert not {"fit.json", "isoflop.json", "frontier.svg", "residuals.svg"} & files
    text = (sweep / "report" / "report.md").read_text()
    assert re.search(r"No law is fitted: .*3", text)
    assert "isoFLOP valleys: none; no FLOP budget has 4 sizes" in text


def test_no_finished_run_still_gives_curves(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    for run in sweep.iterdir():
        (run / "result.json").unlink()
    report.main([str(sweep)])
    assert "None of 3 runs has finished" in capsys.readouterr().out
    assert {"evaluations.svg", "training.svg"} <= set(hashes(sweep / "report"))
    for run in sweep.glob("w*"):
        (run / "evals.jsonl").unlink()
        (run / "metrics.jsonl").unlink()
    report.main([str(sweep)])
    assert set(hashes(sweep / "report")) == {"report.html", "report.md", "runs.csv", "made_from.json"}
    assert "No run has logged a loss yet" in (sweep / "report" / "report.html").read_text()


def test_files_of_an_earlier_report_go_and_others_stay(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    (sweep / "report").mkdir()
    (sweep / "report" / "fit.json").write_text("stale")
    (sweep / "report" / "notes.txt").write_text("mine")
    report.main([str(sweep)])
    assert not (sweep / "report" / "fit.json").exists()
    assert (sweep / "report" / "notes.txt").read_text() == "mine"


def test_files_that_only_an_earlier_version_knew_go_and_nothing_outside_the_folder(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    folder = sweep / "report"
    folder.mkdir()
    spec = f"../{run_name(16, 524_288, 0)}/spec.json"
    earlier = {"logs_sha256": "a", "code_sha256": "b", "bootstrap": 0, "seed": 0, "summary": []}
    (folder / MADE_FROM).write_text(
        json.dumps({**earlier, "files": {"hull.svg": "c", "gone.png": "d", spec: "e", "..": "f", "": "g"}})
    )
    (folder / "hull.svg").write_text("of an earlier version")
    report.main([str(sweep), "--bootstrap", "0"])
    assert not (folder / "hull.svg").exists()
    assert (folder / spec).exists()
    made = json.loads((folder / MADE_FROM).read_text())
    assert set(made["files"]) | {MADE_FROM} == set(hashes(folder))


def test_missing_and_failed_runs_are_told_and_markup_is_not_believed(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    evil = "<script>alert('x')</script> & | `code` **bold** <img src=x onerror=y>"
    failed = sweep / run_name(16, 524_288, 0)
    (failed / "result.json").unlink()
    (failed / "error.txt").write_text(evil)
    failed.rename(sweep / "a<b>&'\"*|`c")
    report.main([str(sweep)])
    page, text = ((sweep / "report" / name).read_text() for name in ("report.html", "report.md"))
    parsed = Page()
    parsed.feed(page)
    assert not {"img", "b"} & set(parsed.tags) and parsed.tags.count("script") == 1
    assert parsed.open == []
    assert "1 of 3 runs is missing from the fits" in text
    assert "\\<script\\>" in text
    assert re.search(r"(?<!\\)<(/?script|img)", text) is None
    assert r"a\<b\>&'" in text
    table = text[text.index("## Runs") :].splitlines()
    cells = [len(re.split(r"(?<!\\)\|", line)) for line in table if line.startswith("|")]
    assert len(set(cells)) == 1


def test_differences_and_rises_are_warned_of(tmp_path):
    sweep = small_sweep(tmp_path, env={"commit": "aaaa"})
    write_run(sweep, 48, 1_048_576, 0, 9.0, env={"commit": "bbbb"})
    page, _ = report.write_report(sweep, bootstrap=0)
    text = page.with_name("report.md").read_text()
    assert "the recorded code differs between runs: 2 commits" in text
    assert re.search(r"loss rises by \d+% from 32.8k to 67.6k parameters at 1.05M tokens", text)


def content_of(text):
    """Everything that a page can hold, all of it this text."""
    blocks: tuple[Block, ...] = (
        Paragraph(text),
        Bullets([text]),
        Rows((text, "b"), [(text, text)]),
        Command(text),
    )
    return Content(text, 1, text, text or "-", [text], [text], {"one": Section(text, blocks)}, [text])


NASTY = '<a href="x">&\'|*_`[]#\\'


def test_renderers_escape_everything():
    page, content = Page(), content_of(NASTY)
    text = to_html(content, {})
    page.feed(text)
    assert page.tags.count("a") == text.count('<a href="#')
    assert page.open == []
    lines = [line for line in to_markdown(content).splitlines() if not line.startswith("    ")]
    anchors = [f'<a id="{place}"></a>' for place in content.sections]  # our own
    assert all("<a" not in line.replace("\\<a", "") for line in lines if line not in anchors)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("<>&\"'|*_`[]#\\{}%!-/ ab")))
def test_no_text_changes_the_structure_of_a_page(text):
    page, plain = Page(), Page()
    page.feed(to_html(content_of(text), {}))
    plain.feed(to_html(content_of("a"), {}))
    assert page.tags == plain.tags
    lines = to_markdown(content_of(text)).splitlines()
    cells = [len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines if line.startswith("|")]
    assert cells == [4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "absent: no such directory of a sweep"),
        (["."], "no runs in it"),
        ([], "SWEEP"),
        (["small", "--bootstrap", "1"], "--bootstrap 1: must be 0 or at least 2"),
        (["small", "--bootstrap", "-4"], "--bootstrap -4: must be 0 or at least 2"),
        (["small", "--seed", "-1"], "--seed -1: must be at least 0"),
        (["small", "--style", "x"], "--style"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        report.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    (sweep / "report").write_text("a file is in the way")
    with pytest.raises(SystemExit) as stopped:
        report.main([str(sweep), "--bootstrap", "0"])
    assert stopped.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


def test_importing_it_does_not_start_jax():
    code = "import analysis.report.command, sys; sys.exit('jax' in sys.modules or 'matplotlib' in sys.modules)"
    root = Path(report.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


damage = st.sampled_from(
    ["", "{", "[]", "null", "NaN", '"x"', "{}", '{"tokens": -1}', '{"evals": 3}', '{"params": [1]}']
)
damaged_files = st.sampled_from(
    ["spec.json", "ledger.json", "result.json", "env.json", "evals.jsonl", "metrics.jsonl"]
)
leaf: st.SearchStrategy = st.sampled_from([None, -1, 0, "x", [], {}, True, 1e308, -1e308, 0.5])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_logs_are_reported_or_refused(tmp_path_factory, capsys, data):
    sweep = small_sweep(tmp_path_factory.mktemp("damaged"), 2, rows=4)
    for run in sorted(sweep.iterdir()):
        name = data.draw(damaged_files)
        path = run / name
        if data.draw(st.booleans()) or name.endswith("jsonl"):
            path.write_text(data.draw(damage) + "\n")
            continue
        tree = json.loads(path.read_text())
        branch = tree
        while isinstance(branch, dict) and branch:
            key = data.draw(st.sampled_from(sorted(branch)))
            if not isinstance(branch[key], dict) or not branch[key] or data.draw(st.booleans()):
                branch[key] = data.draw(leaf)
                break
            branch = branch[key]
        path.write_text(json.dumps(tree))
    code: object = 0
    try:
        report.main([str(sweep), "--bootstrap", "0"])
    except SystemExit as stopped:
        code = stopped.code
    assert code in (0, 2)
    capsys.readouterr()
    if code == 0:
        page = (sweep / "report" / "report.html").read_text()
        assert "nan" not in re.sub(r"<svg.*?</svg>|<script.*?</script>", "", page, flags=re.S).lower().split()


def test_a_current_report_is_left_and_a_changed_log_or_a_damaged_page_is_made_again(tmp_path, capsys):
    sweep = write_sweep(tmp_path, widths=(16,), tokens=(524_288, 1_048_576))
    report.main([str(sweep), "--bootstrap", "0"])
    page = sweep / "report" / "report.html"
    first, written = page.read_bytes(), page.stat().st_mtime_ns
    said = capsys.readouterr().out
    report.main([str(sweep), "--bootstrap", "0"])
    assert page.stat().st_mtime_ns == written
    assert capsys.readouterr().out == said
    page.write_text("torn")
    report.main([str(sweep), "--bootstrap", "0"])
    assert page.read_bytes() == first
    run = next(sweep.glob("*/evals.jsonl"))
    run.write_text(
        run.read_text() + '{"tokens": 1000, "name": "val/loss", "value": 9.5, "n": 1, "attempt": 1}\n'
    )
    report.main([str(sweep), "--bootstrap", "0"])
    assert page.read_bytes() != first
