"""A disk that is full or read-only under a run, its checkpoints and its token cache: said plainly, nothing is lost.

As root the disk is a small tmpfs of its own; elsewhere a limit on the size of files and a folder without write
permission do the same to the writes.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.small import cache_folder, final_evals, launch_command, run_launch, write_corpus

pytestmark = pytest.mark.long

ROOMY = 64 << 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A trunk and its branch, trained without interruption: (cache, sweep directory)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus = write_corpus(folder / "corpus")
    more = ("--sizes", "1", "--tokens", "65536")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *more))
    assert done.returncode == 0, done.stderr
    return folder / "cache", folder / "runs" / "quickstart"


class Disk:
    """A folder on a disk of its own size that can be made larger, or read-only and writable again."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size, self.writable = folder, size, True
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(words, check=False).returncode == 0

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=True)

    def grow(self) -> None:
        self.size = ROOMY
        if self.mounted:
            self.remount(f"size={ROOMY}")

    def allow_writes(self, allowed: bool) -> None:
        if self.mounted:
            self.remount("rw" if allowed else "ro")
        else:
            for path in (self.folder, *self.folder.rglob("*")):
                path.chmod(path.stat().st_mode | 0o200 if allowed else path.stat().st_mode & ~0o222)

    @property
    def preexec(self) -> Callable[[], None] | None:
        """For a child process, where there is no tmpfs: no file of it grows beyond a twentieth of the disk."""
        if self.mounted or self.size >= ROOMY:
            return None
        most = self.size // 20

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        return limit


@contextlib.contextmanager
def disk_of(folder: Path, size: int) -> Iterator[Disk]:
    disk = Disk(folder, size)
    try:
        yield disk
    finally:
        if disk.mounted:
            subprocess.run(["umount", str(folder)], check=True)


def train(directory: Path, cache: Path, disk: Disk) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache), "--cores", "1"]
    return run_launch([*words, "--checkpoint-seconds", "0.1"], preexec_fn=disk.preexec)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_of(sweep: Path, role: str) -> Path:
    (path,) = [path for path in sweep.glob("*/result.json") if json.loads(path.read_text())["role"] == role]
    return path.parent


def test_a_full_and_a_read_only_disk_under_a_run_beside_a_finished_one(undisturbed, tmp_path):
    cache, reference = undisturbed
    trunk, branch = run_of(reference, "trunk"), run_of(reference, "branch")
    used = sum(max(4096, len(data)) + 4096 for data in content(trunk).values())
    with disk_of(tmp_path / "sweep", used + 128 * 1024) as disk:
        shutil.copytree(trunk, disk.folder / trunk.name)
        directory = disk.folder / branch.name
        directory.mkdir()
        shutil.copy(branch / "spec.json", directory)
        finished = content(disk.folder / trunk.name)

        full = train(directory, cache, disk)
        assert full.returncode == 1, full.stderr
        assert "no space left" in full.stderr and "the same command resumes" in full.stderr
        assert not (directory / "result.json").exists()

        disk.grow()
        disk.allow_writes(False)
        refused = train(directory, cache, disk)
        if os.geteuid() != 0 or disk.mounted:
            assert refused.returncode == 1, refused.stderr
            assert "writable" in refused.stderr and str(directory) in refused.stderr
        disk.allow_writes(True)

        done = train(directory, cache, disk)
        assert done.returncode == 0, done.stderr
        assert final_evals(disk.folder) == final_evals(reference)
        assert content(disk.folder / trunk.name) == finished, "a finished run was touched"


def test_a_disk_that_is_full_while_tokens_are_cached(undisturbed, tmp_path):
    _, reference = undisturbed
    trunk = run_of(reference, "trunk")
    directory = tmp_path / trunk.name
    directory.mkdir()
    shutil.copy(trunk / "spec.json", directory)
    with disk_of(tmp_path / "cache", 160 * 1024) as disk:
        full = train(directory, disk.folder, disk)
        assert full.returncode == 1, full.stderr
        assert "no space left" in full.stderr and str(disk.folder) in full.stderr
        disk.grow()
        done = train(directory, disk.folder, disk)
        assert done.returncode == 0, done.stderr
    assert json.loads((directory / "result.json").read_text())["evals"] == final_evals(reference)[trunk.name]
