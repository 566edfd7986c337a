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
from model.kernels import chips
from planning import throughput
from planning.flags import PlanFlags
from planning.plan import show
from planning.printed import print_plan
from planning.throughput import Measurement
from planning.unusual import sentence, unusual
from tests.support.small import write_corpus
from tests.test_launch import refused
from training import cost
from training.spec import OptimConfig, RunSpec

RULE = ScalingRule()


def write_measurements(path, rate=10_000.0, widths=(16, 64), depth=2, head=16):
    rows = [
        Measurement(
            device=throughput.device_here(), threads=1, workers=2, model=RULE.shape(width, depth, head),
            sequence_length=128, batch_tokens=1024, tokens_per_second=rate, compile_seconds=5.0,
            load_seconds=1.0, run_seconds=0.5, start_seconds=2.0,
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
    write_measurements(tmp_path / "throughput.json", widths=(24, 64), depth=1, head=8)
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
    shape = value["shapes"][0]
    assert shape["memory_bytes"] > 16 * 13_144
    # Of 8 texts: keys and values of one layer, of 24 numbers of 4 bytes a position.
    assert shape["decoding_cache_bytes"] == 8 * shape["sequence_length"] * 2 * 24 * 4


def test_the_table_fits_a_terminal_and_calls_an_extrapolation_one(capsys, tmp_path):
    write_measurements(tmp_path / "throughput.json", widths=(16, 32))
    text = plan(capsys, tmp_path, "--price", "2")
    lines = text.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    # One row a shape, with its runs, the range of their tokens and what they cost.
    rows = [line.split() for line in lines if re.match(r"\d+x\d ", line)]
    value = json.loads(plan(capsys, tmp_path, "--price", "2", "--json"))["shapes"]
    assert (
        [row[0] for row in rows]
        == [shape["shape"] for shape in value]
        == ["24x1", "32x1", "32x2", "48x2", "64x2", "80x4"]
    )
    assert (rows[2][1], rows[2][3]) == ("6", "262k-4.19M")
    assert [float(row[-1]) for row in rows] == pytest.approx([shape["cost"] for shape in value], rel=0.01)
    assert re.search(r"80x4 .*~", text)
    every = plan(capsys, tmp_path, "--price", "2", "--every-run")
    assert every.count(" to train") >= 30
    assert "extrapolated, not measured: the speed of 48x2" in text
    assert "wall time" in text and "cost" in text


def test_choices_that_no_column_shows_are_said_where_they_are_unusual(capsys, tmp_path):
    assert "not the default" not in plan(capsys, tmp_path)
    said = " ".join(plan(capsys, tmp_path, "--set", "optim.name=lion", "data.near_duplicates=0.75").split())
    assert "not the default: optim.name lion; data.near_duplicates 0.75" in said
    counts = unusual([RunSpec(), dataclasses.replace(RunSpec(), optim=OptimConfig(name="sgd"))])
    assert counts == {"optim.name": {"adamw": 1, "sgd": 1}}
    assert sentence(counts) == "not the default: optim.name adamw in 1, sgd in 1 runs"


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
        (["--device", "h100"], ["--device=h100", "no device", "--mfu 0.4", "NVIDIA H100"]),
        (["--device", "h10", "--mfu", "0.4"], ["--device=h10", "did you mean h100?", "v5p"]),
        (["--device", "h100", "--mfu", "40"], ["--mfu=40"]),
        (["--device", "h100", "--mfu", "0"], ["--mfu=0"]),
        (["--budget-flops", "1e12"], ["--budget-flops=1e+12", "the 31 runs", "1.366e+13 FLOPs"]),
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

    def count(config, *more):
        counted.append(config)
        return real(config, *more)

    for module in (cost, throughput):
        monkeypatch.setattr(module, "ledger", count)
    cost._counted.cache_clear()
    show(AskedSweep("many", sweep, (), tmp_path, tmp_path), PlanFlags(every_run=True))
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


def test_the_cost_of_a_device_that_is_not_here(capsys, tmp_path):
    """Tokens a second are mfu x peak / FLOPs a token as PaLM counts them: 6 N + 12 L H Q T, here of an H100's
    989 TFLOP/s in bfloat16 (NVIDIA's data sheet) and 494.5 in the TensorFloat-32 of float32."""
    more = (
        "--device",
        "h100",
        "--mfu",
        "0.4",
        "--price",
        "3",
        "--sizes",
        "2",
        "--no-trunk",
        "--tokens",
        "327680",
    )
    for settings, peak in (((), 494.5e12), (("--set", "model.compute_dtype=bfloat16"), 989e12)):
        value = json.loads(plan(capsys, tmp_path, *more, *settings, "--json"))
        assert value["device"] == "NVIDIA H100"
        for shape, run in zip(value["shapes"], value["runs"], strict=True):
            model, length = run["spec"]["model"], run["spec"]["data"]["sequence_length"]
            width, depth = model["width"], model["depth"]
            norms = (2 * depth + 1) * width + 2 * depth * width // model["heads"]
            palm = 6 * (shape["params"]["total"] - norms) + 12 * depth * width * length
            assert shape["tokens_per_second"] == pytest.approx(0.4 * peak / palm, rel=1e-9)
            assert shape["basis"] == "assumed"
            evaluations = 4 * run["spec"]["data"]["validation_tokens"] / 3
            assert run["seconds"] == pytest.approx((327_680 + evaluations) * palm / (0.4 * peak), rel=1e-9)
            assert shape["cost"] == pytest.approx(run["seconds"] * 3 / 3600)
    text = plan(capsys, tmp_path, *more)
    assert "speed assumed: 40% of the peak of NVIDIA H100" in text


def test_a_budget_allows_what_it_covers(capsys, tmp_path):
    flops = json.loads(plan(capsys, tmp_path, "--json"))["totals"]["flops"]
    assert (
        json.loads(plan(capsys, tmp_path, "--json", "--budget-flops", str(flops)))["totals"]["flops"] == flops
    )


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("h100", "NVIDIA H100"), ("H100", "NVIDIA H100"), ("h100-pcie", "NVIDIA H100 PCIe"),
        ("gh200", "NVIDIA GH200 480GB"),
        ("nvidia h100 nvl", "NVIDIA H100 NVL"), ("v5p", "TPU v5p"), ("tpu-v6e", "TPU v6e"), ("tpu7x", "TPU7x"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"), ("h", None), ("", None), ("cpu", None),
    ],
)  # fmt: skip
def test_devices_by_the_names_that_people_type(typed, name):
    assert chips.name_of(typed) == name


def test_the_table_is_narrow_for_the_largest_models_too(capsys):
    shape = {
        "shape": "12288x96", "runs": 24, "to_train": 16, "params": {"non_embedding_plus_head": 174_600_000_000},
        "tokens": [105_000_000_000, 1_450_000_000_000], "flops": 1.23e24, "memory_bytes": 123 * 2**30,
        "memory_basis": "estimated", "tokens_per_second": 12_345.0, "seconds": 1e9, "cost": 1.2e6, "basis": "assumed",
    }  # fmt: skip
    totals = {"shared_tokens": 0, "to_train": 0, "flops": 0.0, "wall_seconds": 0.0, "elsewhere": 0}
    print_plan(
        {"experiment": "x", "runs": [], "shapes": [shape], "every_run": False, "totals": totals, "collapsed": "",
         "directory": "runs/x", "repeated_text": "", "expected": {}, "assumed": None, "unusual": {}}
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:4] == ["12288x96", "16/24", "175B", "105B-1.45T"]
