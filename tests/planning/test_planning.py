"""`python launch.py plan` and `bench EXPERIMENT`: what they print, what planning itself costs, what they refuse."""

import dataclasses
import json
import re

import pytest

import launch
import model.ledger
from experiments.command import AskedSweep
from experiments.scaling import ScalingRule
from experiments.spec import Sweep
from planning import throughput
from planning.flags import PlanFlags
from planning.plan import show
from planning.throughput import Measurement
from tests.support.small import write_corpus
from tests.test_launch import refused
from training import cost

RULE = ScalingRule()


def write_measurements(path, rate=10_000.0, widths=(16, 64)):
    rows = [
        Measurement(
            device=throughput.device_here(), threads=1, workers=2, model=RULE.shape(width, 2), sequence_length=128,
            batch_tokens=1024, tokens_per_second=rate, compile_seconds=5.0, load_seconds=1.0, run_seconds=0.5,
            start_seconds=2.0,
        )
        for width in widths
    ]  # fmt: skip
    throughput.write_rows(path, rows)


def plan(capsys, tmp_path, *more: str) -> str:
    arguments = ["plan", "quickstart", "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path)]
    assert launch.main([*arguments, *more]) == 0
    return capsys.readouterr().out


def test_a_plan_without_measurements_says_which_command_makes_them(capsys, tmp_path):
    text = plan(capsys, tmp_path)
    assert "time unknown" in text
    assert "python launch.py bench quickstart" in text


def test_every_number_of_a_plan(capsys, tmp_path):
    write_measurements(tmp_path / "throughput.json")
    flags = ("--sizes", "2", "--tokens", "327680", "--no-trunk", "--workers", "1", "--price", "3.6")
    value = json.loads(plan(capsys, tmp_path, *flags, "--json"))
    small, large = value["runs"]
    assert small["params_by_convention"] == {
        "total": 13_144, "non_embedding": 7_000, "non_embedding_plus_head": 13_144,
    }  # fmt: skip
    assert small["batch_tokens"] == 1024
    # 327,680 tokens at 10,000 a second, half a second beside, three more evaluations of a third of the cost
    assert small["seconds"] == pytest.approx(32.768 + 0.5 + 3 * 65_536 / 30_000)
    assert small["cost"] == pytest.approx(small["seconds"] * 3.6 / 3600)
    assert [row["basis"] for row in value["shapes"]] == ["measured", "interpolated"]
    totals = value["totals"]
    assert totals["wall_seconds"] == pytest.approx(2 + 2 * 5 + small["seconds"] + large["seconds"])
    assert totals["flops"] == pytest.approx(small["flops"] + large["flops"])
    assert value["shapes"][0]["memory_bytes"] > 16 * 13_144


def test_the_table_fits_a_terminal_and_calls_an_extrapolation_one(capsys, tmp_path):
    write_measurements(tmp_path / "throughput.json", widths=(16, 32))
    text = plan(capsys, tmp_path, "--price", "2")
    assert max(map(len, text.splitlines())) <= 120
    assert re.search(r"80x4 .*extrapolated", text)
    assert "extrapolated, not measured: the speed of 48x2" in text
    assert "wall time" in text and "cost" in text


def test_what_a_sweep_would_teach(capsys, tmp_path):
    wide = json.loads(plan(capsys, tmp_path, "--json", "--target", "1e16"))["expected"]
    assert wide["target_flops"] == 1e16
    few = json.loads(plan(capsys, tmp_path, "--json", "--target", "1e16", "--sizes", "3"))["expected"]
    noisy = json.loads(plan(capsys, tmp_path, "--json", "--target", "1e16", "--noise", "0.01"))["expected"]
    for name in ("forecast", "alpha", "beta", "params_opt"):
        assert noisy["half_width_90"][name] == pytest.approx(2 * wide["half_width_90"][name])
    assert few["half_width_90"]["alpha"] > wide["half_width_90"]["alpha"]
    assert "do not determine a law" in plan(capsys, tmp_path, "--sizes", "1")
    assert "expected 90% intervals: alpha ±" in plan(capsys, tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--price", "-1"], ["--price=-1"]),
        (["--target", "0"], ["--target=0"]),
        (["--target", "1e9"], ["--target=1e+09", "largest run"]),
        (["--noise", "-1"], ["--noise=-1"]),
        (["--prior", "/no/fit.json"], ["--prior=/no/fit.json"]),
        (["--price", "1"], ["--price=1", "no throughput table", "bench"]),
        (["--throughput", "/no/such.json"], ["/no/such.json", "bench"]),
        (["--device", "abacus"], ["--device=abacus", "no device"]),
        (["--workers", "0"], ["--workers=0"]),
        (["--cores-per-worker", "0"], ["--cores-per-worker=0"]),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, more, words):
    line = refused(capsys, ["plan", "quickstart", "--cache", str(tmp_path), *more])
    for word in words:
        assert word in line


def test_bench_refuses_no_time_at_all(capsys, tmp_path):
    assert "--seconds=0" in refused(capsys, ["bench", "quickstart", "--seconds", "0", "--cache", str(tmp_path)])


def test_ten_thousand_runs_count_each_shape_once(capsys, monkeypatch, tmp_path):
    """The time of a plan is in the shapes, not in the runs: `make test-scale` measures the seconds."""
    shapes = [RULE.run(0, 65_536, model=RULE.shape(16 * width, 2)) for width in (1, 2, 3, 4, 6)]
    sweep = Sweep(dataclasses.replace(spec, seed=seed) for spec in shapes for seed in range(400))
    write_measurements(tmp_path / "throughput.json")
    counted = []
    real = model.ledger.ledger

    def count(config, length):
        counted.append(config)
        return real(config, length)

    for module in (cost, throughput):
        monkeypatch.setattr(module, "ledger", count)
    cost.counted.cache_clear()
    show(AskedSweep("many", sweep, (), tmp_path, tmp_path), PlanFlags())
    assert "and 1800 more runs" in capsys.readouterr().out
    assert len(counted) < 10 * len(shapes)


def test_bench_of_an_experiment_measures_its_shapes_and_plan_reads_them(capsys, tmp_path):
    corpus = write_corpus(tmp_path / "text", documents=60)
    flags = ["quickstart", "--sizes", "1", "--tokens", "65536", "--corpus", f"text:{corpus}"]
    flags += ["--cache", str(tmp_path / "cache"), "--set", "data.validation_tokens=1024"]
    assert launch.main(["bench", *flags, "--seconds", "0.05"]) == 0
    assert "1 shapes measured" in capsys.readouterr().out
    (row,) = throughput.read_table(tmp_path / "cache" / "throughput.json")
    assert row.threads == 1
    assert row.tokens_per_second > 100
    assert row.compile_seconds > 0.3
    assert row.start_seconds > 0.5
    assert launch.main(["plan", *flags, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["totals"]["wall_seconds"] > row.start_seconds
    assert {shape["basis"] for shape in value["shapes"]} == {"measured"}
