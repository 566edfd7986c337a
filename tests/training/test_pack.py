"""A run in a pack is the run alone: its numbers, its files, its faults. 50 steps of a model of 5,000 parameters."""

import dataclasses
import io
import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from data.config import DataConfig
from data.tasks.registry import load
from model.config import ModelConfig
from tests.support.compare_runs import assert_equal_runs, rows
from tests.support.small import ROOT, cache_folder, write_corpus
from training import worker
from training.execute import execute
from training.execution import Execution
from training.pack import main, status_of
from training.processes.group import Outcome
from training.program import check_one_shape
from training.records import run_lock
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow

STEP = 256
STEPS = 50
MODEL = ModelConfig(width=16, depth=1, heads=1, kv_heads=1, scan=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[DataConfig, Path]:
    folder = tmp_path_factory.mktemp("pack")
    corpus = write_corpus(folder / "corpus", documents=60)
    data = DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024)
    return data, cache_folder(folder)


def spec(data: DataConfig, *, seed: int = 0, tokens: int = STEP * STEPS, **optim: float) -> RunSpec:
    return RunSpec(
        model=MODEL,
        data=data,
        optim=OptimConfig(**{"learning_rate": 1e-2, "warmup_tokens": 4 * STEP, **optim}),
        seed=seed,
        tokens=tokens,
        batch_tokens=STEP,
        evaluation_marks=(20 * STEP,),
    )


def four(data: DataConfig) -> list[RunSpec]:
    """Runs that differ in seed, learning rate and schedule, weight decay, and which part of the text they read."""
    return [
        spec(data),
        spec(data, seed=1, learning_rate=3e-2, cooldown_tokens=10 * STEP),
        spec(data, weight_decay=1.0, beta2=0.99, clip_norm=0.1, z_loss=1e-3),
        spec(dataclasses.replace(data, unique_tokens=2048)),
    ]


def directories(sweep: Path, specs: list[RunSpec]) -> list[Path]:
    for one in specs:
        write_json(sweep / one.run_id / "spec.json", to_json(one))
    return [sweep / one.run_id for one in specs]


def names(directory: Path) -> set[str]:
    """The files of a run directory, those of Orbax's own bookkeeping and leases left out."""
    found = {
        str(path.relative_to(directory)) for path in directory.rglob("*") if "checkpoints" not in path.parts
    }
    steps = {f"checkpoints/{path.name}" for path in (directory / "checkpoints").iterdir()}
    return {name for name in found if ".lease" not in name} | steps


@pytest.fixture(scope="module")
def alone(place, tmp_path_factory) -> Path:
    """The four runs, each trained alone."""
    data, cache = place
    sweep = tmp_path_factory.mktemp("alone")
    for directory in directories(sweep, four(data)):
        assert execute_alone(directory, Execution(cache_root=cache)).status == 0
    return sweep


@pytest.fixture(scope="module")
def packed(place, tmp_path_factory) -> Path:
    """The four runs as one pack."""
    data, cache = place
    sweep = tmp_path_factory.mktemp("packed")
    outcomes = execute(directories(sweep, four(data)), Execution(cache_root=cache))
    assert {outcome.status for outcome in outcomes.values()} == {0}
    return sweep


def test_a_member_equals_the_same_run_alone(alone, packed):
    for directory in sorted(alone.iterdir()):
        mine = packed / directory.name
        assert len(rows(mine)) == STEPS
        assert_equal_runs(mine, directory, relative=1e-4)
        assert names(mine) == names(directory)


def test_what_is_written_says_that_it_was_a_pack_and_shares_its_seconds(alone, packed):
    for directory in sorted(alone.iterdir()):
        (mine,) = json.loads((packed / directory.name / "env.json").read_text())["attempts"]
        (its,) = json.loads((directory / "env.json").read_text())["attempts"]
        assert mine.pop("pack") == 4
        assert mine.keys() == its.keys()
    clocks = [json.loads(path.read_text()) for path in packed.glob("*/result.json")]
    assert sum(one["train_seconds"] + one["compile_seconds"] for one in clocks) < clocks[0]["wall_seconds"]
    assert len({one["train_seconds"] for one in clocks}) == 1


