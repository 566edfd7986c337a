"""The table of measured speed: what it gives back, what it says of shapes between and beyond, what it refuses."""

import dataclasses
import json
import platform

import pytest

from core.errors import BadInput
from experiments.scaling import ScalingRule
from model.config import ModelConfig
from planning import throughput
from planning.throughput import Measurement, Throughput
from tests.support.run_records import a_result, an_attempt, an_environment

RULE = ScalingRule()
SMALL, MIDDLE, LARGE = (RULE.shape(width, 2) for width in (16, 32, 64))


def row(model: ModelConfig, rate: float, **fields) -> Measurement:
    plain = {"device": "cpu: x", "threads": 1, "workers": 2, "sequence_length": 128, "batch_tokens": 1024}
    return Measurement(**{**plain, "model": model, "tokens_per_second": rate, **fields})


def run(model: ModelConfig, tokens: int = 1_024_000, **fields):
    return dataclasses.replace(RULE.run(0, tokens, model=model), **fields)


def test_the_table_keeps_the_last_measurement_of_each_shape(tmp_path):
    path = tmp_path / "throughput.json"
    assert throughput.read_table(path) == []
    assert throughput.write_rows(path, [row(SMALL, 1000.0), row(LARGE, 10.0)]) == 2
    assert throughput.write_rows(path, [row(SMALL, 2000.0, peak_bytes=5)]) == 2
    assert {one.model: one.tokens_per_second for one in throughput.read_table(path)} == {
        SMALL: 2000.0, LARGE: 10.0,
    }  # fmt: skip
    stored = json.loads(path.read_text())["rows"][0]
    assert stored["params"]["non_embedding_plus_head"] == 10_896
    assert stored["peak_bytes"] == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{torn", "JSON"),
        ("[]", "not a throughput table"),
        ('{"format": 7, "rows": []}', "format 1"),
        ('{"format": 1, "rows": [{"colour": 1}]}', "row 0: unknown key colour"),
        ('{"format": 1, "rows": [3]}', "row 0"),
        (
            '{"format": 1, "rows": [{"device": "x", "threads": 1, "workers": 1, "model": {}, "sequence_length": 1, '
            '"batch_tokens": 1, "tokens_per_second": -3}]}',
            "tokens_per_second=-3",
        ),
    ],
)
def test_a_damaged_table_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "throughput.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=words) as refusal:
        throughput.read_table(path)
    assert str(path) in str(refusal.value)


def test_a_measured_shape_takes_its_own_numbers():
    measured = row(SMALL, 1000.0, compile_seconds=8.0, load_seconds=1.0, run_seconds=0.5, start_seconds=4.0)
    estimate = Throughput([measured], "cpu: x", 1).estimate(run(SMALL))
    assert estimate is not None
    assert estimate.basis == "measured"
    assert (estimate.first_seconds, estimate.load_seconds, estimate.start_seconds) == (8.0, 1.0, 4.0)
    # 1,024,000 tokens at 1,000 a second, half a second beside it
    assert estimate.seconds(run(SMALL)) == pytest.approx(1024.5)
    # each evaluation more is a forward pass, a third of the cost of training, over the held-out slice
    marked = run(SMALL, evaluation_marks=(102_400, 204_800))
    slice_seconds = marked.data.validation_tokens / 3000.0
    assert estimate.seconds(marked) == pytest.approx(1024.5 + 2 * slice_seconds)


def test_a_shape_between_two_is_interpolated_and_one_beyond_is_called_extrapolated():
    table = Throughput([row(SMALL, 1000.0), row(LARGE, 100.0)], "cpu: x", 1)
    between, beyond = table.estimate(run(MIDDLE)), table.estimate(run(RULE.shape(128, 2)))
    assert between is not None and beyond is not None
    assert between.basis == "interpolated"
    assert 100.0 < between.tokens_per_second < 1000.0
    assert beyond.basis == "extrapolated"
    per_token = [RULE_flops(LARGE), RULE_flops(RULE.shape(128, 2))]
    assert beyond.tokens_per_second == pytest.approx(100.0 * per_token[0] / per_token[1])
    assert "2 measured shapes" in beyond.why
    other_batch = table.estimate(run(SMALL, batch_tokens=2048))
    assert other_batch is not None
    assert other_batch.basis == "extrapolated"
    assert "another" in other_batch.why


