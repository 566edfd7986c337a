"""`plan --budget`, `plan SWEEP --next` and the experiment that trains what they choose."""

import json

import pytest

import launch
from experiments import planned
from experiments.spec import RunSpec
from tests.support.synthetic_sweep import write_sweep
from tests.test_launch import refused
from training.cost import parameter_count, training_flops

SMALL = ["plan", "--budget", "5e12", "--target", "1e14", "--runs-at-most", "16"]


def planned_json(capsys, arguments) -> dict:
    assert launch.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_budget_becomes_runs_that_can_be_trained_and_cost_no_more(capsys, tmp_path):
    path = tmp_path / "plan.json"
    for structure in ("runs", "trunks"):
        value = planned_json(capsys, [*SMALL, "--structure", structure, "--out", str(path)])
        plain, chosen = value["grids"]
        assert plain["grid"] == "plain isoFLOP"
        assert plain["flops"] == pytest.approx(5e12)
        assert value["narrower"] > 1.3
        sweep = list(planned.sweep(path))
        assert sum(map(training_flops, sweep)) == pytest.approx(chosen["flops"], rel=0.03)
        ends = [run for run in sweep if not run.is_trunk]
        assert len(ends) == chosen["runs"] <= 16
        assert any(run.is_trunk for run in sweep) == (structure == "trunks")
        sizes = {run["params"] for run in value["plan"]["runs"]}
        assert {parameter_count(run) for run in ends} == sizes


def test_the_comparison_fits_a_terminal_and_says_what_it_rests_on(capsys):
    assert launch.main(SMALL) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    for words in ("plain isoFLOP", "chosen, runs", "times narrower", "noise of a run 0.005", "--out FILE"):
        assert words in text


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory):
    """5 sizes by 4 data sizes whose losses follow a law with half a percent of noise."""
    return write_sweep(tmp_path_factory.mktemp("runs"), noise=0.005)


def test_next_runs_narrow_the_forecast_of_what_exists(capsys, sweep_folder, tmp_path):
    path = tmp_path / "next.json"
    arguments = ["plan", str(sweep_folder), "--next", "3", "--target", "1e17", "--out", str(path)]
    value = planned_json(capsys, arguments)
    before, after = (row["expected"]["half_width_90"]["forecast"] for row in value["grids"])
    assert after < before
    assert value["narrower"] == pytest.approx(before / after)
    assert len(value["plan"]["runs"]) <= 3
    assert min(run["seed"] for run in value["plan"]["runs"]) > 0  # the seeds of the sweep are taken
    assert all(isinstance(run, RunSpec) for run in planned.sweep(path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "0", "--target", "1e20"], ["--budget=0"]),
        (["--budget", "-1", "--target", "1e20"], ["--budget=-1"]),
        (["--budget", "nan", "--target", "1e20"], ["--budget=nan"]),
        (["--budget", "much", "--target", "1e20"], ["--budget", "much"]),
        (["--budget", "1e18"], ["--target is needed"]),
        (["--target", "1e18"], ["--budget is needed"]),
        (["--budget", "1e18", "--target", "1e17"], ["--target=1e+17", "1e+18"]),
        (["--budget", "1e6", "--target", "1e17"], ["--budget=1e+06", "too small"]),
        (["--budget", "1e18", "--target", "1e20", "--runs-at-most", "5"], ["--runs-at-most=5", "6"]),
        (["--budget", "1e18", "--target", "1e20", "--seeds", "0"], ["--seeds=0"]),
        (["--budget", "1e18", "--target", "1e20", "--noise", "0"], ["--noise=0"]),
        (["--budget", "1e18", "--target", "1e20", "--structure", "ring"], ["--structure=ring", "trunks"]),
        (["--budget", "1e18", "--target", "1e20", "--prior", "/no/fit.json"], ["/no/fit.json"]),
        (["--budget", "1e18", "--target", "1e20", "--next", "2"], ["--next=2", "needs the sweep"]),
        (["runs/x", "--next", "0", "--target", "1e20"], ["--next=0"]),
        (["runs/x", "--target", "1e20"], ["runs/x", "--next"]),
        (["runs/nothing-there", "--next", "2", "--target", "1e20"], ["runs/nothing-there"]),
        (
            ["--budget", "5e12", "--target", "1e14", "--out", "/proc/x/plan.json"],
            ["/proc/x/plan.json: cannot be written"],
        ),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    line = refused(capsys, ["plan", *arguments])
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{torn", "JSON"),
        ("{}", "not a plan"),
        ('{"format": 1, "runs": []}', "no run"),
        ('{"format": 1, "runs": [{"params": 1e4, "tokens": 1e5}]}', "run 0 needs"),
        ('{"format": 1, "runs": [{"params": -1, "tokens": 1e5, "seed": 0}]}', "run 0 needs"),
        ('{"format": 1, "runs": [{"params": 1e4, "tokens": 1e5, "seed": 0.5}]}', "run 0 needs"),
        ('{"format": 1, "runs": [{"params": 1e4, "tokens": 5, "seed": 0}]}', "tokens=5"),
        ('{"format": 1, "runs": [{"params": 10, "tokens": 1e5, "seed": 0}]}', "params=10"),
    ],
)
def test_a_plan_that_cannot_be_trained_is_refused(capsys, tmp_path, content, words):
    path = tmp_path / "plan.json"
    path.write_text(content)
    assert words in refused(capsys, ["plan", "planned", "--plan", str(path)])
