"""What plan expects rests on the residuals of sweeps that exist; the report says what was expected and what came."""

import json
import re

import numpy as np
import pytest

import launch
from analysis.fit.fit import fit_law
from analysis.logs.load import load_sweep
from analysis.report.command import write_report
from core.rundir import SweepDirectory
from experiments import quickstart
from experiments.command import AskedSweep
from planning.begin import write_expected
from planning.noise import ASSUMED, noise_here, residual_sd
from tests.support.small import cache_folder, launch_command, run_launch, write_corpus
from tests.support.trained_by_law import write_runs

TOKENS = (65_536, 131_072, 262_144, 524_288)


def finished(folder, noise, **arguments):
    return write_runs(folder, quickstart.sweep(tokens=TOKENS, **arguments), noise=noise)


def planned(capsys, tmp_path, *more):
    arguments = ["plan", "quickstart", "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path)]
    assert launch.main([*arguments, *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_the_residual_of_a_sweep_is_that_of_its_fit(noise, tmp_path):
    columns = load_sweep(finished(tmp_path / "sweep", noise, seeds=2)).table().columns
    fitted = fit_law("chinchilla", columns, robust="l2", profile=False)
    assert residual_sd(columns) == pytest.approx(fitted.residual_sd, rel=0.1)


def test_without_a_sweep_a_range_is_shown_with_what_it_assumes(capsys, tmp_path):
    value = json.loads(planned(capsys, tmp_path, "--json"))["expected"]
    assert (value["noise"], value["noise_high"]) == ASSUMED
    assert value["half_width_90_high"]["alpha"] == pytest.approx(4 * value["half_width_90"]["alpha"])
    text = " ".join(planned(capsys, tmp_path).split())
    assert re.search(r"alpha ±0\.\d+ to ±0\.\d+", text)
    assert "within 0.5% to 2% of it (assumed, since no finished sweep here has residuals)" in text


def test_with_a_sweep_of_the_same_corpus_its_noise_is_taken(capsys, tmp_path):
    finished(tmp_path / "runs" / "noisy", 0.03, seeds=2)
    finished(tmp_path / "runs" / "other_text", 0.001, corpus="text:elsewhere")
    (tmp_path / "runs" / "no sweep").mkdir()
    value = json.loads(planned(capsys, tmp_path, "--json"))["expected"]
    assert value["noise"] == value["noise_high"] == pytest.approx(0.03, rel=0.3)
    assert value["noise_from"] == "the residuals of noisy, on the same corpus"
    text = " ".join(planned(capsys, tmp_path).split())
    assert " to ±" not in text
    assert "the residuals of noisy" in text


def test_sweeps_on_other_text_give_a_range(tmp_path):
    for name, noise in (("a", 0.002), ("b", 0.02)):
        finished(tmp_path / name, noise, corpus=f"text:{name}", seeds=2)
    found = noise_here(tmp_path, "pysource")
    assert found.low < 0.005 < 0.015 < found.high
    assert "on other text" in found.source


@pytest.mark.slow
def test_the_report_says_what_was_expected_and_what_came(tmp_path):
    sweep = quickstart.sweep(tokens=TOKENS, seeds=2)
    folder = tmp_path / "runs" / "quickstart"
    asked = AskedSweep("quickstart", sweep, (), folder, tmp_path / "cache")
    write_expected(asked)
    stored = SweepDirectory(folder).read_expected()
    assert stored["runs"] == sorted(spec.run_id for spec in sweep)
    write_runs(folder, sweep, noise=0.02)
    write_expected(asked)  # results are there: what was expected stays as it was
    assert SweepDirectory(folder).read_expected() == stored
    page, said = write_report(folder, bootstrap=0)
    (sentence,) = [one for one in said if one.startswith("Plan expected")]
    fit = json.loads((page.parent / "fit.json").read_text())
    drawn = np.quantile([draw[3] for draw in fit["draws"]], [0.05, 0.95])
    width = float(drawn[1] - drawn[0]) / 2
    least, most = (stored[key]["alpha"] for key in ("half_width_90", "half_width_90_high"))
    assert f"alpha within {least:.3g} to {most:.3g}" in sentence
    assert f"at a noise of {100 * ASSUMED[0]:.2g}% to {100 * ASSUMED[1]:.2g}%" in sentence
    came = re.search(r"these runs give alpha within ([\d.]+)", sentence)
    assert came and float(came[1]) == pytest.approx(width, rel=0.1)


@pytest.mark.slow
def test_run_writes_down_what_it_expects_before_it_trains_and_not_where_it_is_refused(tmp_path):
    corpus, cache = write_corpus(tmp_path / "corpus"), cache_folder(tmp_path)
    words = ("--sizes", "1", "--tokens", "16384", "--no-trunk")
    refused = run_launch(launch_command(corpus, tmp_path / "runs", cache, *words, "--checkpoint-seconds", "0"))
    assert refused.returncode == 2
    assert not (tmp_path / "runs" / "quickstart" / "plan").exists()
    done = run_launch(launch_command(corpus, tmp_path / "runs", cache, *words))
    assert done.returncode == 0, done.stderr
    assert len(SweepDirectory(tmp_path / "runs" / "quickstart").read_expected()["runs"]) == 1
