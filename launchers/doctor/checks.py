"""What can be wrong in a run's directory: each check reads, explains, and may know how to mend it without training."""

import collections
import contextlib
import functools
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.codec import LARGEST, to_json
from core.condition import notes_of_logs, tree_of
from core.errors import BadInput
from core.files import read_rows, write_atomic, write_json
from core.numbers import finite
from core.reading import Unreadable, path_exists, printable
from core.records import LOSS
from core.rundir import (
    ENVIRONMENT,
    ERROR,
    EVALUATIONS,
    LEASE,
    LEDGER,
    METRICS,
    RESULT,
    TASK_ITEMS,
    TASKS,
    RunDirectory,
)
from launchers.condition import UNUSED, condition, of_ledger
from launchers.doctor.checkpoints import checkpoints
from launchers.doctor.finding import Finding, where_of
from training.cost import ledger_of
from training.processes.lease import read_lease
from training.records import is_locked, read_spec
from training.spec import RunSpec

OF_A_SPEC = "restore the file, or delete the run's directory; a copy of a run belongs elsewhere"
WITHOUT_A_SPEC = (
    "launch the sweep again: it writes the spec anew where the run is part of it; otherwise delete the folder"
)
LOST = "is missing though the run is complete"
REWRITTEN = {
    ENVIRONMENT: "the next attempt writes its own",
    TASKS: "python launch.py backfill writes it again, and the next attempt does",
}
AFTERWARDS = {
    ENVIRONMENT: "nothing reads it again",
    METRICS: "fits use evaluations only and are right; delete the run's directory to have the whole curve again",
    TASKS: "python launch.py backfill writes it again",
    TASK_ITEMS: "fits do not use it; delete the run's directory to have it again",
    EVALUATIONS: "restore it from a copy, or delete the run's directory to train it again",
}

# A temporary file younger than this may belong to a write that goes on.
SETTLED_SECONDS = 60.0


def examine_run(directory: Path) -> list[Finding]:
    """Everything wrong in one run directory. Nothing of a run that a live process trains is judged but its spec."""
    run = RunDirectory(directory)
    try:
        spec = read_spec(directory)
    except BadInput as error:
        there = path_exists(run.spec)
        problem = (
            str(error)
            if there
            else "is missing, though the folder holds a run's files: its numbers are not used"
        )
        return [Finding(where_of(run, run.spec), problem, OF_A_SPEC if there else WITHOUT_A_SPEC)]
    try:
        if is_locked(directory):
            return []
        checks = (_folder, _temporaries, _logs, _records, _result, _condition, checkpoints, _leases)
        return _one_a_file(finding for check in checks for finding in check(run, spec))
    except BadInput as error:
        return [Finding(run.name, str(error), "remove what lies there, or delete the run's directory")]
    except OSError as error:
        where = printable(str(error.filename or run.path))
        return [Finding(run.name, f"{where}: cannot be read ({error.strerror})", "give its files back to you")]


def _one_a_file(findings: Iterator[Finding]) -> list[Finding]:
    """What is found first of a file is the cause of what is found of it later."""
    found: dict[str, Finding] = {}
    for finding in findings:
        found.setdefault(finding.where, finding)
    return list(found.values())


