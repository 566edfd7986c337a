"""Faults during training, done for real to one small run: it ends the same to the last bit, and says why it failed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.small import ROOT, cache_folder, launch_command, run_launch, write_corpus

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """One run trained without interruption: (cache, run directory)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus = write_corpus(folder / "corpus")
    more = ("--sizes", "1", "--tokens", "65536", "--no-trunk")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *more))
    assert done.returncode == 0, done.stderr
    (result,) = (folder / "runs").glob("*/*/result.json")
    return folder / "cache", result.parent


@pytest.fixture
def fresh(undisturbed, tmp_path) -> Path:
    """The same run in a folder of its own, not trained yet."""
    directory = tmp_path / undisturbed[1].name
    directory.mkdir()
    shutil.copy(undisturbed[1] / "spec.json", directory)
    return directory


def command(directory: Path, cache: Path) -> list[str]:
    words = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache)]
    return [*words, "--cores", "1", "--checkpoint-seconds", "0.2"]


def assert_ends_as(directory: Path, undisturbed) -> None:
    cache, reference = undisturbed
    done = run_launch(command(directory, cache))
    assert done.returncode == 0, done.stderr
    mine, its = (json.loads((path / "result.json").read_text()) for path in (directory, reference))
    assert mine["evals"] == its["evals"]
    assert mine["train_loss"] == its["train_loss"]
    assert not (directory / "error.txt").exists()


def no_file_beyond(size: int):
    """For a child process: writes past `size` bytes of a file fail, as on a full disk, and do not kill."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [5_000, 700])
def test_a_disk_that_is_full_during_log_or_checkpoint_writes(undisturbed, fresh, size):
    done = run_launch(command(fresh, undisturbed[0]), preexec_fn=no_file_beyond(size))
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr
    assert not (fresh / "result.json").exists()
    assert_ends_as(fresh, undisturbed)


def test_signals_before_and_during_compilation_and_twice(undisturbed, fresh):
    for wait in (0.0, 0.7, 2.0):
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command(fresh, undisturbed[0]), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 300
        while not (fresh / ".lock").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(wait)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        _, words = process.communicate(timeout=300)
        assert process.returncode in (0, 75), words
    assert_ends_as(fresh, undisturbed)


def test_a_token_cache_deleted_between_attempts_is_built_again(undisturbed, fresh, tmp_path):
    cache = Path(shutil.copytree(undisturbed[0], tmp_path / "cache", symlinks=True))
    shutil.rmtree(cache / "tokens", ignore_errors=True)
    assert not (cache / "tokens").exists()
    assert_ends_as(fresh, (cache, undisturbed[1]))


def test_a_signal_during_a_save(undisturbed, fresh):
    process = subprocess.Popen(command(fresh, undisturbed[0]), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    # Orbax writes into a folder with "tmp" in its name and renames it when it is whole.
    while not any("tmp" in path.name for path in (fresh / "checkpoints").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.0005)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 75 and "saved" in words
    assert not any("tmp" in path.name for path in (fresh / "checkpoints").glob("*"))
    assert_ends_as(fresh, undisturbed)


def test_torn_lines_of_an_attempt_that_was_cut_off(undisturbed, fresh):
    _, reference = undisturbed
    shutil.copytree(reference, fresh, dirs_exist_ok=True)
    (fresh / "result.json").unlink()
    newest = max((fresh / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.rmtree(newest)  # the power was cut before the last save
    for name in ("metrics.jsonl", "evals.jsonl"):
        os.truncate(fresh / name, (fresh / name).stat().st_size - 7)
    assert_ends_as(fresh, undisturbed)


# An accelerator whose memory does not suffice, as XLA reports it.
NO_MEMORY = """
import sys, jax
from training import lanes, run
def refuse(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.")
lanes.make_train_step = lambda *_, **__: refuse
sys.exit(run.main())
"""


def test_an_accelerator_out_of_memory_says_what_to_lower(undisturbed, fresh):
    words = [sys.executable, "-c", NO_MEMORY, *command(fresh, undisturbed[0])[3:]]
    failed = run_launch(words)
    assert failed.returncode == 1
    for word in ("out of memory", "optim.microbatch_tokens", "model.remat=block", "error.txt"):
        assert word in failed.stderr
    assert "RESOURCE_EXHAUSTED" in (fresh / "error.txt").read_text()
    assert_ends_as(fresh, undisturbed)
