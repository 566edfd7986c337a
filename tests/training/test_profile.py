"""A trace of real steps: it is what Perfetto reads, and the steps are in it."""

import dataclasses
import gzip
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from core.codec import to_json
from core.errors import BadInput
from data.config import DataConfig
from model.config import ModelConfig
from model.sharding import make_mesh
from tests.support.small import ROOT, cache_folder, write_corpus
from training.hooks import Asked
from training.hooks.profile import Profile
from training.program import Program
from training.spec import OptimConfig, RunSpec
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

pytestmark = pytest.mark.slow

CONFIG = ModelConfig(vocabulary=32, width=16, depth=2, heads=2, kv_heads=1, tied=False, scan=False)


def test_five_steps_are_in_the_trace(tmp_path):
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    initialize, _ = make_initialization(CONFIG, mesh)
    batch_BT = np.random.default_rng(0).integers(0, 32, (8, 17)).astype(np.int32)
    hyper = {**hyperparameters(OptimConfig()), "learning_rate": 1e-3}
    step = make_train_step(Program(CONFIG), mesh)
    profile = Profile(tmp_path / "profile", tokens=0, batch_tokens=128, end=9 * 128)
    losses: list[list[float]] = [[], []]
    with jax.set_mesh(mesh):
        for series, is_profiled in zip(losses, (False, True), strict=True):
            state = initialize(np.uint32(0))
            for number in range(9):
                with jax.profiler.StepTraceAnnotation("train", step_num=number):
                    state, metrics = step(state, batch_BT, hyper)
                if is_profiled and profile.is_due(tokens := (number + 1) * 128, Asked(stop=False, save=False)):
                    profile.act(tokens, state)
                series.append(float(metrics["loss"]))
    assert losses[0] == losses[1]
    with gzip.open(tmp_path / "profile" / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    # The trace event format: complete events ("X") have a name, a start and a duration in microseconds.
    steps = [event for event in events if event.get("ph") == "X" and event.get("name") == "train"]
    assert sorted(int(event["args"]["step_num"]) for event in steps) == [2, 3, 4, 5, 6]
    assert all(event["dur"] > 0 and event["ts"] >= 0 for event in steps)
    computed = {event["name"] for event in events if event.get("ph") == "X"}
    assert any("dot" in name for name in computed), "no matrix product in the trace"
    assert (tmp_path / "profile" / "steps.xplane.pb").stat().st_size > 0


def test_a_run_too_short_for_a_trace_is_refused(tmp_path):
    with pytest.raises(BadInput, match="--profile: traces steps 3 to 7, and 6 are left of this run"):
        Profile(tmp_path, tokens=128, batch_tokens=128, end=7 * 128)


def test_a_run_writes_its_trace_and_its_implementations(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=100)
    spec = RunSpec(
        model=dataclasses.replace(CONFIG, vocabulary=256),
        data=DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024),
        tokens=8 * 256,
        batch_tokens=256,
    )
    directory = tmp_path / spec.run_id
    command = [
        sys.executable,
        "-m",
        "training.run",
        str(directory),
        "--spec",
        json.dumps(to_json(spec)),
        "--profile",
        "--cores",
        "1",
    ]
    done = subprocess.run(
        [*command, "--cache", str(cache_folder(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with gzip.open(directory / "profile" / "perfetto_trace.json.gz") as file:
        assert sum(event.get("name") == "train" for event in json.load(file)["traceEvents"]) == 5
    implementations = json.loads((directory / "env.json").read_text())["attempts"][0]["implementations"]
    assert implementations["attention"]["name"] == "blocks"
    assert implementations["loss"]["reason"].startswith("65,536 logits a device")
