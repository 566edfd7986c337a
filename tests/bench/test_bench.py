"""The benchmark end to end at its smallest, its arithmetic, and what it does when a peer is absent or dies."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import protocol, side
from bench import speed as bench
from bench import start as start_bench
from core.errors import BadInput
from data.config import DataConfig
from model.config import ModelConfig
from model.kernels.choose import Device
from model.ledger import ledger
from planning import memory, throughput
from training.processes import allocator
from training.spec import RunSpec

pytestmark = pytest.mark.slow

QUICK = ["--sizes", "10k", "--sequence", "16", "--batch-tokens", "64", "--rounds", "2", "--seconds", "0.01"]


def test_without_torch_it_measures_our_side_alone(tmp_path, capsys):
    out = tmp_path / "bench.json"
    table = tmp_path / "throughput.json"
    assert bench.main([*QUICK, "--threads", "1", "--out", str(out), "--table", str(table)]) == 0
    (measured,) = throughput.read_table(table)
    assert measured.threads == 1
    assert measured.device == throughput.device_here()
    (row,) = json.loads(out.read_text())["rows"]
    assert measured.tokens_per_second == row["tokens_per_second"]["jax"]
    flops = ledger(ModelConfig(**row["model"]), 16)["flops_per_token"]
    rate, peak = row["tokens_per_second"]["jax"], row["peak_flops_per_second"]
    assert row["mfu"]["exact"] == pytest.approx(rate * flops["exact"] / peak)
    assert row["mfu"]["palm"] == pytest.approx(rate * flops["palm"] / peak)
    assert min(row["rounds"]["jax"]) <= rate <= max(row["rounds"]["jax"])
    assert row["compile_seconds"]["jax"] > 0
    # Parameters and two moments; activations of 64 tokens in 2 layers are more than those of the residual stream.
    assert row["bytes"]["state"] == pytest.approx(12 * row["params"], rel=0.1)
    assert row["bytes"]["scratch"] > 64 * 2 * 16 * 4
    assert row["implementations"]["attention"]["name"] == "blocks"
    assert 0 <= row["host_wait"] < 1
    assert 5 < row["first_loss"]["jax"] < 7
    line = capsys.readouterr().out
    assert "10k" in line
    assert "MFU exact" in line


def test_a_peer_that_dies_is_an_error_and_not_a_missing_number():
    options = side.Bench(sizes=("10k",), torch_python="/bin/false")
    with (
        side.started(options, ["torch"]) as sides,
        pytest.raises(RuntimeError, match=r"bench\.torch_peer.* ended .*: exit status 1$"),
    ):
        sides["torch"].ask("steps", count=1)


def test_a_peer_that_is_killed_says_so():
    options = side.Bench(sizes=("10k",))
    with side.started(options, ["jax"]) as sides:
        sides["jax"].process.kill()
        with pytest.raises(RuntimeError, match=r"killed by signal 9; was there memory for all sides"):
            sides["jax"].ask("steps", count=1)


@pytest.mark.parametrize(
    ("faults", "asked"),
    [([900, 0, 7, 0], 3), ([0, 400, 0, 400, 3, 2, 1], 6), ([500] * 99, bench.MOST_SETTLING)],
)
def test_rounds_start_when_memory_has_stopped_growing(faults, asked):
    class Side:
        asked = 0

        def ask(self, do, count):
            self.asked += 1
            return {"faults": faults[self.asked - 1]}

    side = Side()
    bench._settle(side)  # type: ignore[arg-type]
    assert side.asked == asked


def test_a_peer_counts_the_pages_that_it_meets():
    watch = protocol.Stopwatch()
    pages = np.ones(2**22, np.uint8)
    assert watch.read()["faults"] > 0
    assert pages[-1] == 1


def test_every_size_has_a_shape_on_either_device():
    for device in ("cpu", "cuda"):
        options = side.Bench(sizes=tuple(side.SIZES), device=device)  # type: ignore[arg-type]
        for size in side.SIZES:
            sequence, batch_tokens = options.shape(size)
            assert batch_tokens % sequence == 0
            assert sequence == 2048 or side.SIZES[size].width < 512
            config = options.model(size)
            assert (config.compute_dtype, config.scan) == (
                ("float32", False) if device == "cpu" else ("bfloat16", True)
            )


def test_the_largest_steps_on_a_gpu_fit_one_of_80_gigabytes():
    options = side.Bench(sizes=("124M", "350M", "760M", "1.3B"), device="cuda")
    for size in options.sizes:
        sequence, batch_tokens = options.shape(size)
        spec = RunSpec(
            model=options.model(size),
            data=DataConfig(sequence_length=sequence),
            batch_tokens=batch_tokens,
            tokens=batch_tokens,
        )
        need = memory.estimate_bytes(spec, device=Device("gpu", "NVIDIA H100 80GB HBM3", "9.0"))
        assert need.total < 70e9, (size, need)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": ("10k", "7T")}, "--sizes 7T: must be some of 10k"),
        ({"sequence": 0}, "--sequence 0: must be at least 1"),
        ({"batch_tokens": 100}, "--batch-tokens 100: must be a multiple of --sequence 128"),
        ({"rounds": 0}, "--rounds 0: must be at least 1"),
        ({"seconds": 0.0}, "--seconds 0.0: must be positive"),
        ({"threads": 4096}, "--threads 4096: must be 0 to"),
        ({"depth": 0}, "--depth 0: must be at least 1"),
        ({"start": True, "pack": (2,)}, "--start: measures runs alone; leave out --pack"),
        ({"table": Path("t.json"), "start": True}, "--table t.json: takes the speeds of steps"),
        ({"table": Path("t.json"), "clock": "cpu"}, "--table t.json: takes speeds by the clock"),
        ({"torch_python": "/no/such/python"}, "--torch-python /no/such/python: not a program that can be run"),
    ],
)
def test_bad_arguments_are_refused(fields, message):
    with pytest.raises(BadInput) as refusal:
        side.Bench(**fields)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("name", side.SIZES)
def test_sizes_have_about_the_parameters_of_their_name(name):
    named = float(name[:-1]) * {"k": 1e3, "M": 1e6, "B": 1e9}[name[-1]]
    assert 0.8 < ledger(side.SIZES[name], 128)["params"]["total"] / named < 1.3


TOUCH_SCRATCH = """
import ctypes, resource, sys, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = libc.memset.argtypes = None
def steps(count):
    for _ in range(count):
        scratch = libc.malloc(64 << 20)
        libc.memset(ctypes.c_void_p(scratch), ctypes.c_int(1), ctypes.c_size_t(64 << 20))
        libc.free(ctypes.c_void_p(scratch))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def measured():
    steps(2)
    before = faults()
    steps(10)
    print(faults() - before)
