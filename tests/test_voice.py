"""Ours is the only voice in the terminal; what libraries say is in a log, which is named where something fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small import ROOT

THEIRS = ("words of C", "words of a logger", "words of absl", "words of a warning")
OURS = "our own note\nwarning: our own warning\nour own words\n"


def noisy(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.noisy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("log", [True, False])
def test_libraries_speak_into_the_log_alone(tmp_path, log):
    path = tmp_path / ".workers" / "worker.log"
    done = noisy("well", *[str(path)] * log)
    assert (done.returncode, done.stdout, done.stderr) == (0, "words on standard output\n", OURS)
    if log:
        said = path.read_text()
        assert all(words in said for words in THEIRS)
        assert "our own" not in said


@pytest.mark.parametrize("end", ["raise", "fail", "abort", "kill"])
def test_where_something_fails_the_log_is_named_with_its_last_lines(tmp_path, end):
    path = tmp_path / "worker.log"
    path.write_text("words of an earlier process\n")
    done = noisy(end, str(path))
    assert done.returncode not in (0, None)
    assert done.stderr.startswith(OURS)
    assert f"is in {path}" in done.stderr and "words of absl" in done.stderr
    assert ("our own fault" in done.stderr) == (end == "raise")
    assert "earlier" not in done.stderr


def test_without_a_log_the_last_lines_are_shown_all_the_same():
    done = noisy("raise")
    assert "ValueError: our own fault" in done.stderr and "words of absl" in done.stderr


def test_a_log_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "file").touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    for path in ("file/worker.log", "none/worker.log", "link", "fifo"):
        done = noisy("well", str(tmp_path / path))
        assert (done.returncode, done.stderr) == (0, OURS)
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "none").exists()


def test_a_command_that_nobody_speaks_into_leaves_no_log(tmp_path):
    program = (
        "import sys; from pathlib import Path; from core import begin, voice; begin.command(1); "
        f"voice.keep(Path({str(tmp_path / 'worker.log')!r})); print('ours', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "ours\n" and not list(Path(tmp_path).iterdir())
