"""Forecasts: what the fit says, an interval that covers, and a file that cannot be changed unseen."""

import datetime
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.commands import digest_of
from analysis.fit.fit import fit_law
from analysis.forecast import predict as forecast
from core.errors import BadInput
from tests.support.synthetic_sweep import TRUTH, truth_loss


def run(fit_file, tmp_path, *arguments):
    out = tmp_path / "forecast.json"
    forecast.main([str(fit_file), "--params", "5e5", "--tokens", "8e6", "--out", str(out), *arguments])
    return json.loads(out.read_text())


def test_prediction_is_the_law_at_the_run(fit_file, tmp_path, capsys):
    written = run(fit_file, tmp_path)
    p = json.loads(fit_file.read_text())["parameters"]
    by_hand = p["E"] + p["A"] * 5e5 ** -p["alpha"] + p["B"] * 8e6 ** -p["beta"]
    assert written["prediction"] == pytest.approx(by_hand, rel=1e-12)
    low, high = written["interval"]
    assert low < written["prediction"] < high
    assert low < truth_loss(5e5, 8e6) < high
    assert written["level"] == 0.9
    assert written["law"] == "chinchilla"
    assert written["fit"]["sha256"] == hashlib.sha256(fit_file.read_bytes()).hexdigest()
    assert written["input"] == json.loads(fit_file.read_text())["input"]
    made = datetime.datetime.fromisoformat(written["date"])
    assert abs((datetime.datetime.now(datetime.UTC) - made).total_seconds()) < 60
    assert "90% interval" in capsys.readouterr().out


def test_distance_beyond_the_fitted_runs_is_told(fit_file, tmp_path):
    near = run(fit_file, tmp_path)
    assert near["extrapolation"]["tokens"] == pytest.approx(8e6 / 4_194_304)
    assert not any("far beyond" in line for line in near["warnings"])
    far = run(fit_file, tmp_path, "--params", "1e9", "--tokens", "2e10")
    assert any("far beyond the fitted runs" in line for line in far["warnings"])


def test_an_input_that_changed_or_went_is_told(fit_file, tmp_path):
    value = json.loads(fit_file.read_text())
    fit_file.write_text(json.dumps({**value, "input": {**value["input"], "sha256": "0" * 64}}))
    changed = run(fit_file, tmp_path)
    assert changed["extrapolation"] is None
    assert any("has changed since the fit" in line for line in changed["warnings"])
    fit_file.write_text(json.dumps({**value, "input": {**value["input"], "path": "absent.csv"}}))
    assert any("is not there any more" in line for line in run(fit_file, tmp_path)["warnings"])


def test_wider_level_wider_interval(fit_file, tmp_path):
    (low, high), (lower, higher) = (
        run(fit_file, tmp_path, "--level", level)["interval"] for level in ("0.5", "0.95")
    )
    assert lower < low < high < higher


def test_intervals_cover_runs_to_come():
    # 60 simulated tables; the run to come has three times the largest size, and its own noise.
    generator = np.random.default_rng(0)
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e4, 3e5, 5), np.geomspace(5e5, 8e6, 5)))
    start = np.array([[TRUTH[name] for name in ("E", "A", "B", "alpha", "beta")]])
    hits = 0
    for seed in range(60):
        loss = truth_loss(n, d) * np.exp(0.003 * generator.normal(size=n.size))
        columns = {"params": n, "tokens": d, "loss": loss}
        fit = fit_law("chinchilla", columns, starts=start, profile=False, seed=seed).to_json()
        made = forecast.forecast(fit, 9e5, 8e6, 0.9)
        landed = truth_loss(9e5, 8e6) * np.exp(0.003 * generator.normal())
        hits += made["interval"][0] <= landed <= made["interval"][1]
    # Binomial: 54 expected of 60, standard deviation 2.3.
    assert hits >= 47


def test_digest_sees_every_edit(fit_file, tmp_path):
    written = run(fit_file, tmp_path)
    assert digest_of(written) == written["digest"]
    for key in written:
        if key != "digest":
            assert digest_of({**written, key: "edited"}) != written["digest"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--params", "-1"], "--params -1: must be positive"),
        (["--tokens", "0"], "--tokens 0: must be positive"),
        (["--tokens", "nan"], "--tokens nan: must be positive"),
        (["--params", "many"], "argument --params: invalid float value: 'many'"),
        (["--level", "90"], "--level 90: must be between 0 and 1"),
        (["--input", "unique_tokens"], "--input unique_tokens: must be NAME=VALUE"),
        (["--out", "/dev/null/f.json"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(fit_file, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        run(fit_file, tmp_path, *arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"law": "chinchilla"}', '{"law": "astrology"}', "\x00"])
def test_what_is_no_fit_is_refused(tmp_path, capsys, content):
    path = tmp_path / "fit.json"
    path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        run(path, tmp_path)
    assert stopped.value.code == 2
    assert "fit.json" in capsys.readouterr().err


def test_a_missing_fit_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "absent.json", tmp_path)
    assert "no such file" in capsys.readouterr().err


@settings(max_examples=40, deadline=None)
@given(params=st.floats(allow_nan=True), tokens=st.floats(allow_nan=True), level=st.floats(-1, 2))
def test_any_run_is_forecast_or_refused(fitted, params, tokens, level):
    stored = fitted.to_json()
    refused = None
    with np.errstate(all="ignore"):
        try:
            made = forecast.forecast(stored, params, tokens, level)
        except BadInput as error:
            refused = str(error)
    if refused is None:
        assert np.isfinite([made["prediction"], *made["interval"]]).all()
        json.dumps(made, allow_nan=False)
    else:
        assert "\n" not in refused