def test_a_checkpoint_of_a_pack_is_a_checkpoint_of_the_run(place, packed, tmp_path):
    data, cache = place
    (directory,) = directories(tmp_path, four(data)[1:2])
    stop = StopAfter(30)
    execute(directories(tmp_path, four(data)[:2]), Execution(cache_root=cache, stop_requested=stop))
    assert not (directory / "result.json").exists()
    assert execute_alone(directory, Execution(cache_root=cache)).status == 0
    assert min(tokens for tokens, _ in rows(directory)) == STEP
    assert_equal_runs(directory, packed / directory.name, relative=1e-4)


def execute_alone(directory: Path, execution: Execution) -> Outcome:
    return execute([directory], execution)[directory]


class StopAfter:
    """A stop request that comes after so many steps."""

    def __init__(self, steps: int):
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_members_at_different_positions_catch_up_and_complete_ones_are_left_alone(place, packed, tmp_path):
    data, cache = place
    first, second, third, fourth = directories(tmp_path, four(data))
    for directory, steps in ((first, 7), (second, 23)):
        stopped = execute_alone(directory, Execution(cache_root=cache, stop_requested=StopAfter(steps)))
        assert stopped.status == 75
    assert execute_alone(third, Execution(cache_root=cache)).status == 0
    before = (third / "result.json").stat().st_mtime_ns
    outcomes = execute([first, second, third, fourth], Execution(cache_root=cache))
    assert {outcome.status for outcome in outcomes.values()} == {0}
    assert (third / "result.json").stat().st_mtime_ns == before
    assert json.loads((third / "env.json").read_text())["attempts"][-1]["attempt"] == 1
    for directory, steps in ((first, 7), (second, 23), (fourth, 0)):
        assert_equal_runs(directory, packed / directory.name, relative=1e-4)
        attempts = {tokens: row["attempt"] for (tokens, _), row in rows(directory).items()}
        assert [attempts[STEP * step] for step in range(1, STEPS + 1)] == [1] * steps + (
            [2 if steps else 1] * (STEPS - steps)
        )


def test_one_run_that_is_left_is_trained_exactly_as_alone(place, alone, packed, tmp_path):
    data, cache = place
    (directory,) = directories(tmp_path, four(data)[:1])
    complete = packed / four(data)[1].run_id
    outcomes = execute([directory, complete], Execution(cache_root=cache))
    assert {outcomes[directory].status, outcomes[complete].status} == {0}
    assert_equal_runs(directory, alone / directory.name, relative=0)
    assert "pack" not in json.loads((directory / "env.json").read_text())["attempts"][0]


def test_a_run_with_one_step_to_take_is_trained(place, packed, tmp_path):
    data, cache = place
    short = dataclasses.replace(
        spec(data), tokens=STEP, evaluation_marks=(), optim=OptimConfig(warmup_tokens=0)
    )
    (one, last) = directories(tmp_path, [short, four(data)[0]])
    assert execute_alone(one, Execution(cache_root=cache)) == Outcome(0)
    stopped = execute_alone(last, Execution(cache_root=cache, stop_requested=StopAfter(STEPS - 1)))
    assert stopped.status == 75
    assert execute_alone(last, Execution(cache_root=cache)) == Outcome(0)


def test_a_stopped_pack_resumes_to_the_same_bits(place, packed, tmp_path):
    data, cache = place
    runs = directories(tmp_path, four(data))
    outcomes = execute(runs, Execution(cache_root=cache, stop_requested=StopAfter(33)))
    assert {outcome.status for outcome in outcomes.values()} == {75}
    assert all("saved" in outcome.message for outcome in outcomes.values())
    for directory in runs:
        assert (directory / "checkpoints" / str(33 * STEP)).is_dir()
        assert not (directory / "error.txt").exists()
    assert {outcome.status for outcome in execute(runs, Execution(cache_root=cache)).values()} == {0}
    for directory in runs:
        assert_equal_runs(directory, packed / directory.name, relative=0)


