"""Programs that were compiled for another machine: XLA's page of text about it goes to the run's log alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jax._src import compilation_cache

from tests.support.small import ROOT

STOPPED = Path("runs", "stored", "w8-l1-t32.8k-s1-c27cd425")


def resume(copy: Path, run: Path) -> subprocess.CompletedProcess:
    """Resume the stored run that was stopped, from its first state."""
    shutil.rmtree(copy / run, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "stored" / run, copy / run)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", "training.run", str(run), "--cache", "cache", "--cores", "1"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_a_cache_of_another_machine_is_no_word_in_the_terminal(tmp_path):
    shutil.copytree(ROOT / "tests" / "stored" / "corpus", tmp_path / "corpus")
    first = resume(tmp_path, STOPPED)
    assert first.returncode == 0, first.stderr
    assert not (tmp_path / STOPPED / "worker.log").exists()
    altered = 0
    for path in (tmp_path / "cache").rglob("jit_step*-cache"):
        program = compilation_cache.decompress_executable(path.read_bytes())
        path.write_bytes(compilation_cache.compress_executable(program.replace(b"+popcnt,", b"+nosuch,")))
        altered += b"+popcnt," in program
    if not altered:
        pytest.skip("this processor's features are not written into compiled programs")
    second = resume(tmp_path, STOPPED)
    assert second.returncode == 0, second.stderr
    assert (second.stdout, second.stderr.strip()) == (first.stdout, first.stderr.strip())
    assert "nosuch" in (tmp_path / STOPPED / "worker.log").read_text()
