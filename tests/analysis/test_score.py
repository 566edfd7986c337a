"""Scores: forecast and run side by side, honest about when each was made."""

import json
import shutil

import pytest

from analysis.commands import digest_of
from analysis.forecast import score
from analysis.forecast.score import tally_of
from core.errors import BadInput
from tests.support.synthetic_sweep import params_of, truth_loss, write_run

N, D = params_of(128), 8_388_608


def forecast_file(tmp_path, date="2025-06-01T00:00:00+00:00", name="forecast.json", **changes):
    value = {
        "law": "chinchilla", "params": float(N), "tokens": float(D), "inputs": {}, "prediction": 2.0,
        "interval": [1.9, 2.1], "level": 0.9, "warnings": [], "extrapolation": None,
        "fit": {"path": "fit.json", "sha256": "0" * 64}, "input": None, "date": date, **changes,
    }  # fmt: skip
    value["digest"] = digest_of(value)
    path = tmp_path / name
    path.write_text(json.dumps(value))
    return path


def landed_run(tmp_path, loss=2.05, started="2026-01-02T03:04:05+00:00", width=128, tokens=D):
    return write_run(tmp_path / "later", width, tokens, 0, loss, env={"started": started})


def run(forecast, landed, tmp_path, *arguments):
    out = tmp_path / "score.json"
    score.main([str(forecast), str(landed), "--out", str(out), *arguments])
    return json.loads(out.read_text())


@pytest.mark.parametrize(("loss", "inside"), [(2.05, True), (1.9, True), (2.11, False), (1.89, False)])
def test_inside_or_not_and_by_how_much(tmp_path, loss, inside):
    written = run(forecast_file(tmp_path), landed_run(tmp_path, loss), tmp_path)
    assert written["inside"] is inside
    assert written["error_percent"] == pytest.approx(100 * (loss / 2.0 - 1))
    assert written["observed"] == loss
    assert written["made_before"] is True
    assert written["fit_unchanged"] is None


@pytest.mark.parametrize(
    ("date", "started", "before"),
    [
        ("2026-01-02T03:04:04+00:00", "2026-01-02T03:04:05+00:00", True),
        ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05+00:00", False),
        ("2026-01-02T04:00:00+01:00", "2026-01-02T03:04:05+00:00", True),
        ("2026-01-02T03:00:00", "2026-01-02T03:04:05+00:00", True),
        ("2026-01-01T00:00:00+00:00", None, None),
        ("2026-01-01T00:00:00+00:00", "some day", None),
    ],
)
def test_only_forecasts_made_before_the_run_count(tmp_path, capsys, date, started, before):
    written = run(forecast_file(tmp_path, date), landed_run(tmp_path, started=started), tmp_path)
    assert written["made_before"] is before
    shown = capsys.readouterr().out
    assert f"tally of {1 if before else 0} counted forecasts (1 scored)" in shown


def test_the_tally_grows_and_never_doubles(tmp_path, capsys):
    landed = landed_run(tmp_path)
    run(forecast_file(tmp_path), landed, tmp_path)
    run(forecast_file(tmp_path), landed, tmp_path)
    run(forecast_file(tmp_path, interval=[1.9, 2.01], name="second.json"), landed, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "forecasts.jsonl").read_text().splitlines()]
    assert [row["inside"] for row in rows] == [True, False]
    assert tally_of(rows)["inside"] == 1
    assert tally_of(rows)["expected_inside"] == pytest.approx(1.8)
    assert "tally of 2 counted forecasts (2 scored): 1 inside" in capsys.readouterr().out


def test_a_sweep_and_a_table_give_the_row_that_was_forecast(tmp_path):
    sweep = landed_run(tmp_path).parent
    write_run(sweep, 64, D, 0, 3.0)
    assert run(forecast_file(tmp_path), sweep, tmp_path)["made_before"] is True
    table = tmp_path / "table.csv"
    table.write_text(f"params,tokens,loss\n{N},{D},2.02\n{N},{D * 2},1.95\n")
    written = run(forecast_file(tmp_path), table, tmp_path)
    assert written["observed"] == 2.02
    assert written["made_before"] is None


