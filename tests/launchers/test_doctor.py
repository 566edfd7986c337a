"""The doctor finds damage that was done for real, explains it, and mends what needs no training."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

import launch
from launchers.doctor.examine import examine
from tests.support.small import cache_folder, final_evals, launch_command, run_launch, write_corpus
from training.records import run_lock

pytestmark = pytest.mark.slow

SMALL = ("--sizes", "1", "--tokens", "32768", "49152")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A trunk and two branches, trained: (launch command without its --runs, sweep directory)."""
    folder = tmp_path_factory.mktemp("healthy")
    corpus = write_corpus(folder / "corpus")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *SMALL))
    assert done.returncode == 0, done.stderr
    return corpus, folder / "cache", folder / "runs" / "quickstart"


@pytest.fixture
def sweep(healthy, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(healthy[2], tmp_path / "runs" / "quickstart"))


def run_of(sweep: Path, kind: str) -> Path:
    """The trunk's directory, or the first branch's."""
    for path in sorted(sweep.glob("w*/")):
        is_branch = json.loads((path / "spec.json").read_text())["parent"] is not None
        if is_branch == (kind == "branch"):
            return path
    raise AssertionError(kind)


def problems(sweep: Path) -> dict[str, str]:
    return {finding.where: f"{finding.problem}; {finding.remedy}" for finding in examine(sweep)}


def launch_again(healthy, sweep: Path):
    corpus, cache, _ = healthy
    return run_launch(launch_command(corpus, sweep.parent, cache, *SMALL))


def test_a_healthy_sweep_has_nothing_wrong(healthy, sweep, capsys):
    assert examine(sweep) == []
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file()}
    assert launch.main(["doctor", str(sweep), "--repair"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    changed = [path for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert not changed


def test_what_can_be_mended_is_mended_without_training(healthy, sweep, capsys):
    branch, trunk = run_of(sweep, "branch"), run_of(sweep, "trunk")
    with (branch / "metrics.jsonl").open("a") as file:
        file.write('{"tokens": 12')
    with (branch / "evals.jsonl").open("a") as file:
        file.write("\0\0\0\0")
    (branch / "result.json").write_text("")
    (branch / "ledger.json").unlink()
    (trunk / "error.txt").write_text("an old failure\n")
    old = trunk / ".result.json.abc.tmp"
    old.write_text("{")
    os.utime(old, (time.time() - 3600,) * 2)
    (trunk / "checkpoints" / "64.orbax-checkpoint-tmp-1").mkdir()
    found = problems(sweep)
    assert set(found) == {
        f"{branch.name}/metrics.jsonl",
        f"{branch.name}/evals.jsonl",
        f"{branch.name}/result.json",
        f"{branch.name}/ledger.json",
        f"{trunk.name}/error.txt",
        f"{trunk.name}/.result.json.abc.tmp",
        f"{trunk.name}/checkpoints/64.orbax-checkpoint-tmp-1",
    }
    assert "trains nothing" in found[f"{branch.name}/result.json"]
    assert launch.main(["doctor", str(sweep), "--json"]) == 1
    assert all(item["repairable"] and not item["repaired"] for item in json.loads(capsys.readouterr().out))
    assert launch.main(["doctor", str(sweep), "--repair"]) == 0
    capsys.readouterr()
    assert examine(sweep) == []
    reference = healthy[2]
    assert (branch / "ledger.json").read_text() == (reference / branch.name / "ledger.json").read_text()
    assert (branch / "metrics.jsonl").read_text() == (reference / branch.name / "metrics.jsonl").read_text()
    done = launch_again(healthy, sweep)
    assert done.returncode == 0, done.stderr
    assert final_evals(sweep) == final_evals(reference)
    assert (branch / "metrics.jsonl").read_text() == (reference / branch.name / "metrics.jsonl").read_text()


def test_what_needs_training_is_explained_and_left_alone(healthy, sweep, capsys):
    trunk, branch = run_of(sweep, "trunk"), run_of(sweep, "branch")
    mark = json.loads((branch / "spec.json").read_text())["branch_at_tokens"]
    files = sorted((trunk / "checkpoints" / str(mark)).rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate([path for path in files if path.is_file()][-1], 10)
    other = next(path for path in sweep.glob("w*/") if path not in (trunk, branch))
    (other / "result.json").unlink()
    shutil.rmtree(other / "checkpoints")
    (other / "error.txt").write_text("Traceback\n\nout of memory: lower something\n")
    lines = (branch / "metrics.jsonl").read_text().splitlines(keepends=True)
    (branch / "metrics.jsonl").write_text("".join(lines[:1] + lines[2:] + lines[-1:]))
    (sweep / "stray").mkdir()
    (sweep / "stray" / "metrics.jsonl").write_text("")
    (sweep / "bad").mkdir()
    (sweep / "bad" / "spec.json").write_text("{torn")
    found = problems(sweep)
    assert "train it again" in found[f"{trunk.name}/checkpoints/{mark}"]
    assert "failed: out of memory: lower something" in found[other.name]
    assert "spec.json" in " ".join(found) and "not readable as JSON" in found["bad/spec.json"]
    assert "is missing, though the folder holds a run's files" in found["stray/spec.json"]
    assert (
        "rows are there twice" in found[f"{branch.name}/metrics.jsonl"]
        or "steps are missing" in found[f"{branch.name}/metrics.jsonl"]
    )
    assert launch.main(["doctor", str(sweep), "--repair"]) == 1
    capsys.readouterr()
    assert problems(sweep) == found


def test_a_branch_that_can_never_start_is_named(sweep):
    trunk, branch = run_of(sweep, "trunk"), run_of(sweep, "branch")
    mark = json.loads((branch / "spec.json").read_text())["branch_at_tokens"]
    (branch / "result.json").unlink()
    shutil.rmtree(branch / "checkpoints")
    shutil.rmtree(trunk / "checkpoints" / str(mark))
    assert f"no checkpoint at {mark} tokens" in problems(sweep)[branch.name]
    shutil.rmtree(trunk)
    assert f"its trunk {trunk.name} is not in the sweep" in problems(sweep)[branch.name]


def test_a_run_that_a_live_process_holds_is_left_alone(sweep):
    branch = run_of(sweep, "branch")
    (branch / "ledger.json").unlink()
    with run_lock(branch):
        assert problems(sweep) == {}
    assert f"{branch.name}/ledger.json" in problems(sweep)


def test_mistakes_of_the_command(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        launch.main(["doctor", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert "no such sweep" in capsys.readouterr().err
