"""What contradicts what in a run is told by doctor, status and report alike, and its numbers are in no fit."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.logs.files import read_logs
from analysis.logs.load import load_sweep
from core.files import read_json, write_json
from core.rundir import RunDirectory
from launchers.doctor.examine import examine
from launchers.status import show_status
from tests.support.small import ROOT

STORED = ROOT / "tests" / "stored" / "runs" / "stored"
RUNS = ("w8-l1-t8.19k-s0-2614c1b9", "w32-l1-t16.4k-s0-e3dbc986", "w12-l1-t8.19k-s0-0ae9b331")
SCORED = "w12-l1-t32.8k-s0-a706901d"
TRUNK = "w8-l1-t12.3k-s0-4303f4d9"


@pytest.fixture(params=["of an earlier version", "sealed"])
def sweep(request, tmp_path) -> Path:
    for name in (*RUNS, SCORED, TRUNK):
        shutil.copytree(STORED / name, tmp_path / "sweep" / name)
        run = RunDirectory(tmp_path / "sweep" / name)
        if request.param == "sealed":
            run.write_result(run.seal({**run.read_result(), "checkpoints": run.checkpoint_tokens()}))
    return tmp_path / "sweep"


def of_doctor(sweep: Path) -> str:
    return "\n".join(f"{one.where}: {one.problem}" for one in examine(sweep))


def of_status(sweep: Path) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        show_status(sweep, as_json=True)
    return "\n".join(f"{row['run']}: {row['note']}" for row in json.loads(said.getvalue()) if row["note"])


def of_report(sweep: Path) -> str:
    loaded = load_sweep(sweep, read_logs(sweep))
    return "\n".join([*loaded.warnings, *loaded.evaluations().warnings, *loaded.metrics().warnings])


def fitted(sweep: Path) -> dict[str, tuple[float, float, float]]:
    columns = load_sweep(sweep).table().columns
    return {
        str(run): (columns["params"][row], columns["tokens"][row], columns["loss"][row])
        for row, run in enumerate(columns["run"])
    }


def edited(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        value = read_json(run / name)
        change(value)
        (run / name).write_text(json.dumps(value))

    return edit


def rows_edited(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for row in rows:
            change(row)
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    return edit


def ten_times(tree: dict) -> None:
    for key in tree:
        tree[key] *= 10


def loss_of(value: float) -> Callable[[dict], None]:
    return lambda result: result["evals"].update({"val/loss": value})


# What was done to the first run, and whether its final numbers can still be used.
DONE: dict[str, tuple[str, Callable[[Path], object], bool]] = {
    "emptied evals": ("evals.jsonl", lambda run: (run / "evals.jsonl").write_text(""), True),
    "deleted evals": ("evals.jsonl", lambda run: (run / "evals.jsonl").unlink(), True),
    "emptied metrics": ("metrics.jsonl", lambda run: (run / "metrics.jsonl").write_text(""), True),
    "deleted metrics": ("metrics.jsonl", lambda run: (run / "metrics.jsonl").unlink(), True),
    "N ten times too large": ("ledger.json", edited("ledger.json", lambda tree: ten_times(tree["params"])), False),
    "all counts ten times too large": (
        "ledger.json",
        edited("ledger.json", lambda tree: [ten_times(counts) for counts in tree.values()]),
        False,
    ),
    "another val/loss": ("result.json", edited("result.json", loss_of(1.25)), False),
    "a negative val/loss": ("result.json", edited("result.json", loss_of(-1.25)), False),
    "a val/loss above any": ("result.json", edited("result.json", loss_of(99.0)), False),
    "an infinite val/loss": ("result.json", edited("result.json", loss_of(float("inf"))), False),
    "val/loss of the log edited": (
        "evals.jsonl",
        rows_edited("evals.jsonl", lambda row: row["name"] == "val/loss" and row.update(value=1.25)),
        False,
    ),
    "an edited spec": ("spec.json", edited("spec.json", lambda spec: spec["optim"].update(learning_rate=0.5)), False),
    "other data": ("spec.json", edited("spec.json", lambda spec: spec["data"].update(unique_tokens=32)), False),
    "no spec": ("spec.json", lambda run: (run / "spec.json").unlink(), False),
    "tasks of another type": ("tasks.json", lambda run: write_json(run / "tasks.json", {"x": 3}), True),
}  # fmt: skip


@pytest.mark.parametrize("done", DONE)
def test_what_was_done_to_a_run_is_told_by_all(sweep, done):
    file, damage, usable = DONE[done]
    before = fitted(sweep)
    assert of_doctor(sweep) == "" and of_status(sweep) == ""
    damage(sweep / RUNS[0])
    # Without a checksum nobody knows which of two files was changed.
    assert f"{RUNS[0]}/{file}" in of_doctor(sweep) or f"{RUNS[0]}/evals.jsonl" in of_doctor(sweep)
    assert RUNS[0] in of_status(sweep)
    assert RUNS[0] in of_report(sweep)
    after = fitted(sweep)
    assert {run: row for run, row in after.items() if run != RUNS[0]} == {
        run: row for run, row in before.items() if run != RUNS[0]
    }
    sealed = "sha256" in read_json(sweep / RUNS[1] / "result.json")
    if usable or (sealed and done == "val/loss of the log edited"):
        assert after[RUNS[0]] == before[RUNS[0]]
    else:
        assert RUNS[0] not in after


def test_checkpoints_that_are_gone_are_missed(sweep):
    shutil.rmtree(sweep / TRUNK / "checkpoints" / "12288")
    assert f"{TRUNK}/checkpoints" in of_doctor(sweep)


def test_a_copy_of_a_run_counts_once(sweep):
    before = fitted(sweep)
    shutil.copytree(sweep / RUNS[0], sweep / f"{RUNS[0]}.bak")
    assert fitted(sweep) == before
    for said in (of_doctor(sweep), of_status(sweep), of_report(sweep)):
        assert f"{RUNS[0]}.bak" in said
    assert f"{RUNS[0]}.bak: a copy of {RUNS[0]}, which is counted once" in of_report(sweep)


def test_a_run_that_cannot_be_read_hides_no_other(sweep, capsys):
    (sweep / RUNS[0] / "spec.json").unlink()
    (sweep / RUNS[0] / "spec.json").mkdir()
    show_status(sweep)
    said = capsys.readouterr().out
    assert all(run in said for run in (*RUNS, SCORED, TRUNK))
    assert f"warning: 1 runs are damaged and in no fit: {RUNS[0]}" in said
    assert set(fitted(sweep)) == {*RUNS[1:], SCORED}
