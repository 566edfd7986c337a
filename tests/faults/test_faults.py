"""Nothing is lost: kill -9 at random moments, stop signals, damaged checkpoints; the end is the same to the bit."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.config import DataConfig
from experiments.scaling import ScalingRule
from launchers.local.launch import LocalOptions, launch
from tests.support.killing import assert_same_runs, kill_everything, logged, on_one_core, start
from tests.support.small import ROOT, cache_folder, final_evals, launch_command, run_launch, write_corpus
from training.cost import training_flops

pytestmark = pytest.mark.long

TINY = ("--sizes", "2", "--tokens", "65536", "131072", "--checkpoint-seconds", "0.2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A small sweep trained without interruption: (corpus, cache, sweep directory)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus = write_corpus(folder / "corpus")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *TINY))
    assert done.returncode == 0, done.stderr
    return corpus, folder / "cache", folder / "runs" / "quickstart"


def is_trunk(result: Path) -> bool:
    """Whether a result.json is that of a run that needs no other."""
    return json.loads(result.read_text())["role"] == "trunk"


def test_sigterm_saves_and_exits_75_and_the_same_command_resumes(undisturbed, tmp_path):
    corpus, cache, reference = undisturbed
    sweep = tmp_path / "runs" / "quickstart"
    command = launch_command(corpus, tmp_path / "runs", cache, *TINY, "--checkpoint-seconds", "1000")
    process = start(command, sweep)
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size > 500 for path in sweep.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75
    stopped = [path.parent for path in sweep.glob("*/env.json") if not (path.parent / "result.json").exists()]
    assert stopped
    assert all(any((directory / "checkpoints").glob("[0-9]*")) for directory in stopped)
    assert run_launch(command).returncode == 0
    assert_same_runs(sweep, reference)


def test_a_single_run_stops_and_resumes_by_its_own_command(undisturbed, tmp_path):
    _, cache, reference = undisturbed
    name = max(path.parent.name for path in reference.glob("*/result.json") if is_trunk(path))
    directory = tmp_path / name
    directory.mkdir()
    shutil.copy(reference / name / "spec.json", directory)
    command = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=on_one_core)
    deadline = time.monotonic() + 300
    while not (directory / "metrics.jsonl").exists() or (directory / "metrics.jsonl").stat().st_size < 500:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 75
    assert "saved" in words
    assert run_launch(command, preexec_fn=on_one_core).returncode == 0
    result = json.loads((directory / "result.json").read_text())
    assert result["evals"] == final_evals(reference)[name]
    assert result["attempts"] == 2


@pytest.mark.parametrize("damage", ["truncate", "remove", "uncommitted"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(undisturbed, tmp_path, damage):
    _, cache, reference = undisturbed
    name = min(path.parent.name for path in reference.glob("*/result.json") if is_trunk(path))
    directory = tmp_path / name
    shutil.copytree(reference / name, directory)
    (directory / "result.json").unlink()
    newest = max((directory / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    assert len(list((directory / "checkpoints").glob("[0-9]*"))) >= 2
    files = sorted((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if damage == "truncate":
        os.truncate(files[-1], files[-1].stat().st_size // 2)
    elif damage == "remove":
        files[-1].unlink()
    else:
        newest.rename(newest.with_name(f"{newest.name}.orbax-checkpoint-tmp-0"))
    command = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache)]
    done = run_launch(command, preexec_fn=on_one_core)
    assert done.returncode == 0, done.stderr
    assert json.loads((directory / "result.json").read_text())["evals"] == final_evals(reference)[name]
    if damage != "uncommitted":
        assert f"checkpoint at {newest.name} tokens is unreadable" in done.stderr


def test_a_finished_sweep_trains_nothing_again(undisturbed):
    corpus, cache, reference = undisturbed
    before = {
        path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.suffix in (".json", ".jsonl")
    }
    started = time.monotonic()
    done = run_launch(launch_command(corpus, reference.parent, cache, *TINY))
    assert done.returncode == 0
    assert "0 trained, 6 already complete" in done.stdout
    assert time.monotonic() - started < 20
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_two_launchers_on_one_sweep_the_second_is_refused(undisturbed, tmp_path):
    corpus, cache, reference = undisturbed
    sweep = tmp_path / "runs" / "quickstart"
    command = launch_command(corpus, tmp_path / "runs", cache, *TINY)
    first = start(command, sweep)
    deadline = time.monotonic() + 300
    while not list(sweep.glob("*/env.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = run_launch(command)
    assert second.returncode == 2
    assert second.stderr.strip().startswith("error:")
    assert "another launcher" in second.stderr
    assert first.wait(timeout=300) == 0
    assert_same_runs(sweep, reference)


def test_a_diverging_run_fails_alone_and_names_its_step(undisturbed, tmp_path):
    corpus, cache, _ = undisturbed
    command = launch_command(
        corpus, tmp_path / "runs", cache, "--sizes", "1", "--tokens", "65536", "--no-trunk"
    )
    arguments = ["--set", "optim.learning_rate=1e6", "optim.clip_norm=0"]
    failed = run_launch([*command, *arguments])
    assert failed.returncode == 1
    assert "diverged at step" in failed.stderr
    assert "last good checkpoint" in failed.stderr
    (cause,) = (tmp_path / "runs").rglob("error.txt")
    assert "diverged at step" in cause.read_text()
    assert not (cause.parent / "result.json").exists()
    done = run_launch(command)
    assert done.returncode == 0
    assert "1 trained" in done.stdout


def test_a_branch_equals_a_run_from_scratch_to_the_last_bit_though_killed(undisturbed, tmp_path):
    corpus, cache, _ = undisturbed
    data = DataConfig(corpus=f"text:{corpus}", validation_tokens=8192)
    rule = ScalingRule(data=data)
    trunk, *branches = rule.trunk_and_branches(0, (65_536, 131_072), model=rule.shape(16, 2))
    scratch = [dataclasses.replace(branch, parent=None, branch_at_tokens=None) for branch in branches]
    sweep = tmp_path / "sweep"
    options = LocalOptions(cache_root=cache, checkpoint_seconds=0.2)
    code = f"import tests.faults.test_faults as t; t.launch_family({str(sweep)!r}, {str(corpus)!r}, {str(cache)!r})"
    for victim in (trunk, branches[-1]):
        process = start([sys.executable, "-c", code], sweep)
        deadline = time.monotonic() + 300
        log = sweep / victim.run_id / "metrics.jsonl"
        while not log.exists() or log.stat().st_size < 1500:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        kill_everything(process, sweep)
    summary = launch(sweep, [trunk, *branches, *scratch], options)
    assert summary.status == 0, summary
    evals = final_evals(sweep)
    for branch, whole in zip(branches, scratch, strict=True):
        assert evals[branch.run_id] == evals[whole.run_id]
        mine, theirs = (logged(sweep / spec.run_id / "metrics.jsonl") for spec in (branch, whole))
        assert min(tokens for tokens, _ in mine) == branch.branch_at_tokens + branch.batch_tokens
        for key, row in mine.items():
            assert row["loss"] == theirs[key]["loss"]
            assert row["flops"] == theirs[key]["flops"]
        result = json.loads((sweep / branch.run_id / "result.json").read_text())
        assert result["trained_tokens"] == branch.tokens - branch.branch_at_tokens
    shared = sum(spec.trained_tokens for spec in (trunk, *branches))
    assert (
        sum(map(training_flops, (trunk, *branches))) == training_flops(scratch[0]) / scratch[0].tokens * shared
    )


def launch_family(sweep: str, corpus: str, cache: str) -> None:
    """Launch the trunk and branches of the test above, as a process that can be killed."""
    rule = ScalingRule(data=DataConfig(corpus=f"text:{corpus}", validation_tokens=8192))
    runs = rule.trunk_and_branches(0, (65_536, 131_072), model=rule.shape(16, 2))
    launch(Path(sweep), runs, LocalOptions(cache_root=Path(cache), checkpoint_seconds=0.2))


def test_a_branch_without_its_trunk_says_what_it_misses(undisturbed, tmp_path):
    corpus, cache, _ = undisturbed
    rule = ScalingRule(data=DataConfig(corpus=f"text:{corpus}", validation_tokens=8192))
    _, branch = rule.trunk_and_branches(0, (65_536,), model=rule.shape(16, 2))
    summary = launch(tmp_path / "sweep", [branch], LocalOptions(cache_root=cache))
    assert summary.status == 2
    assert str(branch.parent) in summary.refused[branch.run_id]
