"""Tables as people have them, each with what is right for it; no warning of NumPy reaches the user."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.emergence import command as emergence_command
from analysis.fit import command as fit_command
from analysis.forecast import predict as forecast_command
from analysis.forecast import score as score_command
from analysis.isoflop import command as isoflop_command
from analysis.learning_rate import main as learning_rate_main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error")]

INPUTS = Path(__file__).parent / "inputs"
TRUE_A = 0.30 / 0.64
MAINS = {
    "fit": fit_command.main,
    "isoflop": isoflop_command.main,
    "emergence": emergence_command.main,
    "forecast": forecast_command.main,
    "score": score_command.main,
    "learning_rate": learning_rate_main,
}


@pytest.fixture
def result(tmp_path, capsys):
    """Runs a command on an input; what it writes, with what it prints under "printed"."""

    def run(command, *arguments, out="out.json"):
        target = tmp_path / out
        first = str(INPUTS / arguments[0]) if (INPUTS / arguments[0]).is_file() else arguments[0]
        MAINS[command]([first, *arguments[1:], "--out", str(target)])
        return {**json.loads(target.read_text()), "printed": capsys.readouterr().out}

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a command that must refuse; its one line."""

    def run(command, *arguments):
        first = str(INPUTS / arguments[0]) if (INPUTS / arguments[0]).is_file() else arguments[0]
        with pytest.raises(SystemExit) as stop:
            MAINS[command]([first, *arguments[1:], "--out", str(tmp_path / "refused.json")])
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_checkpoints_of_a_run_are_clustered_and_that_is_said(result):
    fit = result("fit", "checkpoints_with_run.csv")
    alone = result("fit", "checkpoints_with_run.csv", "--cluster", "none")
    assert any("12 rows share a run" in line and "8 runs" in line for line in fit["warnings"])
    assert fit["standard_errors"]["alpha"] > 0.03
    assert fit["intervals"]["alpha"][0] < 0.34 < fit["intervals"]["alpha"][1]
    assert fit["parameters"] == alone["parameters"]
    # what a prediction is made of has the same errors
    spread = np.std(fit["draws"], axis=0) / np.std(alone["draws"], axis=0)
    assert spread[3] > 1.3


def test_checkpoints_without_a_run_are_asked_about(result):
    fit = result("fit", "checkpoints_without_run.csv")
    assert any("residuals within one size are correlated" in line for line in fit["warnings"])
    of_sizes = result("fit", "checkpoints_without_run.csv", "--cluster", "params")
    assert of_sizes["standard_errors"]["alpha"] > 0.03
    assert not any("are correlated" in line for line in of_sizes["warnings"])


def test_a_bad_row_of_a_budget_is_named_and_held_apart(result):
    clean = result("isoflop", "isoflop_clean.csv", "--bootstrap", "1000")
    assert clean["held_apart"] == []
    width = np.ptp(clean["intervals"]["a_opt"])
    found = []
    for resamples in ("100", "400", "1000", "4000"):
        bad = result("isoflop", "isoflop_one_undertrained.csv", "--bootstrap", resamples)
        assert abs(bad["derived"]["a_opt"] - TRUE_A) < 0.03
        assert np.ptp(bad["intervals"]["a_opt"]) < 2 * width
        assert [entry["row"] for entry in bad["held_apart"]] == [46]
        assert any(line.startswith("row 46 (3.65e+09 params") for line in bad["warnings"])
        assert all(valley["ok"] for valley in bad["valleys"])
        found.append(bad["intervals"]["a_opt"])
    assert np.ptp(found, axis=0).max() < 0.01
    kept = result("isoflop", "isoflop_one_undertrained.csv", "--keep-all")
    assert kept["held_apart"] == []


def test_spread_over_settings_is_not_noise_of_a_run(result):
    fit = result("fit", "lr_batch_grid.csv")
    (warning,) = [line for line in fit["warnings"] if "differ in lr, bs" in line]
    assert "--best-of params tokens" in warning
    best = result("fit", "lr_batch_grid.csv", "--best-of", "params", "tokens")
    assert best["n"] == 12
    assert best["best_of"] == ["params", "tokens"]
    assert best["parameters"]["alpha"] == pytest.approx(0.34, abs=0.002)
    assert best["parameters"]["E"] == pytest.approx(1.7, abs=0.01)


def test_the_best_learning_rate_of_a_table(result):
    found = result("learning_rate", "lr_batch_grid.csv")
    assert len(found["groups"]) == 60
    assert all(0.0003 < group["best"] < 0.004 and group["bracketed"] for group in found["groups"])