def test_a_fit_that_is_still_the_same_is_said_so(tmp_path, fit_file):
    import hashlib

    source = {"path": str(fit_file), "sha256": hashlib.sha256(fit_file.read_bytes()).hexdigest()}
    landed = landed_run(tmp_path)
    assert run(forecast_file(tmp_path, fit=source), landed, tmp_path)["fit_unchanged"] is True
    fit_file.write_text("{}")
    assert run(forecast_file(tmp_path, fit=source), landed, tmp_path)["fit_unchanged"] is False


def refusal(tmp_path, capsys, forecast, landed, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(forecast, landed, tmp_path, *arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (tmp_path / "forecasts.jsonl").exists()
    return error


def test_an_edited_forecast_is_refused(tmp_path, capsys):
    path = forecast_file(tmp_path)
    path.write_text(path.read_text().replace("2.1]", "2.9]"))
    assert "changed after it was written" in refusal(tmp_path, capsys, path, landed_run(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "it has no params"), ("[1]", "not a JSON object"), ("", "not JSON"), (None, "no such file")],
)
def test_what_is_no_forecast_is_refused(tmp_path, capsys, content, said):
    path = tmp_path / "f.json"
    if content is not None:
        path.write_text(content)
    assert said in refusal(tmp_path, capsys, path, landed_run(tmp_path))


@pytest.mark.parametrize(
    "changes", [{"interval": [1]}, {"interval": None}, {"prediction": "x"}, {"params": -1}, {"fit": None}]
)
def test_a_forecast_with_wrong_values_is_refused(tmp_path, capsys, changes):
    assert "not a forecast.json" in refusal(
        tmp_path, capsys, forecast_file(tmp_path, **changes), landed_run(tmp_path)
    )


def test_runs_that_have_not_landed_or_are_others_are_refused(tmp_path, capsys):
    made = forecast_file(tmp_path)
    other = landed_run(tmp_path, width=64)
    assert "the forecast is about" in refusal(tmp_path, capsys, made, other)
    landed = landed_run(tmp_path)
    (landed / "result.json").unlink()
    assert "has not landed (incomplete" in refusal(tmp_path, capsys, made, landed)
    shutil.rmtree(landed)
    table = tmp_path / "table.csv"
    table.write_text("params,tokens,loss\n1e6,1e7,3\n2e6,1e7,3\n")
    assert "no row within 2%" in refusal(tmp_path, capsys, made, table)
    table.write_text(f"params,tokens,loss\n{N},{D},3\n{N},{D},3.1\n")
    assert "2 rows are within 2%" in refusal(tmp_path, capsys, made, table)
    assert "no such file" in refusal(tmp_path, capsys, made, tmp_path / "absent")
    assert "--tolerance 7: must be" in refusal(tmp_path, capsys, made, table, "--tolerance", "7")


def test_an_unwritable_tally_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(forecast_file(tmp_path), landed_run(tmp_path), tmp_path, "--tally", str(tmp_path))
    assert "cannot be read (Is a directory)" in capsys.readouterr().err


def test_forecast_then_run_then_score(fit_file, tmp_path):
    from analysis.forecast import predict as forecast

    made = tmp_path / "made.json"
    forecast.main([str(fit_file), "--params", str(N), "--tokens", str(D), "--out", str(made)])
    landed = landed_run(tmp_path, float(truth_loss(N, D)), started="2999-01-01T00:00:00+00:00")
    written = run(made, landed, tmp_path)
    assert written["inside"] is True
    assert written["made_before"] is True
    assert written["fit_unchanged"] is True


def test_reading_a_forecast_checks_it(tmp_path):
    value, sha256 = score.read_forecast(forecast_file(tmp_path))
    assert value["prediction"] == 2.0
    assert len(sha256) == 64
    with pytest.raises(BadInput):
        score.read_forecast(tmp_path)
