"""Held-back runs: none starts before its forecast, whoever asks; then they do, in one command."""

import json

import pytest

import launch
from core.errors import BadInput
from core.files import canonical_sha256
from core.rundir import HELD_BACK, SweepDirectory
from experiments import forecast
from launchers.local.launch import LocalOptions
from launchers.local.launch import launch as launch_locally
from launchers.order import check_order, hold_back
from tests.support.small import cache_folder, write_corpus
from tests.test_launch import refused

pytestmark = pytest.mark.long


@pytest.fixture
def held(tmp_path):
    """A sweep of five sizes whose largest is held back, and the runs of that size."""
    specs = list(forecast.sweep())
    names = forecast.held_back(specs)
    hold_back(tmp_path, specs, names)
    return tmp_path, specs, [spec for spec in specs if spec.run_id in names]


def write_forecast(directory, runs, **changes):
    value = {"runs": [{"run": spec.run_id} for spec in runs]}
    value["digest"] = canonical_sha256(value, leave_out="digest")
    SweepDirectory(directory).forecast_folder.mkdir(exist_ok=True)
    SweepDirectory(directory).forecast.write_text(json.dumps({**value, **changes}))


def test_the_largest_size_is_held_back_with_its_trunk(held):
    directory, _, large = held
    assert {(spec.model.width, spec.model.depth) for spec in large} == {(64, 4)}
    assert len(large) == 5
    assert sum(spec.is_trunk for spec in large) == 1
    value = json.loads((directory / HELD_BACK).read_text())
    assert [run["tokens"] for run in value["runs"]] == [196_608, 393_216, 786_432, 1_572_864]
    assert {run["params"] for run in value["runs"]} == {217_792}


def test_without_a_forecast_only_the_small_runs_may_start(held):
    directory, specs, large = held
    check_order(directory, [spec for spec in specs if spec not in large])
    for some in (specs, large, large[:1], large[-1:]):
        with pytest.raises(BadInput, match="held back until"):
            check_order(directory, some)
    with pytest.raises(BadInput, match="held back until"):
        launch_locally(directory, specs, LocalOptions())
    assert not list(directory.glob("*/spec.json"))  # nothing was begun


def test_with_the_forecast_they_may(held):
    directory, specs, large = held
    write_forecast(directory, [spec for spec in large if not spec.is_trunk])
    check_order(directory, specs)


def test_a_forecast_that_was_edited_or_is_about_others_does_not_count(held):
    directory, specs, large = held
    write_forecast(directory, large, date="2020")
    with pytest.raises(BadInput, match="changed after it was written"):
        check_order(directory, specs)
    write_forecast(directory, large[:-1])
    with pytest.raises(BadInput, match="not about"):
        check_order(directory, specs)
    (directory / HELD_BACK).write_text("[]")
    with pytest.raises(BadInput, match="not a list of held-back runs"):
        check_order(directory, specs)


def test_other_arguments_cannot_hold_back_other_runs_in_the_same_folder(held):
    directory, specs, large = held
    hold_back(directory, specs, forecast.held_back(specs))
    run = SweepDirectory(directory).run(large[1].run_id)
    run.path.mkdir()
    run.environment.write_text("{}")  # it has started
    with pytest.raises(BadInput, match="another --name"):
        hold_back(directory, specs, forecast.held_back(specs)[1:])


def test_the_list_may_change_until_a_run_of_it_starts(held):
    directory, specs, large = held
    hold_back(directory, specs, forecast.held_back(specs)[1:])
    assert len(json.loads((directory / HELD_BACK).read_text())["runs"]) < len(large)


def test_submit_sends_only_the_small_runs_first(capsys, tmp_path):
    flags = ["submit", "forecast", "--backend", "slurm", "--dry-run", "--runs", str(tmp_path)]
    assert launch.main(flags) == 0
    batches = "".join(path.read_text() for path in (tmp_path / "forecast").rglob("*") if path.is_file())
    assert "w48-l4-" in batches
    assert "runs/forecast/w64-l4-" not in batches
    assert "w64-l4-" in (tmp_path / "forecast" / HELD_BACK).read_text()


def test_a_forecast_needs_sizes_to_fit(capsys):
    assert "sizes=2" in refused(capsys, ["plan", "forecast", "--sizes", "2"])


def test_one_command_trains_forecasts_trains_and_scores(capfd, tmp_path):
    corpus = write_corpus(tmp_path / "text", documents=120)
    flags = [
        "run",
        "forecast",
        "--sizes",
        "3",
        "--tokens",
        "8192",
        "12288",
        "20480",
        "40960",
        "--corpus",
        f"text:{corpus}",
    ]
    flags += ["--runs", str(tmp_path / "runs"), "--cache", str(cache_folder(tmp_path))]
    assert launch.main([*flags, "--set", "data.validation_tokens=1024", "--name", "forecast"]) == 0
    folder = tmp_path / "runs" / "forecast"
    written = json.loads(SweepDirectory(folder).forecast.read_text())
    started = [json.loads(path.read_text())["started"] for path in folder.glob("w48-*/env.json")]
    earlier = [json.loads(path.read_text())["started"] for path in folder.glob("w32-*/env.json")]
    assert len(started) == 5
    assert max(earlier) < written["date"] < min(started)
    assert written["input"]["rows"] == 8
    score = json.loads((folder / "forecast" / "score.json").read_text())
    assert score["made_before"] is True
    assert score["run"] == written["run"]
    assert "Forecast, written before its runs started" in (folder / "report" / "report.md").read_text()
    assert (folder / "report" / "forecast.png").exists()
