"""A launcher that is asked to stop, at any moment: 75 while runs are left, one or two lines, and nothing new begins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.rundir import RunDirectory, SweepDirectory
from launchers.local.launch import STARTS, LocalOptions, launch
from tests.support.signals import deaf, wait_until_it_hears
from tests.support.small import ROOT, cache_folder, launch_command, run_launch, write_corpus
from training.spec import RunSpec

pytestmark = pytest.mark.long

TINY = ("--sizes", "1", "--tokens", "8192", "16384", "--no-trunk", "--workers", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus and a cache folder that is warm."""
    folder = tmp_path_factory.mktemp("stopping")
    corpus, cache = write_corpus(folder / "corpus", 60), cache_folder(folder)
    small = ("--set", "data.validation_tokens=1024")
    done = run_launch([*launch_command(corpus, folder / "runs", cache, *TINY), *small])
    assert done.returncode == 0, done.stderr
    return corpus, cache


def started(place, runs: Path, *arguments: str) -> subprocess.Popen:
    command = launch_command(*place[:1], runs, place[1], *TINY, *arguments)
    return subprocess.Popen(
        [*command, "--set", "data.validation_tokens=1024"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=deaf,
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def assert_stopped(process: subprocess.Popen, sweep: Path, left: int, of: int) -> None:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 75, errors
    assert "next:" not in out and "Traceback" not in errors
    assert f"{left} of {of} runs are left" in errors
    assert "to go on: python launch.py run" in errors
    assert len(list(sweep.glob("*/result.json"))) == of - left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_a_worker_is_ready(place, tmp_path, number):
    sweep = tmp_path / "runs" / "quickstart"
    process = started(place, tmp_path / "runs")
    wait_for(lambda: (sweep / ".workers" / "0.log").exists(), process)
    process.send_signal(number)
    process.send_signal(number)
    assert_stopped(process, sweep, left=2, of=2)
    assert not list(sweep.glob("*/env.json")), "a run was begun after the signal"


def test_just_as_a_result_appears(place, tmp_path):
    sweep = tmp_path / "runs" / "quickstart"
    process = started(place, tmp_path / "runs")
    wait_for(lambda: list(sweep.glob("*/result.json")), process)
    process.send_signal(signal.SIGTERM)
    assert_stopped(process, sweep, left=1, of=2)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_while_it_imports(place, tmp_path, seconds):
    process = started(place, tmp_path / "runs")
    wait_until_it_hears(process)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    assert errors.count("\n") <= 3 and "python launch.py run quickstart" in errors
    assert not out


def test_a_run_stopped_by_its_own_command_says_how_it_goes_on(place, tmp_path):
    process = started(place, tmp_path / "runs")
    wait_for(lambda: list((tmp_path / "runs").glob("*/*/spec.json")), process)
    process.terminate()
    process.communicate(timeout=300)
    directory = min((tmp_path / "runs").glob("*/*/spec.json")).parent
    command = [sys.executable, "-m", "training.run", str(directory), "--cache", str(place[1])]
    for seconds in (0.5, 2.5):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        process.terminate()
        _, errors = process.communicate(timeout=300)
        if not (directory / "result.json").exists():
            assert process.returncode == 75
            assert f"python -m training.run {directory}" in errors


def test_between_the_phases_of_a_held_back_sweep(place, tmp_path):
    """The first signal comes while the forecast is fitted, or while the small runs train: no larger run begins."""
    corpus, cache = place
    flags = ["--sizes", "3", "--tokens", "8192", "12288", "20480", "40960"]
    command = launch_command(corpus, tmp_path / "runs", cache, *flags, "--set", "data.validation_tokens=1024")
    command = [
        "forecast" if word == "quickstart" else word for word in command
    ]  # the experiment, and its --name
    sweep = SweepDirectory(tmp_path / "runs" / "forecast")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    small = 10  # two sizes, a trunk and four lengths of each
    wait_for(lambda: len(list(sweep.path.glob("*/result.json"))) == small, process)
    process.terminate()
    assert_stopped(process, sweep.path, left=5, of=15)
    held = json.loads(sweep.held_back.read_text())
    names = {run["run"] for run in held["runs"]} | set(held["trunks"])
    assert not any(sweep.run(name).environment.exists() for name in names)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(sweep.run(name).environment.exists() for name in names), process)
    process.terminate()
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 75, errors
    assert "next:" not in out


def test_a_reader_that_leaves_stops_nothing(place, tmp_path):
    """As `launch.py run ... 2>&1 | head`: it trains on, and its status is its own."""
    command = launch_command(
        place[0], tmp_path / "runs", place[1], *TINY, "--set", "data.validation_tokens=1024"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(command, cwd=ROOT, stdout=writer, stderr=writer)
    os.close(writer)
    os.close(reader)
    assert process.wait(timeout=300) == 0
    assert len(list((tmp_path / "runs").glob("*/*/result.json"))) == 2


def test_a_worker_that_never_gets_ready_is_given_up(place, tmp_path, monkeypatch):
    _, cache = place
    broken = tmp_path / "broken"
    (broken / "jax").mkdir(parents=True)
    (broken / "jax" / "__init__.py").write_text("raise ImportError('jax was built for another machine')\n")
    monkeypatch.setenv("PYTHONPATH", f"{broken}:{ROOT}")
    began = time.monotonic()
    # In this process, which has its jax already: only the workers meet the broken one.
    summary = launch(
        tmp_path / "sweep", [RunSpec(tokens=4096), RunSpec(tokens=8192)], LocalOptions(cache_root=cache)
    )
    assert summary.status == 1
    assert len(summary.failed) == 2
    (cause,) = set(summary.failed.values())
    assert f"started {STARTS} times" in cause and "jax was built for another machine" in cause
    assert time.monotonic() - began < 120


@pytest.mark.parametrize(
    "content", ["", '{"run": "', "[]", "7", '{"run": "RUN", "tokens": 8192, "evals": {"val/loss": "2.5"}}']
)
def test_a_result_that_does_not_count_is_named_and_the_run_is_finished(place, tmp_path, content):
    runs = tmp_path / "runs"
    first = started(place, runs)
    assert first.wait(timeout=300) == 0
    directory = min(runs.glob("*/*/result.json")).parent
    before = json.loads((directory / "result.json").read_text())
    (directory / "result.json").write_text(content.replace("RUN", directory.name))
    assert not RunDirectory(directory).is_complete()
    process = started(place, runs)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "1 trained, 1 already complete" in out
    assert f"{directory / 'result.json'}: " in errors
    assert json.loads((directory / "result.json").read_text())["evals"] == before["evals"]
    assert os.listdir(directory)