def test_a_diverging_member_fails_alone(place, packed, tmp_path):
    data, cache = place
    wild = spec(data, seed=2, learning_rate=1e9, clip_norm=0.0, warmup_tokens=0)
    runs = directories(tmp_path, [*four(data), wild])
    outcomes = execute(runs, Execution(cache_root=cache))
    failed = outcomes.pop(runs[-1])
    assert failed.status == 1
    assert failed.message.startswith("diverged at step 2 ")
    assert (runs[-1] / "error.txt").read_text().strip() == failed.message
    assert not (runs[-1] / "result.json").exists()
    assert {outcome.status for outcome in outcomes.values()} == {0}
    for directory in runs[:-1]:
        assert not (directory / "error.txt").exists()
        assert_equal_runs(directory, packed / directory.name, relative=1e-5)
    apart = directories(tmp_path / "apart", [wild])[0]
    cause, _, _ = failed.message.partition("; last good checkpoint")
    assert execute_alone(apart, Execution(cache_root=cache)).message.startswith(cause)
    assert (apart / "error.txt").read_text().startswith(cause)
    assert rows(apart).keys() == rows(runs[-1]).keys()
    assert status_of([failed, *outcomes.values()]) == 1


def test_a_run_that_another_process_trains_is_left_to_it(place, packed, tmp_path):
    data, cache = place
    runs = directories(tmp_path, four(data)[:3])
    with run_lock(runs[1]):
        outcomes = execute(runs, Execution(cache_root=cache))
    assert outcomes[runs[1]].status == 75
    assert "another process trains this run" in outcomes[runs[1]].message
    assert not (runs[1] / "env.json").exists()
    for directory in (runs[0], runs[2]):
        assert outcomes[directory] == Outcome(0)
        assert_equal_runs(directory, packed / directory.name, relative=1e-5)
    assert status_of(list(outcomes.values())) == 75


def test_trunks_then_branches_with_tasks(place, tmp_path):
    data, cache = place
    tasks = {"tasks": ("copying:length=4", "reversal:length=3"), "task_items": 20}
    trunks = [
        dataclasses.replace(spec(data, seed=seed, tokens=30 * STEP), checkpoint_marks=(20 * STEP,), **tasks)
        for seed in range(2)
    ]
    branches = [
        dataclasses.replace(
            trunk,
            tokens=40 * STEP,
            checkpoint_marks=(),
            parent=trunk.run_id,
            branch_at_tokens=20 * STEP,
            optim=dataclasses.replace(trunk.optim, cooldown_tokens=20 * STEP),
        )
        for trunk in trunks
    ]
    for sweep, train in ((tmp_path / "packed", execute), (tmp_path / "alone", one_by_one)):
        for runs in (trunks, branches):
            outcomes = train(directories(sweep, runs), Execution(cache_root=cache))
            assert {outcome.status for outcome in outcomes.values()} == {0}
    for run in (*trunks, *branches):
        mine, its = tmp_path / "packed" / run.run_id, tmp_path / "alone" / run.run_id
        assert names(mine) == names(its)
        assert "task_items.jsonl" in names(mine)
        for name in ("metrics.jsonl", "evals.jsonl"):
            left, right = rows(mine, name), rows(its, name)
            assert left.keys() == right.keys()
        assert rows(mine)[(run.tokens, None)]["loss"] == pytest.approx(
            rows(its)[(run.tokens, None)]["loss"], rel=1e-4
        )
        left, right = (rows(path, "evals.jsonl") for path in (mine, its))
        key = (run.tokens, f"task/{load(run.tasks[0]).name}/nll")
        assert left[key]["value"] == pytest.approx(right[key]["value"], rel=1e-4)
        assert min(tokens for tokens, _ in rows(mine)) == (run.branch_at_tokens or 0) + STEP


def one_by_one(runs, execution):
    return {directory: execute_alone(directory, execution) for directory in runs}


def test_an_error_in_the_files_of_one_run_is_that_runs_own(place, packed, tmp_path):
    data, cache = place
    runs = directories(tmp_path, four(data)[:3])
    (runs[0] / "metrics.jsonl").mkdir()
    outcomes = execute(runs, Execution(cache_root=cache))
    assert outcomes.pop(runs[0]).status == 2  # bad input: a folder in the place of a log
    assert "Is a directory" in (runs[0] / "error.txt").read_text()
    assert {outcome.status for outcome in outcomes.values()} == {0}
    assert_equal_runs(runs[1], packed / runs[1].name, relative=1e-5)


def test_a_pack_whose_runs_do_not_divide_over_the_devices_trains_all_the_same(place, packed, tmp_path):
    data, cache = place
    runs = directories(tmp_path, four(data)[:3])
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "training.pack", "--cache", str(cache), *map(str, runs)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for run in runs:
        assert_equal_runs(run, packed / run.name, relative=1e-4)


