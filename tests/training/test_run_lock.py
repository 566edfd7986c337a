"""The lock of a run and of a sweep: a file of its own, whatever somebody has put in its place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import BadInput
from core.rundir import LAUNCHER_LOCK, LOCK
from launchers.local.launch import sweep_lock
from tests.support.small import ROOT
from training.records import is_locked, run_lock


@pytest.fixture
def precious(tmp_path) -> Path:
    path = tmp_path / "precious.txt"
    path.write_text("kept")
    return path


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_is_kept(tmp_path, precious):
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).symlink_to(precious)
    with pytest.raises(BadInput, match=rf"{run}/\.lock: is a link or no regular file"), run_lock(run):
        pass
    assert not is_locked(run)
    (tmp_path / LAUNCHER_LOCK).symlink_to(precious)
    with pytest.raises(BadInput, match="is a link or no regular file"), sweep_lock(tmp_path):
        pass
    assert precious.read_text() == "kept"


def test_a_fifo_in_the_place_of_a_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(BadInput, match="is a link or no regular file"), run_lock(tmp_path):
        pass
    assert not is_locked(tmp_path)


def test_training_says_so_in_one_line(tmp_path, precious):
    stored = next((ROOT / "tests" / "stored" / "runs" / "stored").glob("w8-l1-t8.19k-*"))
    run = tmp_path / "sweep" / stored.name
    run.mkdir(parents=True)
    (run / "spec.json").write_bytes((stored / "spec.json").read_bytes())
    (run / LOCK).symlink_to(precious)
    done = subprocess.run(
        [sys.executable, "-m", "training.run", str(run), "--cache", str(tmp_path / "cache")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"{run}/.lock: is a link or no regular file, which is not written to; remove it" in done.stderr
    assert "Traceback" not in done.stderr
    assert precious.read_text() == "kept"
