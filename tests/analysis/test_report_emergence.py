"""The report's section on held-out tasks, and its absence."""

import json
import shutil

import numpy as np
import pytest

from analysis.emergence.truths import line, rise
from analysis.logs.load import load_sweep
from analysis.report import command as report
from analysis.report.folder import MADE_FROM
from analysis.report.sections import declared, emergence
from analysis.report.study import study_of
from tests.support.synthetic_sweep import params_of, truth_loss, write_run

WIDTHS = (8, 16, 32, 64, 128, 256)
ITEMS = 200
CURVES = {"recall": rise(0.5), "bigram": line}


def add_tasks(run, position, positive):
    """Scores of two tasks at the run's end, and what is known of them."""
    x = np.log10([params_of(width) for width in WIDTHS])
    rows, records = [], {}
    for task, curve in CURVES.items():
        right = round(ITEMS * curve(x)[position]) / ITEMS
        values = {"exact_match": right, "chance": 0.25}
        if task == "bigram":
            values["nll_per_token"] = float(2.0 - 1.9 * curve(x)[position])
        rows += [
            {
                "tokens": 1_048_576,
                "name": f"task/{task}/{name}",
                "value": value,
                "n": ITEMS,
                "stderr": 0.0,
                "attempt": 1,
            }
            for name, value in values.items()
        ]
        records[task] = {
            "family": task,
            "items": ITEMS,
            "chance": 0.25,
            "choice_chance": 0.25,
            "memorised": False,
            "fingerprint": "f" * 16,
            "positive_control": task == positive,
            "overlap": {"gram_tokens": 13, "items_found": position, "grams": 900, "grams_found": 40 + position},
        }
    with (run / "evals.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (run / "tasks.json").write_text(json.dumps(records))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emergence") / "tasks"
    for position, width in enumerate(WIDTHS):
        run = write_run(folder, width, 1_048_576, 0, float(truth_loss(params_of(width), 1_048_576)))
        add_tasks(run, position, "recall")
    return folder


def test_the_report_judges_tasks_and_shows_their_overlap(sweep):
    page, _ = report.write_report(sweep, bootstrap=0)
    files = {path.name for path in page.parent.iterdir()} - {MADE_FROM}
    assert files <= declared() | {"report.html", "report.md"}
    assert {"tasks.csv", "emergence.json", "emergence_curves_1.svg", "emergence_verdicts.png"} <= files
    entries = {
        entry["task"]: entry for entry in json.loads((page.parent / "emergence.json").read_text())["tasks"]
    }
    assert entries["recall"]["verdict"] == "sharp"
    assert entries["bigram"]["verdict"] == "smooth"
    text = page.with_suffix(".md").read_text()
    for entry in entries.values():
        assert entry["sentence"] in text.replace("\\", "")
    assert "would have been seen with 80% power" in text
    assert "| recall | positive control | 200 | 5 | 900 | 45 |" in text
    assert "| bigram | held out | 200 | 5 | 900 | 45 |" in text


def test_the_same_table_alone_gives_the_same_verdicts(sweep, tmp_path):
    from analysis.emergence import command

    folder = report.write_report(sweep, bootstrap=0)[0].parent
    out = tmp_path / "again.json"
    assert command.main([str(folder / "tasks.csv"), "--axis", "params", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["tasks"] == json.loads((folder / "emergence.json").read_text())["tasks"]


def test_a_sweep_without_tasks_has_no_such_section(tmp_path):
    write_run(tmp_path / "plain", 8, 1_048_576, 0, 3.0)
    assert emergence.section(study_of(load_sweep(tmp_path / "plain"))) is None


def test_scores_that_do_not_fit_together_are_said_and_the_report_goes_on(sweep, tmp_path):
    copy = tmp_path / "odd"
    shutil.copytree(sweep, copy, ignore=shutil.ignore_patterns("report"))
    path = sorted(copy.glob("*/evals.jsonl"))[0]
    path.write_text(path.read_text().replace('"value": 0.25', '"value": 0.5'))
    section = emergence.section(study_of(load_sweep(copy), bootstrap=0))
    assert "chance is 0.25 in some rows and 0.5 in others" in section.blocks[0].text
    assert section.results == {}


@pytest.mark.parametrize(
    "damage", ["{torn", "[]", "null", '{"recall": 3}', '{"recall": {"items": 1}}', "no overlap"]
)
def test_a_damaged_record_of_tasks_is_named_and_left_out(sweep, tmp_path, damage):
    copy = tmp_path / "damaged"
    shutil.copytree(sweep, copy, ignore=shutil.ignore_patterns("report"))
    path = sorted(copy.glob("*/tasks.json"))[0]
    records = json.loads(path.read_text())
    if damage == "no overlap":
        damage = json.dumps({name: record | {"overlap": {}} for name, record in records.items()})
    path.write_text(damage)
    records, damaged = emergence._records(load_sweep(copy))
    assert damaged == [f"{path.parent.name}/tasks.json: damaged and left out"]
    assert records["recall"]["overlap"]["items_found"] == 5