def test_a_law_of_flops_forecasts_at_flops(result, refused, tmp_path):
    fit = result("fit", "flops_only.csv", "--law", "power_flops_floor", out="fit.json")
    p = fit["parameters"]
    made = result("forecast", str(tmp_path / "fit.json"), "--flops", "1e22", out="forecast.json")
    assert made["prediction"] == pytest.approx(p["E"] + p["A"] / 1e22 ** p["alpha"], rel=1e-9)
    assert made["inputs"] == {"flops": 1e22}
    assert made["params"] is None
    assert made["extrapolation"] == {"flops": pytest.approx(100.0)}
    # of a run that lands in a table of FLOPs and losses
    landed = tmp_path / "landed.csv"
    landed.write_text(f"flops,loss\n1e21,1.9\n1e22,{made['prediction']}\n")
    assert result("score", str(tmp_path / "forecast.json"), str(landed))["inside"]
    assert "law power_flops_floor reads flops: --flops missing" in refused(
        "forecast", str(tmp_path / "fit.json")
    )
    of_both = result("forecast", str(tmp_path / "fit.json"), "--params", "1e10", "--tokens", "1e11")
    assert of_both["prediction"] == pytest.approx(p["E"] + p["A"] / 6e21 ** p["alpha"], rel=1e-9)
    result("fit", "semicolon.csv", out="two.json")
    line = refused("forecast", str(tmp_path / "two.json"), "--flops", "1e22")
    assert "--params and --tokens missing" in line
    split = result("forecast", str(tmp_path / "two.json"), "--flops", "6e21", "--params", "1e10")
    both = result("forecast", str(tmp_path / "two.json"), "--tokens", "1e11", "--params", "1e10")
    assert split["prediction"] == pytest.approx(both["prediction"], rel=1e-12)


def test_names_that_were_given_once_are_kept(result, refused, tmp_path):
    assert "--column loss=L --column params=N --column tokens=D" in refused("fit", "named_N_D_L.csv")
    names = [word for pair in ("params=N", "tokens=D", "loss=L") for word in ("--column", pair)]
    fit = result("fit", "named_N_D_L.csv", *names, out="fit.json")
    assert fit["columns"] == {"params": "N", "tokens": "D", "loss": "L"}
    assert fit["parameters"]["alpha"] == pytest.approx(0.34, abs=0.02)
    made = result(
        "forecast", str(tmp_path / "fit.json"), "--params", "1e9", "--tokens", "8e10", out="forecast.json"
    )
    assert made["columns"] == fit["columns"]
    assert made["extrapolation"]["params"] == pytest.approx(1.0)
    scored = result("score", str(tmp_path / "forecast.json"), str(INPUTS / "named_N_D_L.csv"))
    assert scored["run"] == "row 25"
    # and a table with our own names is read with those
    assert result("score", str(tmp_path / "forecast.json"), str(INPUTS / "semicolon.csv"))["run"] == "row 25"
    valleys = result("isoflop", "isoflop_clean.csv", "--column", "flops=flops", "--bootstrap", "0")
    assert valleys["columns"] == {"flops": "flops"}


def test_a_crashed_run_is_left_out_where_that_is_asked(result, refused, tmp_path):
    line = refused("fit", "crashed_run.csv")
    assert "row 8, column loss: is missing" in line
    assert "--drop-missing" in line
    fit = result("fit", "crashed_run.csv", "--drop-missing", out="fit.json")
    assert fit["n"] == 24
    assert "1 of 25 rows left out by --drop-missing (row 8: loss is empty)" in fit["warnings"]
    made = result(
        "forecast", str(tmp_path / "fit.json"), "--params", "1e9", "--tokens", "8e10", out="forecast.json"
    )
    assert made["extrapolation"]["tokens"] == pytest.approx(1.0)
    assert result("score", str(tmp_path / "forecast.json"), str(INPUTS / "crashed_run.csv"))["run"] == "row 25"


@pytest.mark.parametrize("name", ["semicolon.csv", "thousands.csv", "two_unnamed_index_columns.csv"])
def test_other_forms_give_the_same_numbers(result, name):
    fit = result("fit", name)
    assert fit["n"] == 25
    assert fit["parameters"]["E"] == pytest.approx(1.71903, rel=1e-4)  # of the same rows in plain form
    assert fit["parameters"]["alpha"] == pytest.approx(0.342768, rel=1e-4)
    assert fit["parameters"]["beta"] == pytest.approx(0.302533, rel=1e-4)


