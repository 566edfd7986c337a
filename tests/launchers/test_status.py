"""`status` and `doctor` on files that hold anything at all: a note in one line, never an error."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analysis.logs.load_run import read_run
from core import rundir
from core.rundir import RunDirectory
from core.sweep_file import SweepRequest, write_sweep_file
from launchers.doctor.examine import examine, mend
from launchers.status import run_status, show_status, sweep_status
from launchers.sweeps import show
from tests.support.run_records import a_result, an_environment
from training.cost import ledger_of
from training.records import write_spec
from training.spec import RunSpec

SPEC = RunSpec()
ROW = {"tokens": 4096, "attempt": 1, "loss": 3.5, "step": 1}
FILES = (
    rundir.SPEC, rundir.ENVIRONMENT, rundir.LEDGER, rundir.METRICS, rundir.EVALUATIONS, rundir.TASKS, rundir.RESULT,
    rundir.ERROR,
)  # fmt: skip


def whole_run(sweep: Path) -> RunDirectory:
    """A run with every file, none of them damaged."""
    run = RunDirectory(sweep / SPEC.run_id)
    write_spec(run.path, SPEC)
    counts = ledger_of(SPEC)
    run.environment.write_text(json.dumps(an_environment()))
    run.ledger.write_text(json.dumps(counts))
    steps = range(SPEC.batch_tokens, SPEC.tokens + 1, SPEC.batch_tokens)
    run.metrics.write_text(
        "".join(
            json.dumps(ROW | {"tokens": tokens, "step": tokens // SPEC.batch_tokens}) + "\n" for tokens in steps
        )
    )
    flops = {name: value * SPEC.tokens for name, value in counts["flops_per_token"].items()}
    result = a_result(SPEC.run_id, SPEC.tokens, 2.5, params=counts["params"], flops=flops, train_loss=3.5)
    rows = [
        {"tokens": SPEC.tokens, "attempt": 1, "name": name, "value": value}
        for name, value in result["evals"].items()
    ]
    run.evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.result.write_text(json.dumps(result))
    return run


def test_states_follow_the_files(tmp_path):
    run = whole_run(tmp_path)
    (status,) = sweep_status(tmp_path)
    assert (status.state, status.tokens, status.loss, status.note) == ("complete", SPEC.tokens, 2.5, "")
    assert (status.commit, status.corpus) == ("c" * 40, "f" * 64)
    run.result.unlink()
    status = run_status(run.path)
    assert (status.state, status.tokens, status.loss) == ("stopped", SPEC.tokens, 3.5)
    run.write_error("Traceback\n\nout of memory: lower something\n")
    status = run_status(run.path)
    assert (status.state, status.note) == ("failed", "out of memory: lower something")
    run.error.unlink()
    for path in (run.environment, run.metrics):
        path.unlink()
    assert run_status(run.path).state == "missing"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (rundir.SPEC, "{torn", "not readable as JSON"),
        (rundir.SPEC, '{"a\\nb": 1}', "unknown key"),
        (rundir.ENVIRONMENT, "[]", "holds no object but list"),
        (rundir.RESULT, "", "not readable as JSON"),
        (rundir.RESULT, json.dumps(a_result("another")), "belongs to run 'another'"),
        (rundir.RESULT, json.dumps(a_result(SPEC.run_id, evals={})), "has no val/loss"),
    ],
)
def test_a_damaged_record_makes_a_run_broken_and_is_named(tmp_path, name, content, words):
    run = whole_run(tmp_path)
    (run.path / name).write_text(content)
    status = run_status(run.path)
    assert status.state == "broken"
    assert words in status.note and name in status.note
    assert "\n" not in status.note


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
keys = st.sampled_from(
    [
        "run",
        "tokens",
        "evals",
        "attempt",
        "attempts",
        "corpus",
        "commit",
        "loss",
        "name",
        "model",
        "data",
        "optim",
    ]
)
contents = st.binary(max_size=40) | st.dictionaries(keys, trees, max_size=4).map(
    lambda value: json.dumps(value).encode()
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.dictionaries(st.sampled_from(FILES), contents | st.none(), min_size=1, max_size=3))
@example(damage={rundir.RESULT: None, rundir.ERROR: b" \n"})
@example(damage={rundir.RESULT: None, rundir.ERROR: b"\xff"})
@example(damage={rundir.RESULT: None, rundir.METRICS: b'{"tokens": [1], "attempt": {}}\n'})
@example(damage={rundir.RESULT: None, rundir.METRICS: b"[" * 100_000})
def test_whatever_the_files_hold_is_told_in_a_line(tmp_path_factory, damage):
    sweep = tmp_path_factory.mktemp("damaged")
    run = whole_run(sweep)
    for name, content in damage.items():
        (run.path / name).unlink(missing_ok=True)
        if content is not None:
            (run.path / name).write_bytes(content)
    status = run_status(run.path)
    assert "\n" not in status.note
    assert status.state != "broken" or status.note
    loaded = read_run(run.path)
    assert (loaded is None) == (not run.is_run())
    if loaded is not None:
        assert run.is_complete() == bool(loaded.result)
        findings = examine(sweep)
        mend(sweep, findings)


def test_a_folder_in_the_place_of_any_file_is_named(tmp_path):
    for name in FILES:
        run = whole_run(tmp_path / name)
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).mkdir()
        if name in (rundir.ERROR, rundir.METRICS):
            run.result.unlink()
        status = run_status(run.path)
        if name not in (rundir.LEDGER, rundir.EVALUATIONS, rundir.TASKS):  # which status does not read
            assert status.state == "broken" and name in status.note
        if name not in (rundir.ERROR, rundir.TASKS):  # of which doctor reads nothing
            assert any(name in finding.where for finding in examine(tmp_path / name))


def test_runs_that_only_sweep_json_names_are_missing_and_named(tmp_path, capsys):
    whole_run(tmp_path / "s")
    asked = SweepRequest("python launch.py run quickstart", "quickstart", (SPEC.run_id, "w8-gone", "w9-gone"))
    write_sweep_file(tmp_path / "s", asked, "2026-01-02T03:04:05+00:00", "a" * 40)
    rows = sweep_status(tmp_path / "s")
    assert [(row.run, row.state) for row in rows] == [
        (SPEC.run_id, "complete"), ("w8-gone", "missing"), ("w9-gone", "missing"),
    ]  # fmt: skip
    show_status(tmp_path / "s")
    text = capsys.readouterr().out
    assert "2 runs are missing: sweep.json names them and they have no folder: w8-gone, w9-gone" in text
    assert text.endswith("asked for on 2026-01-02: python launch.py run quickstart\n")
    assert "code: aaaaaaaaaaaa; here it is" in text
    named = [finding.problem for finding in examine(tmp_path / "s") if finding.where == "sweep.json"]
    assert named == ["names 2 runs that have no folder, such as w8-gone"]


def test_a_damaged_sweep_json_is_said_and_mended_and_stops_nothing(tmp_path, capsys):
    whole_run(tmp_path / "s")
    path = tmp_path / "s" / "sweep.json"
    path.write_text('{"runs": 3}')
    show_status(tmp_path / "s", as_json=True)
    captured = capsys.readouterr()
    assert [row["state"] for row in json.loads(captured.out)] == ["complete"]
    assert captured.err.startswith(f"warning: {path}: is damaged")
    (finding,) = (finding for finding in examine(tmp_path / "s") if finding.where == "sweep.json")
    assert mend(tmp_path / "s", [finding]) == [finding]
    assert not path.exists()
    assert (tmp_path / "s" / "sweep.json.damaged").exists()


def test_status_alone_lists_every_sweep(tmp_path, capsys):
    """An old one without sweep.json, one with a failed run and one that is missing, and a damaged one."""
    whole_run(tmp_path / "old")
    run = whole_run(tmp_path / "new")
    run.result.unlink()
    run.write_error("out of memory")
    asked = SweepRequest(
        "python launch.py run quickstart --seeds 2", "quickstart", (SPEC.run_id, "w8-gone"), question="seed"
    )
    write_sweep_file(tmp_path / "new", asked, "2026-02-03T04:05:06+00:00")
    whole_run(tmp_path / "torn")
    (tmp_path / "torn" / "sweep.json").write_text("{torn")
    (tmp_path / "notes").mkdir()
    show(None, tmp_path, as_json=True)
    new, old, torn = json.loads(capsys.readouterr().out)
    assert [row["sweep"] for row in (new, old, torn)] == ["new", "old", "torn"]
    keys = ("experiment", "runs", "done", "left", "failed", "missing", "created", "command", "question")
    command = "python launch.py run quickstart --seeds 2"
    assert [new[key] for key in keys] == [
        "quickstart",
        2,
        0,
        1,
        1,
        1,
        "2026-02-03T04:05:06+00:00",
        command,
        "seed",
    ]
    assert [old[key] for key in keys] == ["", 1, 1, 0, 0, 0, "2026-01-02T03:04:05+00:00", "", ""]
    assert (torn["done"], "is damaged" in torn["problem"]) == (1, True)
    show(None, tmp_path, as_json=False)
    text = capsys.readouterr().out
    assert (
        max(len(line) for line in text.splitlines() if not line.startswith("    ") and "/NAME" not in line)
        <= 80
    )
    assert "    python launch.py run quickstart --seeds 2\n" in text
    assert "3 sweeps in" in text
