"""The files of a run and a sweep: what is written is read back, and whatever is damaged is named in a line."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core import rundir
from core.errors import BadInput
from core.files import JsonLines
from core.records import completion_of, final_evaluation, provenance_of
from core.rundir import RunDirectory, SweepDirectory
from tests.support.run_records import a_result, a_task, an_attempt, an_environment
from tests.support.small import ROOT

LEDGER = {
    "params": {"total": 3, "non_embedding": 1, "non_embedding_plus_head": 2},
    "flops_per_token": {"exact": 1.5},
}
HELD_BACK = {"runs": [{"run": "w96", "params": 5, "tokens": 7}], "trunks": ["w96-trunk"]}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    directory = SweepDirectory(tmp_path).run("w16-l2")
    directory.path.mkdir()
    return directory


def test_what_is_written_is_read_back(run, tmp_path):
    environment = an_environment(an_attempt(1), an_attempt(2, pack=4))
    run.write_environment(environment)
    run.write_ledger(LEDGER)
    run.write_result(a_result(run.name))
    run.write_tasks({"copying": a_task()})
    SweepDirectory(tmp_path).write_held_back(HELD_BACK)
    assert run.read_environment() == environment
    assert run.read_ledger() == LEDGER
    assert run.read_result() == a_result(run.name)
    assert run.read_tasks() == {"copying": a_task()}
    assert SweepDirectory(tmp_path).read_held_back() == HELD_BACK
    assert run.is_complete()


def test_logs_are_read_back_without_their_torn_lines(run):
    rows = [{"tokens": 8 * step, "loss": 3.0 - step, "attempt": 1} for step in (1, 2, 3)]
    assert run.read_metrics() == ([], 0)
    assert run.last_metrics() == (None, 0)
    with JsonLines(run.metrics) as log:
        log.append(rows[0])
        log.append(rows[1])
    with run.metrics.open("a") as file:
        file.write('{"tokens": 24, "lo')
    with JsonLines(run.metrics) as log:
        log.append(rows[2])
    run.evaluations.write_text('[1]\n\n{"tokens": 8, "name": "val/loss"}\n\0\0')
    assert run.read_metrics() == (rows, 1)
    assert run.last_metrics() == (rows[-1], 1)
    assert run.read_evaluations() == ([{"tokens": 8, "name": "val/loss"}], 2)


def test_an_error_is_written_and_cleared(run):
    run.clear_error()
    run.write_error("out of memory\n\n")
    assert run.error.read_text() == "out of memory\n"
    run.clear_error()
    assert not run.error.exists()


def test_keys_of_a_later_version_are_kept(run):
    later = a_result(run.name) | {"stage": "pretraining"}
    run.write_result(later)
    assert run.read_result() == later


RECORDS = {
    rundir.ENVIRONMENT: (an_environment(), RunDirectory.read_environment),
    rundir.LEDGER: (LEDGER, RunDirectory.read_ledger),
    rundir.RESULT: (a_result("w16-l2"), RunDirectory.read_result),
    rundir.TASKS: ({"copying": a_task()}, RunDirectory.read_tasks),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("content", [b"", b"{torn", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000, b'"x"'])
def test_a_damaged_file_is_named_in_one_line(run, name, content):
    (run.path / name).write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(str(run.path / name))) as caught:
        RECORDS[name][1](run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RECORDS)
def test_a_key_that_is_missing_or_of_another_type_is_named(run, name):
    value, read = RECORDS[name]
    for key in value:
        (run.path / name).write_text(json.dumps({other: value[other] for other in value if other != key}))
        # the keys of tasks.json are names of tasks; an imported run was not trained
        if name != rundir.TASKS and key != "train_loss":
            with pytest.raises(BadInput, match=rf"{re.escape(name)}: {key} is missing"):
                read(run)
        (run.path / name).write_text(json.dumps(value | {key: True}))
        with pytest.raises(BadInput, match=rf"{re.escape(name)}: {key}=True: must be"):
            read(run)


def test_a_key_deep_inside_is_named_with_its_path(run):
    run.environment.write_text(json.dumps(an_environment(an_attempt(), an_attempt(cpus="all"))))
    with pytest.raises(BadInput, match=r"env\.json: attempts\.1\.cpus='all': must be a list"):
        run.read_environment()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, ""),
        ("", "not readable as JSON"),
        ("{torn", "not readable as JSON"),
        ("[]", "holds no object but list"),
        ("{}", "belongs to run None"),
        (json.dumps(a_result("w96")), "belongs to run 'w96'"),
    ],
)
def test_a_run_is_complete_if_its_own_result_can_be_read(run, content, problem):
    if content is not None:
        run.result.write_text(content)
    completion = run.completion()
    assert completion.result is None and not run.is_complete()
    assert completion.problem.startswith(problem) and bool(completion.problem) == bool(problem)
    run.result.write_text(json.dumps(a_result(run.name)))
    assert run.is_complete()
    assert run.completion() == completion_of(run.name, run.result.read_bytes())


def test_a_result_that_cannot_be_opened_does_not_count(run):
    run.result.mkdir()
    assert run.completion().problem == "cannot be read (Is a directory)"


def test_the_name_of_a_run_does_not_depend_on_how_its_path_is_written(run, monkeypatch):
    run.write_result(a_result(run.name))
    monkeypatch.chdir(run.path)
    assert RunDirectory(Path(".")).is_complete()


@pytest.mark.parametrize(
    "evals", [None, 3, [], {}, {"val/loss": None}, {"val/loss": "2"}, {"val/loss": 10**400}]
)
def test_a_final_evaluation_is_a_finite_number_or_none(evals):
    assert final_evaluation({"evals": evals}) is None
    assert final_evaluation(a_result("x", loss=2.5)) == 2.5


def test_provenance_is_that_of_the_last_attempt_and_empty_where_nothing_is_recorded():
    said = provenance_of(an_environment(an_attempt(device="cpu"), an_attempt(2, device="NVIDIA H100")))
    assert (said.device, said.commit, said.corpus) == ("NVIDIA H100", "c" * 40, "f" * 64)
    assert json.loads(said.versions) == {"jax": "0.10.2", "jaxlib": "0.10.2"}
    for damaged in ({}, {"attempts": 3, "corpus": []}, {"attempts": [], "commit": None}, {"attempts": [None]}):
        assert provenance_of(damaged) == provenance_of({})


def test_runs_of_a_sweep_are_the_folders_with_a_spec(tmp_path):
    sweep = SweepDirectory(tmp_path)
    for name in ("b", "a", "report", ".workers"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        sweep.run(name).spec.write_text("{}")
    assert [run.name for run in sweep.runs()] == ["a", "b"]
    with pytest.raises(BadInput, match="no such sweep"):
        SweepDirectory(tmp_path / "none").runs()


def test_the_names_of_files_are_known_at_once():
    code = "import core.rundir, sys; sys.exit(any(name in sys.modules for name in ('numpy', 'polars', 'jax')))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_other_room_spells_the_name_of_a_file_of_a_run():
    constants = [value for key, value in vars(rundir).items() if key.isupper() and isinstance(value, str)]
    names = [name for name in constants if name.endswith((".json", ".jsonl", "error.txt"))]
    names.remove(rundir.FORECAST_FIT)  # a report and a command have a fit.json of their own
    files = "|".join(map(re.escape, names))
    spelled = re.compile(rf"(.*/)?({files})")
    rooms = ("experiments", "launchers", "planning", "training", "model", "data", "analysis", "bench")
    paths = [ROOT / "launch.py", *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    found = {
        str(path.relative_to(ROOT))
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and spelled.fullmatch(node.value)
    }
    assert not found