def RULE_flops(model: ModelConfig) -> float:
    """6 for each weight of a product, and 6 T for each unit of attention width: the ledger's `exact`, by hand."""
    width, depth, feed_forward = model.width, model.depth, model.resolved_ff_width
    weights = depth * (4 * width * width + 3 * width * feed_forward) + 256 * width
    return 6.0 * weights + 6.0 * depth * width * 128


def test_other_devices_threads_and_dtypes_say_nothing():
    rows = [row(SMALL, 1000.0, device="cpu: y"), row(SMALL, 900.0, threads=2)]
    assert not Throughput(rows, "cpu: x", 1)
    assert Throughput(rows, "cpu: x", 1).estimate(run(SMALL)) is None
    half = dataclasses.replace(SMALL, compute_dtype="bfloat16")
    assert Throughput([row(SMALL, 1000.0)], "cpu: x", 1).estimate(run(half)) is None


def finished(directory, spec, seconds: float, host: str | None = None, **more):
    folder = directory / spec.run_id
    folder.mkdir(parents=True)
    attempt = an_attempt(host=host or platform.node(), **more)
    (folder / "result.json").write_text(json.dumps(a_result(spec.run_id, spec.tokens, train_seconds=seconds)))
    (folder / "env.json").write_text(json.dumps(an_environment(attempt)))


def test_finished_runs_go_before_the_table_where_they_trained_for_long_enough(tmp_path):
    here = throughput.device_here()
    specs = [run(SMALL, seed=seed) for seed in (0, 1)] + [run(LARGE), run(MIDDLE)]
    finished(tmp_path, specs[0], 10.0)
    finished(tmp_path, specs[1], 30.0)
    finished(tmp_path, specs[2], 1.0)  # too short to be believed
    finished(tmp_path, specs[3], 60.0, host="elsewhere")
    (found,) = throughput.from_runs(tmp_path, specs, here)
    assert found.tokens_per_second == pytest.approx(2 * 1_024_000 / 40.0)
    table = Throughput([row(SMALL, 7.0, device=here, run_seconds=0.5)], here, 1, finished=[found])
    estimate = table.estimate(specs[0])
    assert estimate is not None
    assert estimate.tokens_per_second == found.tokens_per_second
    assert estimate.run_seconds == 0.5  # what only bench measures stays the table's
    (tmp_path / specs[0].run_id / "env.json").write_text("{torn")
    (found,) = throughput.from_runs(tmp_path, specs, here)
    assert found.tokens_per_second == pytest.approx(1_024_000 / 30.0)


def test_the_cores_of_a_process_are_one_place_and_several_accelerators_are_not(tmp_path):
    here = throughput.device_here()
    specs = [run(SMALL), run(LARGE)]
    finished(tmp_path, specs[0], 10.0, cpus=[0, 1], devices=2)
    finished(tmp_path, specs[1], 10.0, platform="gpu", device=here, devices=2)
    (found,) = throughput.from_runs(tmp_path, specs, here)
    assert (found.model, found.threads) == (SMALL, 2)


def test_the_rate_of_a_run_in_a_pack_is_not_that_of_a_run_alone(tmp_path):
    here = throughput.device_here()
    specs = [run(SMALL), run(LARGE)]
    finished(tmp_path, specs[0], 10.0, pack=4)
    finished(tmp_path, specs[1], 10.0)
    (found,) = throughput.from_runs(tmp_path, specs, here)
    assert found.model == LARGE
