"""Eight fake devices train the same curve as one, on several meshes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.codec import to_json
from core.files import read_json_lines, write_json
from data.config import DataConfig
from model.config import ModelConfig
from tests.support.small import ROOT, cache_folder, write_corpus
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.long

STEPS = 50


@pytest.fixture(scope="module")
def spec_and_cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    corpus = write_corpus(folder / "corpus", documents=400)
    spec = RunSpec(
        model=ModelConfig(width=32, depth=2, heads=4, kv_heads=2, head_width=8, scan=True),
        data=DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024),
        optim=OptimConfig(learning_rate=3e-3, warmup_tokens=5 * 512, cooldown_tokens=10 * 512, z_loss=1e-4),
        tokens=STEPS * 512,
        batch_tokens=512,
    )
    return spec, cache_folder(folder)


def train(spec: RunSpec, cache: Path, folder: Path, devices: int, mesh: str) -> subprocess.CompletedProcess:
    directory = folder / spec.run_id
    write_json(directory / "spec.json", to_json(spec))
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache), "--mesh", mesh]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def losses(folder: Path, spec: RunSpec) -> list[float]:
    return [row["loss"] for row in read_json_lines(folder / spec.run_id / "metrics.jsonl")]


@pytest.fixture(scope="module")
def one_device(spec_and_cache, tmp_path_factory):
    spec, cache = spec_and_cache
    folder = tmp_path_factory.mktemp("one")
    done = train(spec, cache, folder, 1, "data=1")
    assert done.returncode == 0, done.stderr
    return losses(folder, spec), json.loads((folder / spec.run_id / "result.json").read_text())


@pytest.mark.parametrize("mesh", ["", "data=2,fsdp=2,tensor=2"])
def test_eight_devices_give_the_curve_of_one(spec_and_cache, one_device, tmp_path, mesh):
    spec, cache = spec_and_cache
    done = train(spec, cache, tmp_path, 8, mesh)
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / spec.run_id / "env.json").read_text())
    assert environment["attempts"][0]["devices"] == 8
    reference, result = one_device
    assert len(reference) == STEPS
    assert losses(tmp_path, spec) == pytest.approx(reference, rel=1e-4)
    evals = json.loads((tmp_path / spec.run_id / "result.json").read_text())["evals"]
    assert evals["val/loss"] == pytest.approx(result["evals"]["val/loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        ("data=2,rows=2", "axes data, fsdp, tensor"),
        ("data=0", "--mesh=data=0"),
        ("data=16", "asks for 16 devices, 8 are here"),
        ("tensor=8", "model.heads=4"),
    ],
)
def test_an_impossible_mesh_is_refused(spec_and_cache, tmp_path, mesh, words):
    spec, cache = spec_and_cache
    done = train(spec, cache, tmp_path, 8, mesh)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
