"""Rows of lm-evaluation-harness are read as those of our own tasks: table, verdict, comparison, checks, report."""

import json

import pytest

from analysis.chance import chance_of
from analysis.compare.command import main as compare
from analysis.compare.metric import Metric
from analysis.emergence.table import sweep_rows, tasks_from_rows
from analysis.logs.load import load_sweep
from analysis.report.sections import emergence
from analysis.task_table import task_table
from core.errors import BadInput
from core.files import JsonLines, read_json, write_json
from core.records import of_a_task
from core.rundir import RunDirectory
from experiments.scaling import ScalingRule
from tests.analysis.test_sections import known
from tests.support.run_records import a_task
from tests.support.trained_by_law import write_runs

ITEMS = 200


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Two sweeps of five sizes whose accuracy rises with size, the second's as if it were larger."""
    rule, found = ScalingRule(), []
    for name, better in (("first", 1.0), ("second", 1.25)):
        folder = tmp_path_factory.mktemp("rows") / name
        specs = [rule.run(0, 262_144, 0, model=rule.shape(width, depth=2)) for width in (16, 24, 32, 48, 64)]
        write_runs(folder, specs)
        for place, spec in enumerate(specs):
            run = RunDirectory(folder / spec.run_id)
            right = round(ITEMS * (0.25 + 0.1 * (place + 1) * better))
            row = {"tokens": spec.tokens, "n": ITEMS, "stderr": 0.03, "attempt": 1}
            with JsonLines(run.evaluations) as log:
                for metric, value in (
                    ("acc", right / ITEMS),
                    ("acc_norm", 0.4),
                    ("chance", 0.25),
                    ("likelihood", -2.0),
                ):
                    log.append({**row, "name": f"lm-eval/arc/{metric}", "value": value})
                log.append({**row, "name": "lm-eval/arc/exact_match,strict", "value": 0.5})
            record = a_task(items=ITEMS, chance=0.25, choice_chance=0.25)
            run.write_tasks({"lm-eval/arc": {**record, "overlap": {}}})
        found.append(folder)
    return found


def test_the_name_of_a_row_says_task_and_metric():
    assert of_a_task("task/addition:digits=2/nll") == ("addition:digits=2", "nll")
    assert of_a_task("task/lm-eval:/a/b.yaml/exact_match") == ("lm-eval:/a/b.yaml", "exact_match")
    assert of_a_task("lm-eval/arc/acc") == ("lm-eval/arc", "acc")
    assert [of_a_task(name) for name in ("val/loss", "task/x", "lm-eval/x", "tasks/a/b")] == [None] * 4


def test_negative_values_of_the_harness_are_no_damage(sweeps):
    (run, *_) = load_sweep(sweeps[0]).usable
    assert run.notes == ()


def test_the_emergence_test_sees_them_with_their_chance(sweeps):
    rows, _ = sweep_rows(load_sweep(sweeps[0]))
    assert [row["task"] for row in rows] == ["lm-eval/arc"] * 5
    assert [row["correct"] for row in rows] == [70, 90, 110, 130, 150]
    assert {row["n"] for row in rows} == {ITEMS} and {row["chance"] for row in rows} == {0.25}
    assert [task.name for task in tasks_from_rows(rows, "params")] == ["lm-eval/arc"]
    assert chance_of("lm-eval/arc", "exact_match", {"chance": 0.25}) == 0.0
    table = task_table(load_sweep(sweeps[0]), "acc")
    assert [row["correct"] for row in table] == [70, 90, 110, 130, 150]
    assert {row["items_in_training_text"] for row in table} == {""}


def test_compare_takes_one_as_its_metric(sweeps, capsys):
    compare([*map(str, sweeps), "--metric", "lm-eval/arc/acc", "--axis", "params", "--json", "--draws", "100"])
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "lm-eval/arc/acc"
    assert found["overall"]["value"] > 1.05
    strict = Metric.of("lm-eval/arc/exact_match,strict")
    assert strict.share and strict.lowered(0.25, "") == 0.75
    with pytest.raises(SystemExit):
        compare([*map(str, sweeps), "--metric", "lm-eval/none/acc"])
    assert "--metric lm-eval/none/acc: run" in capsys.readouterr().err


def test_a_task_whose_overlap_was_not_counted_has_no_row_of_it(sweeps):
    records, damaged = emergence._records(load_sweep(sweeps[0]))
    assert records == {} and damaged == []


def test_a_sweep_scored_by_the_harness_alone_has_the_section_of_tasks(sweeps, monkeypatch):
    def refuse(sweep):
        raise BadInput("seen")

    monkeypatch.setattr("analysis.emergence.table.sweep_rows", refuse)  # the test itself takes 10 s
    assert emergence.section(known(sweeps[0])).blocks[0].text == "Not judged: seen."


def test_a_table_of_tasks_that_says_nothing_is_damage(sweeps, tmp_path):
    run = RunDirectory(load_sweep(sweeps[1]).usable[0].path)
    before = read_json(run.tasks)
    write_json(run.tasks, {"lm-eval/arc": {**before["lm-eval/arc"], "overlap": {"grams": 3}}})
    assert emergence._records(load_sweep(sweeps[1]))[1] == [f"{run.name}/tasks.json: damaged and left out"]
    write_json(run.tasks, before)