thread = threading.Thread(target=measured)
thread.start()
thread.join()
"""


def test_allocator_settings_keep_scratch_memory_between_steps():
    def page_faults(extra):
        environment = {key: value for key, value in os.environ.items() if key not in allocator.environment()}
        command = [sys.executable, "-c", TOUCH_SCRATCH]
        finished = subprocess.run(command, env=environment | extra, capture_output=True, text=True, check=True)
        return int(finished.stdout)

    pages = 10 * (64 << 20) // os.sysconf("SC_PAGESIZE")
    assert page_faults({}) > pages / 2
    assert page_faults(allocator.environment()) < pages / 100


def test_the_cost_of_a_checkpoint_is_the_extra_time_of_each_save(tmp_path, monkeypatch, capsys):
    asked = []

    def train(options, spec, home, cache, save_seconds):
        asked.append((home.name, spec.tokens // spec.batch_tokens, spec.model.depth, save_seconds))
        if spec.tokens == start_bench.FEW_STEPS * spec.batch_tokens:
            return start_bench.Timed(first=3.0 if home.name == "cold" else 1.5, training=7.0)
        return start_bench.Timed(first=1.5, training=25.0 if save_seconds == start_bench.NEVER else 26.0)

    monkeypatch.setattr(start_bench, "train", train)
    out = tmp_path / "start.json"
    assert bench.main([*QUICK, "--depth", "3", "--start", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["first_step_seconds"] == {"cold": 3.0, "warm": 1.5}
    assert row["seconds_per_save"] == pytest.approx(
        1 / 5
    )  # a second more for saves after 5, 10, ... 25 seconds
    assert row["share_at_one_save_a_minute"] == pytest.approx(1 / 300)
    # A step takes a second: twenty of them for four saves, in turn with and without.
    assert asked[-4:] == [
        ("saving0", 20, 3, 5.0),
        ("plain0", 20, 3, 1e9),
        ("saving1", 20, 3, 5.0),
        ("plain1", 20, 3, 1e9),
    ]
    assert "first step 3.0 s cold, 1.5 s warm" in capsys.readouterr().out


def test_a_run_is_timed_by_the_rows_that_it_writes(tmp_path):
    text = tmp_path / "text.jsonl"
    start_bench.write_words(text)
    spec = RunSpec(
        model=ModelConfig(width=16, depth=1, heads=1, kv_heads=1),
        data=DataConfig(corpus=f"text:{text}", sequence_length=16, validation_tokens=16),
        tokens=64_000,  # a thousand steps: long beside the time between two looks at the log
        batch_tokens=64,
    )
    began = time.monotonic()
    timed = start_bench.train(side.Bench(sizes=("10k",), threads=1), spec, tmp_path, tmp_path / "cache", 1e9)
    assert timed.first > 0.3  # no process imports JAX in less
    assert 0 < timed.training < time.monotonic() - began - timed.first


def test_a_run_that_cannot_be_timed_is_an_error_in_its_own_words(tmp_path):
    options = side.Bench(sizes=("10k",), threads=1)
    spec = RunSpec(data=DataConfig(corpus=f"text:{tmp_path / 'none.txt'}"))
    with pytest.raises(RuntimeError, match=r"ended with 2: .*none\.txt"):
        start_bench.train(options, spec, tmp_path, tmp_path / "cache", start_bench.NEVER)
