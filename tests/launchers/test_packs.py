"""Which runs are packed, how large a pack is, and a launcher whose packs are killed."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.config import DataConfig
from launchers.local.devices import Place
from launchers.local.launch import LocalOptions, launch
from launchers.packs import PackSizes, choose_sizes, pack_key, parse_pack, share_evenly
from launchers.queue import RunQueue
from model.config import ModelConfig
from tests.support.small import ROOT, cache_folder, final_evals, run_launch, write_corpus
from training.packs.size import ALWAYS, ENOUGH, GAIN, WORTH, choose, climb, decide
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow

GPU = Place("gpu 0", {})
CPU = Place("core 0", {"JAX_PLATFORMS": "cpu"}, (0,))


def spec(width: int = 16, steps: int = 2, seed: int = 0, **fields) -> RunSpec:
    return RunSpec(model=ModelConfig(width=width, depth=1), tokens=4096 * steps, seed=seed, **fields)


@pytest.mark.parametrize("text", ["", "on", "0", "-1", "2.5", "²", "Auto"])
def test_another_value_of_pack_is_refused_in_one_line(text):
    with pytest.raises(BadInput, match="must be auto, off or a whole number of runs, at least 1"):
        parse_pack(text)


def test_values_of_pack():
    done = run_launch([sys.executable, "launch.py", "run", "quickstart", "--pack=many"])
    assert done.returncode == 2
    assert done.stderr == "error: --pack=many: must be auto, off or a whole number of runs, at least 1\n"
    spread = run_launch([sys.executable, "launch.py", "run", "quickstart", "--pack=4", "--mesh", "data=2"])
    assert spread.returncode == 2
    assert spread.stderr == "error: --pack=4: --mesh=data=2 is for runs that train alone; must be auto or off\n"
    assert [parse_pack(text) for text in ("auto", "off", "1", "32")] == ["auto", 1, 1, 32]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 40))
def test_packs_are_as_few_and_as_even_as_they_can_be(count, most):
    sizes, left = [], count
    while left:
        sizes.append(share_evenly(left, most))
        left -= sizes[-1]
    assert sum(sizes) == count
    assert len(sizes) == -(-count // most)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


def test_runs_are_packed_that_differ_in_scalars_alone():
    one = spec()
    alike = [
        spec(seed=5),
        dataclasses.replace(one, optim=OptimConfig(learning_rate=1.0, weight_decay=0.0, schedule="cosine")),
        dataclasses.replace(one, data=DataConfig(unique_tokens=2048)),
    ]
    others = [
        spec(width=32),
        spec(steps=3),
        spec(batch_tokens=2048),
        dataclasses.replace(one, optim=OptimConfig(decay_all=True)),
        spec(parent="trunk", branch_at_tokens=4096),
    ]
    assert {pack_key(run) for run in (one, *alike)} == {pack_key(one)}
    assert all(pack_key(run) != pack_key(one) for run in others)


def test_the_queue_hands_out_even_packs_of_what_is_ready():
    trunk = spec(steps=8, checkpoint_marks=(4096,))
    branches = [spec(steps=8, seed=seed, parent=trunk.run_id, branch_at_tokens=4096) for seed in range(5)]
    there: set[str] = set()
    queue = RunQueue([trunk, *branches], lambda run: run.parent is None or run.parent in there)
    sizes = PackSizes({pack_key(branches[0]): 4})
    assert queue.take_pack(0, sizes) == [trunk]
    assert queue.take_pack(0, sizes) == []
    there.add(trunk.run_id)
    first = queue.take_pack(0, sizes)
    for run in reversed(first):
        queue.put_back(run)
    assert queue.take_pack(0, sizes) == first
    assert [len(pack) for pack in (first, queue.take_pack(1, sizes))] == [3, 2]
    assert len(queue) == 0


def test_a_number_packs_on_any_device_and_auto_does_not_on_a_cpu(tmp_path):
    runs = [spec(seed=seed) for seed in range(6)] + [spec(width=32)]
    forced = choose_sizes(runs, 4, [CPU], tmp_path, tmp_path / "log")
    assert [forced(run) for run in (runs[0], runs[-1])] == [4, 1]
    automatic = choose_sizes(runs, "auto", [CPU], tmp_path, tmp_path / "log")
    assert automatic(runs[0]) == 1
    assert automatic.lines == ("packs: off, they gain nothing on a CPU; --pack N packs all the same",)
    assert choose_sizes(runs, 1, [GPU], tmp_path, tmp_path / "log") == PackSizes({})
    spread = choose_sizes(runs, "auto", [GPU] * 6, tmp_path, tmp_path / "log")
    assert spread(runs[0]) == 1
    assert "no more runs of a shape than places" in spread.lines[0]
    assert not (tmp_path / "pack").exists()


def test_auto_measures_once_says_what_it_found_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # the process that measures takes the device that it finds
    data = DataConfig(sequence_length=16, validation_tokens=16)
    runs = [RunSpec(model=ModelConfig(width=16, depth=1), data=data, batch_tokens=16, seed=i) for i in range(2)]
    notes: list[str] = []
    sizes = choose_sizes(runs, "auto", [GPU], tmp_path / "cache", tmp_path / "log", notes.append)
    assert notes == ["packs: measuring 1 shapes on gpu 0, kept for later"]
    (line,) = sizes.lines
    assert line.startswith("packs: 16x1: ")
    (kept,) = (tmp_path / "cache" / "pack").glob("*.json")
    measured = json.loads(kept.read_text())
    assert list(measured["rates"]) == ["1", "2"]
    assert all(rate > 0 for rate in measured["rates"].values())
    assert measured["key"]["versions"].keys() == {"jax", "jaxlib", "optax"}
    assert sizes(runs[0]) == decide({int(key): rate for key, rate in measured["rates"].items()})
    again = choose(runs[0], 2, tmp_path / "cache", lambda *_: pytest.fail("measured again"))
    assert again.sentence() in line


def test_a_measurement_that_fails_leaves_the_runs_alone_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "no-such-platform")
    sizes = choose_sizes([spec(seed=0), spec(seed=1)], "auto", [GPU], tmp_path, tmp_path / "log")
    assert sizes(spec()) == 1
    assert sizes.lines == (f"packs: off, they could not be measured; see the last words of {tmp_path / 'log'}",)
    assert "no-such-platform" in (tmp_path / "log").read_text()


rates = st.lists(st.floats(1, 1e6), min_size=1, max_size=7).map(
    lambda values: {2**power: value for power, value in enumerate(values)}
)


@settings(deadline=None)
@given(rates)
def test_the_rule_takes_the_smallest_pack_that_is_nearly_the_best(measured):
    members = decide(measured)
    best = max(measured.values())
    if members == 1:
        assert best < WORTH * measured[1] or measured[1] >= ENOUGH * best
    else:
        assert measured[members] >= ENOUGH * best
        assert best >= WORTH * measured[1]
        assert all(rate < ENOUGH * best for size, rate in measured.items() if size < members)


def test_the_ladder_ends_with_memory_with_the_gain_or_with_the_runs():
    assert climb(lambda members: 100.0 * members if members < 16 else None, 64) == (
        {1: 100.0, 2: 200.0, 4: 400.0, 8: 800.0},
        "memory",
    )
    flat, why = climb(lambda members: 100.0 * min(members, ALWAYS), 64)
    assert list(flat) == [1, 2, 4, 8, 16]
    assert why == "gain"
    assert flat[16] < GAIN * flat[8]
    assert climb(lambda members: float(members), 5) == ({1: 1.0, 2: 2.0, 4: 4.0}, "most")


def test_the_ladder_ends_where_a_rung_costs_more_than_it_can_win():
    """Every rung takes 10 seconds, and doubling the rate saves half of the time that is left."""

    def climbed(tokens: float) -> tuple[list[int], str]:
        seconds = iter(range(0, 1000, 10))
        rates, why = climb(lambda members: 100.0 * members, 64, tokens, lambda: float(next(seconds)))
        return list(rates), why

    assert climbed(1_999.0) == ([1], "cost")
    assert climbed(2_001.0) == ([1, 2], "cost")
    assert climbed(8_001.0) == ([1, 2, 4, 8], "cost")
    assert climbed(math.inf) == ([1, 2, 4, 8, 16, 32, 64], "most")


def test_a_ladder_that_ended_for_its_cost_is_climbed_again_for_more_work(tmp_path):
    asked: list[int] = []

    def rate_of(_: RunSpec, members: int) -> float:
        asked.append(members)
        time.sleep(0.01)
        return 100.0 * members

    assert choose(spec(), 8, tmp_path, rate_of, tokens=0.1).ended == "cost"
    assert choose(spec(), 8, tmp_path, rate_of, tokens=0.2).ended == "cost"
    assert choose(spec(), 1, tmp_path, rate_of, tokens=1e9).members == 1
    assert asked == [1]
    assert choose(spec(), 8, tmp_path, rate_of, tokens=1e9).ended == "most"
    assert asked == [1, 1, 2, 4, 8]


def test_what_was_measured_is_measured_again_only_for_larger_packs(tmp_path):
    asked: list[int] = []

    def rate_of(_: RunSpec, members: int) -> float:
        asked.append(members)
        return 100.0 * members

    assert choose(spec(), 5, tmp_path, rate_of).members == 4
    assert choose(spec(), 7, tmp_path, rate_of).members == 4
    assert choose(spec(), 2, tmp_path, rate_of).members == 2
    assert asked == [1, 2, 4]
    assert choose(spec(), 8, tmp_path, rate_of).members == 8
    assert choose(spec(width=32), 2, tmp_path, rate_of).members == 2
    assert asked == [1, 2, 4, 1, 2, 4, 8, 1, 2]


def test_too_little_memory_for_one_run_is_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"has not the memory for one run; lower optim\.microbatch_tokens"):
        choose(spec(), 4, tmp_path, lambda run, members: None)


STUB = """
import json, os, pathlib, signal, sys
log = pathlib.Path(os.environ["STUB_LOG"])
print(json.dumps({"event": "ready"}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    runs = [pathlib.Path(run) for run in order.get("pack") or [order["run"]]]
    with log.open("a") as file:
        file.write(json.dumps([run.name for run in runs]) + "\\n")
    if len(log.read_text().splitlines()) <= int(os.environ["STUB_DEATHS"]):
        os.kill(os.getpid(), signal.SIGKILL)
    for index, run in enumerate(runs):
        print(json.dumps({"event": "progress", "run": str(run), "tokens": 1, "loss": 1.0, "tokens_per_second": 1.0}))
        status = 1 if run.name == os.environ.get("STUB_FAILS") else 0
        print(json.dumps({"event": "end", "run": str(run), "status": status, "message": "as told"}), flush=True)
"""


@pytest.mark.parametrize(
    ("deaths", "orders"), [(0, [3, 2]), (1, [3, 3, 2]), (2, [3, 3, 1, 1, 1, 2]), (4, [3, 3, 1, 1, 1, 1, 2])]
)
def test_a_pack_whose_worker_dies_is_tried_again_and_then_run_by_run(tmp_path, monkeypatch, deaths, orders):
    """Against a worker that trains nothing: it says what it was given, and dies as often as it is told."""
    (tmp_path / "stub.py").write_text(STUB)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'stub.py'}\n")
    python.chmod(0o755)
    runs = [spec(seed=seed) for seed in range(5)]
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "orders"))
    monkeypatch.setenv("STUB_DEATHS", str(deaths))
    monkeypatch.setenv("STUB_FAILS", runs[4].run_id)
    monkeypatch.setattr("launchers.local.launch.sys.executable", str(python))
    summary = launch(tmp_path / "sweep", runs, LocalOptions(workers=1, pack=3))
    given_out = [json.loads(line) for line in (tmp_path / "orders").read_text().splitlines()]
    assert [len(order) for order in given_out] == orders
    killed = {runs[0].run_id: "its worker was killed by SIGKILL (out of memory?)"} if deaths == 4 else {}
    failed = {run: cause.partition("; its last words are in")[0] for run, cause in summary.failed.items()}
    assert failed == {runs[4].run_id: "as told", **killed}
    assert {*summary.complete, *summary.failed} == {run.run_id for run in runs}
    assert summary.status == 1


LEARNING_RATE = ("--widths", "16", "--depth", "1", "--tokens", "131072", "--factors", "0.5", "1", "2", "3", "4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("packs") / "corpus")


def command(corpus: Path, runs: Path, cache: Path, *more: str) -> list[str]:
    words = [sys.executable, "launch.py", "run", "learning_rate", "--corpus", f"text:{corpus}", *LEARNING_RATE]
    words += [
        "--name",
        "learning_rate",
        "--set",
        "data.validation_tokens=8192",
        "--runs",
        str(runs),
        "--cache",
        str(cache),
        "--workers",
        "1",
    ]
    return [*words, "--checkpoint-seconds", "1", *more]


def workers(process: int) -> list[int]:
    """Children of a launcher that train; another tells its last words."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [
        int(child) for child in children if b"training.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.long
def test_a_launcher_trains_packs_and_survives_the_death_of_its_worker(corpus, tmp_path):
    cache = cache_folder(tmp_path)
    calm = run_launch(command(corpus, tmp_path / "calm", cache, "--pack", "3"))
    assert calm.returncode == 0, calm.stderr
    assert "5 trained" in calm.stdout
    sweep = tmp_path / "hard" / "learning_rate"
    launcher = subprocess.Popen(
        command(corpus, tmp_path / "hard", cache, "--pack", "3"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size > 3000 for path in sweep.glob("*/metrics.jsonl")):
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (worker,) = workers(launcher.pid)
    os.kill(worker, signal.SIGKILL)
    refused = run_launch(command(corpus, tmp_path / "hard", cache, "--pack", "5"))
    assert refused.returncode == 2
    assert "another launcher" in refused.stderr
    _, words = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, words
    assert words.count("killed by SIGKILL (out of memory?); resuming it") in (2, 3)
    assert final_evals(sweep) == final_evals(tmp_path / "calm" / "learning_rate")
    sizes = sorted(json.loads(path.read_text())["attempts"][-1]["pack"] for path in sweep.glob("*/env.json"))
    assert sizes == [2, 2, 3, 3, 3]
