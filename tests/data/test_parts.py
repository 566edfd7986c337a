"""A build that is stopped ends within seconds, and the next one goes on from what it had finished."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from data import build
from data.cache import open_or_build
from data.config import DataConfig
from data.parts import Parts
from tests.data.conftest import write_documents
from tests.support.small import ROOT

PROGRAM = """
import sys
from pathlib import Path
from core import stop
stop.listen(75, resumes=True)
from core.errors import exit_on_bad_input
from data import build
from data.cache import open_or_build
from data.config import DataConfig
build._KEPT_FROM_BYTES = build._TASK_BYTES = int(sys.argv[4])
with exit_on_bad_input():
    config = DataConfig(corpus="text:" + sys.argv[1], tokenizer=sys.argv[3], sequence_length=16, validation_tokens=64)
    print(open_or_build(config, Path(sys.argv[2]), progress=False).fingerprint)
"""


def start(text: Path, root: Path, tokenizer: str, task_bytes: int) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, str(text), str(root), tokenizer, str(task_bytes)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def parts_of(root: Path) -> dict[str, int]:
    found = {}
    for path in root.glob("tokens/.*.parts/*.npz"):
        with contextlib.suppress(FileNotFoundError):  # the build has ended in between
            found[path.name] = path.stat().st_mtime_ns
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_goes_on_from_its_finished_parts(tmp_path, number):
    text = write_documents(tmp_path / "text", 1500)
    config = DataConfig(corpus=f"text:{text}", tokenizer="bpe:300", sequence_length=16, validation_tokens=64)
    whole = open_or_build(config, tmp_path / "whole", workers=1, progress=False)
    root = tmp_path / "root"
    builder = start(text, root, "bpe:300", 3_000)
    deadline = time.monotonic() + 100
    while sum(name.startswith("train-") for name in parts_of(root)) < 3:
        assert builder.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    builder.send_signal(number)
    began = time.monotonic()
    _, said = builder.communicate(timeout=60)
    assert time.monotonic() - began < 10
    if number == signal.SIGTERM:
        assert builder.returncode == 75, said
        assert said.startswith("stopped by SIGTERM; to go on: ")
    kept = parts_of(root)
    assert any(name.startswith("index-") for name in kept)
    assert any(name.startswith("tokenizer-") for name in kept)
    build_again = start(text, root, "bpe:300", 3_000)
    made: set[str] = set()
    while build_again.poll() is None:
        made |= {name for name, time_ in parts_of(root).items() if kept.get(name) != time_}
        time.sleep(0.005)
    fingerprint, said = build_again.communicate()
    assert build_again.returncode == 0, said
    assert not made & kept.keys()  # nothing that was there was made again
    assert fingerprint.strip() == whole.fingerprint
    again = open_or_build(config, root, workers=1, progress=False)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(again.split(split).tokens, whole.split(split).tokens)
    assert not list(root.glob("tokens/.*.parts")) and not list(root.rglob("*.building-*"))


@pytest.mark.slow
def test_a_tokenizer_that_is_being_trained_ends_with_the_signal(tmp_path):
    """The library trains without a break: in a process of its own, which is ended."""
    chance = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz     \n", np.uint8)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_bytes(chance.choice(letters, 24_000_000).tobytes())
    builder = start(tmp_path / "text", tmp_path / "root", "bpe:20000", 4 * 2**20)
    deadline = time.monotonic() + 200
    while not any(name.startswith("index-") for name in parts_of(tmp_path / "root")):
        assert builder.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(6)
    began = time.monotonic()
    builder.send_signal(signal.SIGTERM)
    _, said = builder.communicate(timeout=60)
    assert (builder.returncode, time.monotonic() - began < 5) == (75, True), said
    assert not [line for line in os.popen(f"ps --ppid {builder.pid} -o pid=")]


def test_a_damaged_part_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_KEPT_FROM_BYTES", 0)
    monkeypatch.setattr(build, "_TASK_BYTES", 3_000)
    text = write_documents(tmp_path / "text", 300)
    config = DataConfig(corpus=f"text:{text}", tokenizer="char", sequence_length=16, validation_tokens=64)
    whole = open_or_build(config, tmp_path / "whole", workers=1, progress=False)
    keep = Parts.keep

    def keep_torn(self, name, made_from, arrays):
        keep(self, name, made_from, arrays)
        if name == "validation-0":
            for path in self._folder.iterdir():
                os.truncate(path, path.stat().st_size // 2)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "keep", keep_torn)
        with pytest.raises(KeyboardInterrupt):
            open_or_build(config, tmp_path / "root", workers=1, progress=False)
    assert parts_of(tmp_path / "root")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = open_or_build(config, tmp_path / "root", workers=1, progress=False)
    assert again.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(again.split("train").tokens, whole.split("train").tokens)