def test_a_loss_below_zero_has_a_floor_of_either_sign(result, refused, tmp_path):
    assert "--space linear" in refused("fit", "negative_loss.csv")
    fit = result("fit", "negative_loss.csv", "--space", "linear", "--robust", "l2", out="fit.json")
    assert fit["parameters"]["E"] == pytest.approx(1.7 - 6, abs=0.05)
    assert fit["parameters"]["alpha"] == pytest.approx(0.34, abs=0.02)
    assert fit["intervals"]["E"][0] < 1.7 - 6 < fit["intervals"]["E"][1]
    assert fit["identified"]["E"]
    made = result(
        "forecast", str(tmp_path / "fit.json"), "--params", "1e9", "--tokens", "8e10", out="forecast.json"
    )
    assert made["prediction"] == pytest.approx(2.53526 - 6, abs=0.02)
    assert made["interval"][0] < made["prediction"] < made["interval"][1] < 0
    assert result("score", str(tmp_path / "forecast.json"), str(INPUTS / "negative_loss.csv"))["inside"]
    line = refused("fit", "negative_loss.csv", "--space", "linear", "--law", "power_params")
    assert "has no floor" in line


def test_a_perplexity_is_asked_about(result):
    found = result("fit", "perplexity_as_loss.csv")
    assert any("is this a perplexity? its logarithm is a loss" in line for line in found["warnings"])
    assert "is this a perplexity?" in found["printed"]


def test_what_rises_is_said_in_our_words(result):
    fit = result("fit", "rising_percent.csv")
    assert any("loss rises with params" in line for line in fit["warnings"])
    assert any("loss rises with tokens" in line for line in fit["warnings"])


def test_accuracies_are_counted(result, refused):
    judged = result("emergence", "tasks_accuracy_not_counts.csv", "--chance", "0.25", "--bootstrap", "199")
    # 10% to 90% of this rise take 1.3 decades of the 3: late, but not sharp within half of them
    assert judged["tasks"][0]["verdict"] == "delayed onset"
    assert judged["tasks"][0]["presence"]["accuracy"] == pytest.approx(0.66, abs=0.5 / 2376)
    assert any("acc times n was taken, rounded" in line for line in judged["warnings"])
    asked = result("emergence", "tasks_accuracy_not_counts.csv", "--bootstrap", "199")
    assert any("no column chance" in line and "--chance 0.25?" in line for line in asked["warnings"])
    assert "warning: " in asked["printed"]


def test_units_of_a_task_table_are_asked_about(result):
    judged = result("emergence", "tasks_in_billions.csv", "--bootstrap", "199")
    assert any(line.startswith("params is at most 10: is it in billions?") for line in judged["warnings"])


def test_accuracy_that_falls_is_inverse(result):
    judged = result("emergence", "tasks_inverse.csv", "--bootstrap", "199")
    (task,) = judged["tasks"]
    assert task["verdict"] == "inverse"
    assert task["q"]["inverse"] < 1e-3
    assert "falls with params, beyond noise: from 0.52" in task["sentence"]


def test_a_chance_of_choices_is_not_that_of_an_exact_match(result, tmp_path):
    table = tmp_path / "exact.csv"
    rows = [f"t,{10 ** (6 + k)},{score},500,0.5" for k, score in enumerate((0.0, 0.0, 0.01, 0.05, 0.2, 0.45))]
    table.write_text("\n".join(["task,params,exact_match,n,chance", *rows]) + "\n")
    judged = result("emergence", str(table), "--bootstrap", "199")
    assert judged["tasks"][0]["verdict"] not in ("none", "inverse")  # 0.45 is above what no guess hits
    assert any("chance 0.5 is that of a choice" in line for line in judged["warnings"])
    table.write_text(table.read_text().replace("exact_match", "accuracy"))
    assert result("emergence", str(table), "--bootstrap", "199")["tasks"][0]["verdict"] == "none"


@pytest.mark.parametrize("path", sorted(INPUTS.glob("*.csv")), ids=lambda path: path.stem)
def test_no_command_shows_a_traceback_or_a_warning_of_numpy(path, tmp_path, capsys):
    for command, extra in (("fit", ["--law", "power_params_floor"]), ("isoflop", []), ("learning_rate", [])):
        status = 0
        try:
            MAINS[command]([str(path), *extra, "--out", str(tmp_path / "out.json")])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr().err
        assert (status, len(said.splitlines())) in ((0, 0), (2, 1))
