"""A cache that is only read, and one that two users of a group share."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.small import ROOT, cache_folder, launch_command, write_corpus

pytestmark = pytest.mark.slow

MORE = (
    "--sizes", "1", "--tokens", "4096", "--no-trunk", "--set", "data.validation_tokens=512",
    "data.skills=copying@0.1", "data.skill_tokens=4096",
)  # fmt: skip


def as_(umask: int, command: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, umask=umask, capture_output=True, text=True, check=False, timeout=600, **options
    )


def result_of(runs: Path) -> dict:
    (path,) = runs.glob("*/*/result.json")
    return json.loads(path.read_text())


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="mounts need root")
def test_a_complete_cache_that_is_mounted_read_only_is_enough(tmp_path):
    corpus, cache = write_corpus(tmp_path / "corpus", 60), cache_folder(tmp_path)
    (cache / "xla").unlink()  # its own, read-only too
    task = ('tasks=["copying"]', "task_items=20")
    command = launch_command(corpus, tmp_path / "one", cache, *MORE, "--set", *task)
    assert as_(0o022, command).returncode == 0
    shutil.rmtree(cache / "overlap")
    mount = f"mount --bind {cache} {cache} && mount -o remount,bind,ro {cache} && exec "
    words = launch_command(corpus, tmp_path / "two", cache, *MORE, "--set", *task)
    done = as_(0o022, ["unshare", "-m", "sh", "-c", mount + subprocess.list2cmdline(words)])
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not (cache / "overlap").exists()
    assert result_of(tmp_path / "two")["evals"] == result_of(tmp_path / "one")["evals"]


@pytest.mark.parametrize(
    ("umask", "group"), [(0o002, 0o060), pytest.param(0o027, 0o040, marks=pytest.mark.long)]
)
def test_the_umask_decides_in_every_file(tmp_path, umask, group):
    """Corpus, tokens, skills, run and checkpoints: what the group may do, and that others may not."""
    corpus, runs, cache = write_corpus(tmp_path / "corpus", 60), tmp_path / "runs", tmp_path / "cache"
    done = as_(
        umask, launch_command(corpus, runs, cache, *MORE, "data.tokenizer=bpe:300", "model.vocabulary=300")
    )
    assert done.returncode == 0, done.stderr
    files = [path for root in (runs, cache) for path in root.rglob("*") if "xla" not in path.parts]
    assert len(files) > 60
    wrong = {str(path): oct(path.stat().st_mode) for path in files if path.stat().st_mode & 0o060 != group}
    assert not wrong
    if umask == 0o027:
        assert not [path for path in files if path.stat().st_mode & 0o007]


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="other users need root")
def test_two_users_of_a_group_share_a_cache(tmp_path):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        shared = Path(name)
        shared.chmod(0o755)
        corpus, cache = write_corpus(shared / "corpus", 60), shared / "cache"
        cache.mkdir()
        shutil.chown(cache, 12001, 13000)
        cache.chmod(0o2775)
        for user, tokenizer in ((12001, "byte"), (12002, "bpe:300"), (12001, "char")):
            command = ["setpriv", f"--reuid={user}", "--regid=13000", "--clear-groups", sys.executable]
            command += ["-m", "data.cache", "--corpus", f"text:{corpus}", "--tokenizer", tokenizer]
            done = as_(0o002, [*command, "--root", str(cache)], env={**os.environ, "HOME": name})
            if "Permission denied: '/" in done.stderr and str(shared) not in done.stderr:
                pytest.skip("another user cannot read this checkout")
            assert done.returncode == 0, (user, tokenizer, done.stderr)