def test_kill_and_sigterm_lose_nothing(place, tmp_path):
    data, cache = place
    specs = [
        dataclasses.replace(one, tokens=200 * STEP, evaluation_marks=(100 * STEP,)) for one in four(data)[:3]
    ]
    reference, runs = directories(tmp_path / "calm", specs), directories(tmp_path / "hard", specs)
    assert {outcome.status for outcome in execute(reference, Execution(cache_root=cache)).values()} == {0}
    command = [sys.executable, "-m", "training.pack", "--cache", str(cache), "--checkpoint-seconds", "1"]
    # As many devices as this process has: bits are the same on the same devices only.
    devices = f"--xla_force_host_platform_device_count={jax.local_device_count()}"
    environment = {**os.environ, "XLA_FLAGS": devices}
    for tokens, number, status in ((40, signal.SIGKILL, -9), (90, signal.SIGTERM, 75)):
        process = subprocess.Popen(
            [*command, *map(str, runs)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        wait_for(runs[0], tokens * STEP, process)
        process.send_signal(number)
        _, words = process.communicate(timeout=120)
        assert process.returncode == status, words
    assert words.count("stopped by a signal at") == 3
    assert {outcome.status for outcome in execute(runs, Execution(cache_root=cache)).values()} == {0}
    for mine, its in zip(runs, reference, strict=True):
        assert_equal_runs(mine, its, relative=0)
        assert json.loads((mine / "result.json").read_text())["attempts"] == 3


def wait_for(directory: Path, tokens: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while (
        not (directory / "metrics.jsonl").exists()
        or max((tokens_ for tokens_, _ in rows(directory)), default=0) < tokens
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_of_two_shapes_are_refused(place, tmp_path, capsys):
    data, _ = place
    small = spec(data)
    for other, key in (
        (dataclasses.replace(small, model=dataclasses.replace(MODEL, width=32)), "model.width=32"),
        (
            dataclasses.replace(small, batch_tokens=2 * STEP, tokens=40 * STEP, evaluation_marks=()),
            "batch_tokens=512",
        ),
        (spec(dataclasses.replace(data, sequence_length=64)), "data.sequence_length=64"),
        (spec(data, decay_all=True), "optim.decay_all=True"),
        (spec(data, microbatch_tokens=128), "optim.microbatch_tokens=128"),
    ):
        with pytest.raises(BadInput, match=f"{key} cannot be packed with {small.run_id}"):
            check_one_shape([small, other])
    runs = directories(
        tmp_path, [small, dataclasses.replace(small, model=dataclasses.replace(MODEL, width=32))]
    )
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as stop:
            main(["--cache", str(tmp_path), *map(str, runs)])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "cannot be packed with" in line
    assert not any((directory / "env.json").exists() for directory in runs)


def test_a_worker_reads_packs_and_answers_for_each_run(place, tmp_path, monkeypatch):
    data, _ = place
    other = dataclasses.replace(spec(data), model=dataclasses.replace(MODEL, width=32))
    runs = directories(tmp_path, [spec(data), other])
    lines = [{"run": str(runs[0])}, {"pack": [str(run) for run in runs]}]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in lines)))
    orders: queue.Queue = queue.Queue()
    worker._read_orders(orders, lambda name: None)
    assert [orders.get() for _ in range(3)] == [runs[:1], runs, None]
    outcomes = worker.train(runs, Execution(cache_root=tmp_path))
    assert list(outcomes) == runs
    assert {outcome.status for outcome in outcomes.values()} == {2}


def test_a_directory_that_is_missing_or_broken_is_refused_and_the_others_trained(place, packed, tmp_path):
    data, cache = place
    runs = directories(tmp_path, four(data)[:3])
    (runs[2] / "spec.json").write_text("{")
    outcomes = execute([*runs, tmp_path / "nothing"], Execution(cache_root=cache))
    assert outcomes[tmp_path / "nothing"].status == 2
    assert outcomes[runs[2]].status == 2
    assert "spec.json" in (runs[2] / "error.txt").read_text()
    assert outcomes[runs[0]] == outcomes[runs[1]] == Outcome(0)
    assert os.path.exists(runs[0] / "result.json")