def _folder(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    if not os.access(run.path, os.W_OK | os.X_OK):
        yield Finding(run.name, "its folder cannot be written", f"chmod u+wx {run.path}")
    home = os.path.realpath(run.path)
    for path in sorted(run.path.iterdir()):
        goal = os.path.realpath(path)
        if path.is_symlink() and os.path.commonpath([home, goal]) != home:
            yield Finding(
                where_of(run, path), f"is a link out of the run, to {printable(goal)}", "remove the link"
            )
        elif path.is_symlink() and not os.path.exists(goal):
            yield Finding(where_of(run, path), "is a link to nothing", "remove the link")
        elif os.path.isfile(path) and not path.name.startswith(".") and not os.access(path, os.W_OK):
            yield Finding(where_of(run, path), "cannot be written", f"chmod u+w {path}")


def _temporaries(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path in sorted(run.path.glob(".*.tmp")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > SETTLED_SECONDS:
                yield Finding(
                    where_of(run, path),
                    "is what a killed write left behind",
                    "--repair removes it",
                    functools.partial(path.unlink, missing_ok=True),
                )


def _logs(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path in (run.metrics, run.evaluations, run.task_items):
        where = where_of(run, path)
        try:
            rows, torn = read_rows(path)
        except BadInput as error:
            yield Finding(where, str(error), "delete it, and the next attempt writes its own")
            continue
        if torn:
            yield Finding(
                where,
                f"{torn} torn line{'s' * (torn > 1)}, the mark of a kill; readers leave them out",
                "--repair removes them",
                functools.partial(_without_torn_lines, run, path.name),
            )
        if path == run.task_items:
            continue
        wrong = [row for row in rows if not _is_log_row(row)]
        if wrong:
            text = json.dumps(wrong[0])[:80]
            yield Finding(where, f"{len(wrong)} rows are no log rows, such as {text}", "delete them")
            continue
        counts = collections.Counter((row["tokens"], row.get("name"), row["attempt"]) for row in rows)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            yield Finding(
                where,
                f"{len(twice)} rows are there twice in one attempt, first at {twice[0][0]} tokens: two processes wrote",
                "readers keep the last; if the losses differ, delete the run's directory to train it again",
            )
        if path == run.metrics:
            yield from _gaps(run, spec, sorted({row["tokens"] for row in rows}))


def _is_log_row(row: dict[str, Any]) -> bool:
    counted = all(type(row.get(key)) is int and 0 <= row[key] < LARGEST for key in ("tokens", "attempt"))
    numbers = all(finite(row[key]) is not None for key in ("loss", "value") if key in row)
    return counted and numbers and isinstance(row.get("name", ""), str)


def _gaps(run: RunDirectory, spec: RunSpec, tokens: list[int]) -> Iterator[Finding]:
    """Steps without a row: up to the last checkpoint of a run that goes on, which is where it will go on."""
    where, begins = where_of(run, run.metrics), spec.branch_at_tokens or 0
    reached = max([0, *run.checkpoint_tokens()]) if run.completion().result is None else 0
    ends = [reached + spec.batch_tokens] if reached > (tokens[-1] if tokens else begins) else []
    missing = [(a, b) for a, b in itertools.pairwise([begins, *tokens, *ends]) if b - a != spec.batch_tokens]
    if missing:
        a, b = missing[0]
        yield Finding(
            where,
            f"steps are missing in {len(missing)} places, first between {a} and {b} tokens",
            "fits use evaluations only and are right; delete the run's directory to have the whole curve again",
        )
    if run.completion().result is not None:
        return
    try:
        rows, _ = run.read_evaluations()
    except BadInput:
        return  # told as what it is
    scored = {
        row.get("tokens") for row in rows if row.get("name") == LOSS and finite(row.get("value")) is not None
    }
    marks = [mark for mark in spec.evaluation_marks if begins < mark <= reached and mark not in scored]
    if marks:
        yield Finding(
            where_of(run, run.evaluations),
            f"has no {LOSS} at {len(marks)} marks that the run is past, first at {marks[0]} tokens",
            "delete the run's directory to train it again; without them only the end of the run can be used",
        )


def _without_torn_lines(run: RunDirectory, name: str) -> None:
    rows, _ = read_rows(run.path / name)  # again, now under the run's lock
    was_intact = run.is_intact(name)
    write_atomic(run.path / name, "".join(json.dumps(row) + "\n" for row in rows))
    if was_intact:
        run.seal_again(name)


def _records(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path, read in ((run.environment, run.read_environment), (run.tasks, run.read_tasks)):
        problem = _problem_of(path, read)
        if problem:
            yield Finding(
                where_of(run, path),
                problem,
                f"--repair puts it aside; {REWRITTEN[path.name]}",
                functools.partial(_put_aside, path),
            )
    ended = path_exists(run.result)
    if ended and not path_exists(run.environment):
        yield Finding(where_of(run, run.environment), LOST, AFTERWARDS[ENVIRONMENT])
    problem = LOST if ended and not path_exists(run.ledger) else _problem_of(run.ledger, run.read_ledger)
    if problem:
        yield _of_a_ledger(run, spec, problem)
    try:
        run.read(ERROR)
    except Unreadable as error:
        yield Finding(where_of(run, run.error), error.why, "remove it")
    if run.completion().result is not None and path_exists(run.error):
        yield Finding(
            where_of(run, run.error),
            "tells of a failure though the run is complete",
            "--repair removes it",
            run.clear_error,
        )


def _of_a_ledger(run: RunDirectory, spec: RunSpec, problem: str) -> Finding:
    return Finding(
        where_of(run, run.ledger),
        problem,
        "--repair counts it again from the spec",
        lambda: write_json(run.ledger, ledger_of(spec)),
    )


def _problem_of(path: Path, read: Callable[[], object]) -> str:
    """What is wrong with a record that is there."""
    if path_exists(path):
        try:
            read()
        except BadInput as error:
            return str(error)
    return ""


def _condition(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    """What contradicts what, and what the spec of a complete run asks for and is not there."""
    result = run.completion().result
    if result is None:
        ledger, _ = tree_of(run.read, LEDGER)  # what is no object is told by `_records`
        notes = [*of_ledger(ledger, spec), *notes_of_logs(to_json(spec), run.read)]
    else:
        notes = condition(run, spec, result)
    for note in notes:
        where, lost = (
            where_of(run, run.path / note.file),
            UNUSED if note.spoils else "",
        )
        if note.file == LEDGER:
            yield _of_a_ledger(run, spec, note.problem)
        elif note.file == RESULT:
            yield _of_a_result(run, spec, note.problem)
        else:
            remedy = AFTERWARDS.get(
                note.file, "restore it from a copy, or delete the run's directory to train it again"
            )
            yield Finding(where, note.problem, "; ".join(filter(None, [lost, remedy])))


def _leases(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path in sorted(run.path.iterdir()):
        if LEASE.fullmatch(path.name) and not read_lease(path):
            yield Finding(
                where_of(run, path),
                "is no lease: a full disk or a power cut leaves such a file",
                "--repair removes it",
                functools.partial(remove, path),
            )


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _put_aside(path: Path) -> None:
    os.replace(path, path.with_name(f"{path.name}.damaged"))


def _result(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    if problem := run.completion().problem:
        yield _of_a_result(run, spec, problem)


def _of_a_result(run: RunDirectory, spec: RunSpec, problem: str) -> Finding:
    if spec.imported:
        return Finding(
            where_of(run, run.result), problem, "delete the run's directory and import its folder again"
        )
    finished = run.checkpoint(spec.tokens).is_dir()
    then = (
        "the next launch writes it again from the logs and trains nothing"
        if finished
        else "its last checkpoint is gone too, so the next launch trains what is missing"
    )
    return Finding(
        where_of(run, run.result),
        problem,
        f"{'--repair puts' if finished else 'put'} it aside; {then}",
        functools.partial(_put_aside, run.result) if finished else None,
    )
