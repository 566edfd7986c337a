"""A run that another sweep has finished is copied, whole and for good; a run that only seems finished is not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from core.rundir import RunDirectory, SweepDirectory
from core.sweep_file import read_sweep_file
from launchers.budget import left_to_train
from launchers.condition import condition
from launchers.elsewhere import HIDDEN, copy_finished
from tests.launchers.test_status import SPEC, whole_run

TEXT = "f" * 64  # that of tests/support/run_records.py


@pytest.fixture
def runs(tmp_path) -> Path:
    """runs/first with one sealed run and its checkpoint, and runs/second, which is to read the same text."""
    run = whole_run(tmp_path / "first")
    folder = run.checkpoint(SPEC.tokens)
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "array").write_bytes(b"numbers")
    run.write_result(run.seal(run.read_result()))
    (run.path / "worker.log").write_text("words")
    (run.path / ".lease.3").write_text("{}")
    SweepDirectory(tmp_path / "second").write_prepared({SPEC.run_id: TEXT})
    return tmp_path


def copied(runs: Path) -> RunDirectory:
    return SweepDirectory(runs / "second").run(SPEC.run_id)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_finished_run_is_copied_and_said_in_one_line(runs):
    todo, elsewhere = left_to_train([SPEC], runs / "second")
    assert (todo, list(elsewhere)) == ([], [SPEC.run_id])
    (line,) = copy_finished(runs / "second", [SPEC])
    assert line.endswith(f"1 run was complete in other sweeps and copied, not trained: 1 from {runs / 'first'}")
    run = copied(runs)
    assert condition(run, SPEC, run.completion().result or {}) == []
    source = files(runs / "first" / SPEC.run_id)
    assert files(run.path) == {name: source[name] for name in source if name not in ("worker.log", ".lease.3")}
    record = read_sweep_file(runs / "second")
    assert record is not None
    assert record["copied"][SPEC.run_id]["sweep"] == str(runs / "first")
    assert not list((runs / "second").glob(f"{HIDDEN}*"))
    assert copy_finished(runs / "second", [SPEC]) == []


def test_neither_sweep_reaches_into_the_other(runs):
    copy_finished(runs / "second", [SPEC])
    before = files(copied(runs).path)
    source = RunDirectory(runs / "first" / SPEC.run_id)
    for path in source.path.glob("*.json*"):
        with path.open("ab") as file:  # as a backfill, which appends
            file.write(b"{}\n")
    assert files(copied(runs).path) == before
    shutil.rmtree(runs / "first")
    assert files(copied(runs).path) == before


def test_a_run_that_has_only_its_spec_here_is_copied_and_one_that_has_begun_is_left(runs):
    run = copied(runs)
    run.path.mkdir()
    shutil.copy(runs / "first" / SPEC.run_id / "spec.json", run.path)
    assert copy_finished(runs / "second", [SPEC])
    run.result.unlink()
    before = files(run.path)
    assert copy_finished(runs / "second", [SPEC]) == []
    assert files(run.path) == before


def change(run: RunDirectory, name: str, old: str, new: str) -> None:
    path = run.path / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda run: change(run, "evals.jsonl", "2.5", "2.4"), "checksum differs"),
        (lambda run: change(run, "result.json", "2.5", "2.4"), "changed after the run was complete"),
        (lambda run: change(run, "env.json", "f" * 64, "0" * 64), "checksum differs"),
        (lambda run: run.metrics.unlink(), "metrics.jsonl is missing"),
        (lambda run: run.write_result({k: v for k, v in run.read_result().items() if k not in ("files", "sha256")}),
         "has no checksums"),
        (lambda run: (run.ledger.unlink(), os.mkfifo(run.ledger)), "FIFO"),
        (lambda run: (run.checkpoint(SPEC.tokens) / "link").symlink_to("/etc/passwd"), "is a link"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_what_it_was_is_not_taken_and_that_is_said(runs, spoil, why):
    spoil(RunDirectory(runs / "first" / SPEC.run_id))
    (line,) = copy_finished(runs / "second", [SPEC])
    assert "cannot be copied" in line
    assert why in line
    assert len(line.splitlines()) == 1
    assert not copied(runs).path.exists()
    assert not list((runs / "second").glob(f"{HIDDEN}*"))


def test_a_run_of_another_text_is_not_taken(runs):
    SweepDirectory(runs / "second").write_prepared({SPEC.run_id: "0" * 64})
    (line,) = copy_finished(runs / "second", [SPEC])
    assert "has read another text than the one that is here" in line


def test_a_second_sweep_that_is_whole_serves_where_the_first_is_not(runs):
    shutil.copytree(runs / "first", runs / "third")
    change(RunDirectory(runs / "first" / SPEC.run_id), "evals.jsonl", "2.5", "2.4")
    (line,) = copy_finished(runs / "second", [SPEC])
    assert line.endswith(f"1 from {runs / 'third'}")


def test_a_run_that_is_held_back_for_a_forecast_is_trained(runs):
    held = {"runs": [{"run": SPEC.run_id, "params": 1, "tokens": 1}], "trunks": []}
    (runs / "second" / "held_back.json").write_text(json.dumps(held))
    assert copy_finished(runs / "second", [SPEC]) == []


def test_a_link_to_the_same_sweep_is_no_other_sweep(runs):
    (runs / "same").symlink_to(runs / "first")
    SweepDirectory(runs / "first").write_prepared({SPEC.run_id: TEXT})
    assert copy_finished(runs / "first", [SPEC]) == []
