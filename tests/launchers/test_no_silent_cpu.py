"""A machine with a GPU, by an nvidia-smi in PATH that lists one, whose JAX has no CUDA: nothing trains on its CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.doctor.devices import findings
from tests.support.run_records import an_attempt, an_environment
from tests.support.small import ROOT, cache_folder, launch_command, write_corpus

SMI = """#!/bin/sh
case "$*" in
  *query-gpu=name*) echo "NVIDIA H100 80GB HBM3" ;;
  *query-gpu=memory*) echo 81559 ;;
  *) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)" ;;
esac
"""


@pytest.fixture
def gpu_machine(tmp_path, monkeypatch) -> dict[str, str]:
    """The environment of a machine with one GPU, as far as the driver's tool can tell."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return dict(os.environ)


def said(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


def one_run(folder: Path) -> list[str]:
    arguments = ("--sizes", "1", "--no-trunk", "--tokens", "16384")
    return launch_command(write_corpus(folder / "text"), folder / "runs", cache_folder(folder), *arguments)


@pytest.mark.slow
def test_a_sweep_is_refused_before_anything_is_trained(tmp_path, gpu_machine):
    command = one_run(tmp_path)
    status, _, error = said(command, gpu_machine)
    assert status == 2
    assert (
        error.strip()
        .splitlines()[-1]
        .startswith("error: this machine has 1 GPU, and the installed JAX no CUDA")
    )
    assert not list(tmp_path.glob("runs/*/*/metrics.jsonl"))


@pytest.mark.slow
def test_a_worker_whose_device_is_missing_is_refused(tmp_path, gpu_machine):
    """A plugin that is installed and does not load: the launcher cannot know, the process that trains does."""
    command = one_run(tmp_path)
    assert said(command, gpu_machine | {"JAX_PLATFORMS": "cpu"})[0] == 0
    run = next(path.parent for path in tmp_path.glob("runs/*/*/result.json"))
    (run / "result.json").unlink()
    arguments = [sys.executable, "-m", "training.run", str(run), "--cache", str(tmp_path / "cache")]
    before = (run / "metrics.jsonl").read_bytes()
    status, _, error = said(arguments, gpu_machine | {"JAX_PLATFORMS": "cuda"})
    assert (status, (run / "metrics.jsonl").read_bytes()) == (2, before)
    assert "JAX_PLATFORMS=cuda: " in error
    assert "Traceback" not in error


@pytest.mark.parametrize("extra", [{}, {"CUDA_VISIBLE_DEVICES": "-1"}, {"JAX_PLATFORMS": "cpu"}])
def test_a_bench_of_a_missing_gpu_prints_no_number(gpu_machine, extra):
    command = [sys.executable, "launch.py", "bench", "--device", "cuda", "--sizes", "10k", "--rounds", "1"]
    status, out, error = said(command, gpu_machine | extra)
    assert (status, out) == (2, "")
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1


def a_sweep(folder: Path, **changes: object) -> Path:
    run = folder / "sweep" / "a-run"
    run.mkdir(parents=True)
    attempt = an_attempt(host=os.uname().nodename, platform="cpu", **changes)
    (run / "env.json").write_text(json.dumps(an_environment(attempt)))
    return run.parent


def test_doctor_says_that_runs_trained_on_the_processor_of_a_gpu_machine(tmp_path, gpu_machine):
    (found,) = [finding for finding in findings(a_sweep(tmp_path)) if finding.where == "a-run"]
    assert "trained on the processor of this machine, which has 1 GPU" in found.problem


def test_doctor_says_that_jax_does_not_find_the_gpu(tmp_path, gpu_machine):
    problems = [finding.problem for finding in findings(tmp_path)]
    assert any("the installed JAX no CUDA" in problem for problem in problems), problems


def test_doctor_says_nothing_of_a_machine_without_one(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert findings(a_sweep(tmp_path)) == []
