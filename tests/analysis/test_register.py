"""A forecast is written before its runs and names what it was made from; a report tells when any of it is not so."""

import json
from pathlib import Path

import pytest

from analysis.forecast import register
from analysis.logs.load import load_sweep
from analysis.report.sections.forecast import registered_forecast
from core.errors import BadInput
from core.rundir import HELD_BACK
from tests.support.synthetic_sweep import params_of, run_name, truth_loss, write_run, write_sweep

LARGE, TOKENS = 96, (1_048_576, 4_194_304)
LATER = {"started": "2100-01-01T00:00:00+00:00"}


def small_sweep(folder) -> Path:
    """Four sizes on four data sizes, and two runs of a fifth that are held back."""
    sweep = write_sweep(folder, widths=(16, 32, 48, 64))
    names = [run_name(LARGE, tokens, 0) for tokens in TOKENS]
    held = [
        {"run": name, "params": params_of(LARGE), "tokens": tokens}
        for name, tokens in zip(names, TOKENS, strict=True)
    ]
    (sweep / HELD_BACK).write_text(json.dumps({"runs": held, "trunks": []}))
    return sweep


@pytest.fixture
def sweep(tmp_path) -> Path:
    return small_sweep(tmp_path)


def land(sweep: Path, factor: float = 1.0, env=LATER) -> None:
    for tokens in TOKENS:
        write_run(sweep, LARGE, tokens, 0, factor * float(truth_loss(params_of(LARGE), tokens)), env=env)


def registered(sweep: Path, **options) -> dict:
    return register.register(sweep, bootstrap=0, law="chinchilla", commit="c0ffee", **options)


def test_a_forecast_that_came_first_and_held_is_said_to_have(sweep):
    value = registered(sweep)
    assert value["commit"] == "c0ffee"
    assert value["tokens"] == max(TOKENS)
    assert [one["run"] for one in value["runs"]] == [run_name(LARGE, tokens, 0) for tokens in TOKENS]
    before = registered_forecast(load_sweep(sweep))
    assert before is not None
    assert "none of its runs has landed" in before.sentence
    land(sweep)
    found = registered_forecast(load_sweep(sweep))
    assert found is not None
    assert found.honest
    assert not found.faults
    assert [one.inside for one in found.predictions] == [True, True]
    assert "inside its 90% interval" in found.sentence
    assert found.predictions[-1].measured == pytest.approx(float(truth_loss(params_of(LARGE), max(TOKENS))))


def test_a_miss_is_said_plainly(sweep):
    registered(sweep)
    land(sweep, factor=1.2)
    found = registered_forecast(load_sweep(sweep))
    assert found is not None
    assert found.honest
    assert "OUTSIDE its 90% interval" in found.sentence
    assert "0 of 2 forecast runs inside" in found.sentence


def test_the_larger_runs_are_not_among_those_that_are_fitted(sweep):
    registered(sweep)
    table = (sweep / "forecast" / "table.csv").read_text()
    assert len(table.splitlines()) == 1 + 16
    assert f"w{LARGE}-" not in table


def test_a_forecast_after_the_start_is_refused_and_if_made_anyway_called_so(sweep):
    land(sweep)
    with pytest.raises(BadInput, match="has started already"):
        registered(sweep)
    for tokens in TOKENS:
        (sweep / run_name(LARGE, tokens, 0) / "env.json").rename(sweep / f"{tokens}.env")
    registered(sweep)
    for tokens in TOKENS:
        early = {"started": "2020-01-01T00:00:00+00:00"}
        (sweep / run_name(LARGE, tokens, 0) / "env.json").write_text(json.dumps(early))
    found = registered_forecast(load_sweep(sweep))
    assert found is not None
    assert not found.honest
    assert "Not a valid forecast" in found.sentence
    assert any("AFTER" in fault for fault in found.faults)


def test_a_trunk_that_started_before_the_forecast_spoils_it(sweep):
    registered(sweep)
    land(sweep)
    trunk = write_run(
        sweep, LARGE, 2_097_152, 0, 2.0, schedule="constant", env={"started": "2020-01-01T00:00:00Z"}
    )
    path = sweep / run_name(LARGE, TOKENS[1], 0) / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parent": trunk.name}))
    found = registered_forecast(load_sweep(sweep))
    assert found is not None
    assert not found.honest


def edit_table(sweep):
    path = sweep / "forecast" / "table.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))


def edit_fit(sweep):
    path = sweep / "forecast" / "fit.json"
    path.write_text(path.read_text() + " ")


def edit_forecast(sweep):
    path = sweep / "forecast" / "forecast.json"
    path.write_text(path.read_text().replace('"level": 0.9', '"level": 0.99'))


def edit_logs(sweep):
    path = sweep / run_name(16, 524_288, 0) / "result.json"
    value = json.loads(path.read_text())
    value["evals"]["val/loss"] *= 1.01
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (edit_table, "the table that was forecast from does not match"),
        (edit_fit, "the fit that was forecast from does not match"),
        (edit_forecast, "changed after it was written"),
        (edit_logs, f"the logs of {run_name(16, 524_288, 0)} are not those"),
        (lambda sweep: (sweep / "forecast" / "table.csv").unlink(), "does not match the hash"),
        (lambda sweep: (sweep / "forecast" / "forecast.json").write_text("{torn"), "not JSON"),
    ],
)
def test_whatever_was_changed_afterwards_is_named(sweep, damage, words):
    registered(sweep)
    land(sweep)
    damage(sweep)
    found = registered_forecast(load_sweep(sweep))
    assert found is not None
    assert not found.honest
    assert any(words in fault for fault in found.faults), found.faults


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{torn", "not JSON"),
        ("{}", "names no held-back run"),
        ('{"runs": [{"run": "x"}]}', "names no held-back run"),
    ],
)
def test_bad_lists_are_refused_in_one_line(sweep, capsys, content, words):
    (sweep / HELD_BACK).unlink()
    if content is not None:
        (sweep / HELD_BACK).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        register.main([str(sweep)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_too_few_runs_to_choose_a_law_are_refused(sweep):
    for path in list(sweep.glob("w48*")) + list(sweep.glob("w64*")) + list(sweep.glob("w32-l2-t524288*")):
        path.rename(path.parent.parent / path.name)
    with pytest.raises(BadInput, match="7 small runs are too few"):
        register.register(sweep, bootstrap=0)


def test_best_takes_the_law_that_describes_the_small_runs(sweep):
    value = register.register(sweep, bootstrap=0)
    assert value["law"] == "chinchilla"  # which made these runs
    assert [one["law"] for one in value["laws"]] == ["chinchilla", "kaplan"]
    assert value["laws"][1]["aicc_above_best"] > 0
