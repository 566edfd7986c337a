"""A disk that is full, read-only or limited under every command that writes: one line that names the path, status 1.

Nothing is trained: the sweep is the stored one.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_injected_disk_faults import Disk, disk_of
from tests.support.small import ROOT, write_corpus

pytestmark = pytest.mark.long

STORED = ROOT / "tests" / "stored" / "runs" / "stored"
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A disk that holds the stored sweep, one of whose logs has a torn line, and has little room left."""
    with disk_of(tmp_path / "disk", 4 << 20) as made:
        if not made.mounted:
            pytest.skip("only root can mount a disk of its own")
        shutil.copytree(STORED, made.folder / "stored")
        run = min(path for path in (made.folder / "stored").glob("w*"))
        with (run / "metrics.jsonl").open("a") as log:
            log.write('{"tokens": 12')
        yield made


def fill(disk: Disk) -> None:
    """Leave no byte, in two steps: the last blocks take single bytes only."""
    with (disk.folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def names(folder: Path) -> set[str]:
    """What a reader would take for a whole file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if not path.name.startswith(".")}


COMMANDS = {
    "doctor": ["launch.py", "doctor", "DISK/stored", "--repair"],
    "fit": ["-m", "analysis.fit", "STORED", "--law", "power_flops", "--out", "DISK/fit.json"],
    "isoflop": ["-m", "analysis.isoflop", "STORED", "--bootstrap", "20", "--out", "DISK/isoflop.json"],
    "report": ["-m", "analysis.report", "DISK/stored", "--bootstrap", "0"],
    "plan": ["launch.py", "plan", "--budget", "1e13", "--target", "1e15", "--out", "DISK/plan.json"],
    "data.cache": ["-m", "data.cache", "--corpus", "text:CORPUS", "--root", "DISK/cache"],
    "run": ["launch.py", "run", "quickstart", "--corpus", "text:CORPUS", "--runs", "DISK", "--cache", "CACHE"]
    + ["--set", "data.validation_tokens=1024", "--name", "quickstart"],
}


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_disk_refuses_is_one_line(disk, tmp_path, command, state):
    corpus = write_corpus(tmp_path / "corpus", 100)
    fill(disk)
    if state == "read-only":
        (disk.folder / "filler").unlink()
        disk.allow_writes(False)
    before = names(disk.folder)
    places = {"DISK": disk.folder, "STORED": STORED, "CORPUS": corpus, "CACHE": tmp_path / "cache"}
    words = list(COMMANDS[command])
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (75 if command == "run" else 1), done.stderr
    assert names(disk.folder) == before
    if (command, state) == ("doctor", "read-only"):
        return  # it names every folder that cannot be written
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and str(disk.folder) in said[0], done.stderr
    assert ("no space left" if state == "full" else "Read-only file system") in said[0]
    disk.allow_writes(True)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO"])
def test_every_error_of_a_disk_is_one_line(tmp_path, number):
    """Injected: what a quota or a failing disk answers to the last step of a write."""
    code = (
        "import errno, os, sys\n"
        "from core import begin\n"
        "begin.command(130)\n"
        "def refuse(*_): raise OSError(errno.NUMBER, os.strerror(errno.NUMBER))\n"
        "os.fsync = refuse\n"
        "from analysis.fit.command import main\n"
        f"main([{str(STORED)!r}, '--law', 'power_flops', '--out', {str(tmp_path / 'fit.json')!r}])\n"
    ).replace("NUMBER", number)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert str(tmp_path / "fit.json") in line and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "launch.py", "status", str(STORED)], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: standard output: no space left on device\n"
    assert json.loads((min(STORED.glob("w*")) / "result.json").read_text())
