"""What can be wrong in a run's directory: each check reads, explains, and may know how to mend it without training."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import read_object, read_rows, write_atomic, write_json
from core.records import LOSS, final_evaluation
from core.rundir import RunDirectory
from training.cost import ledger_of
from training.records import is_locked, read_spec
from training.spec import RunSpec

# A temporary file younger than this may belong to a write that goes on.
SETTLED_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      where: run_id or file, below the sweep's folder.
      problem: what is wrong, with the value that shows it.
      remedy: what to do, or what --repair does.
      repair: mends it without training anything; None where that cannot be done.
    """

    where: str
    problem: str
    remedy: str
    repair: Callable[[], object] | None = dataclasses.field(default=None, compare=False)


def examine_run(directory: Path) -> list[Finding]:
    """Everything wrong in one run directory. Nothing of a run that a live process trains is judged but its spec."""
    run = RunDirectory(directory)
    try:
        spec = read_spec(directory)
    except BadInput as error:
        remedy = "restore the file, or delete the run's directory"
        return [Finding(_where(run, run.spec), str(error), remedy)]
    if is_locked(directory):
        return []
    checks = (_folder, _temporaries, _logs, _records, _result, _checkpoints)
    return [finding for check in checks for finding in check(run, spec)]


def _where(run: RunDirectory, path: Path) -> str:
    return f"{run.name}/{path.relative_to(run.path)}"


def _folder(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    if not os.access(run.path, os.W_OK | os.X_OK):
        yield Finding(run.name, "its folder cannot be written", f"chmod u+wx {run.path}")
    for path in sorted(run.path.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(run.path.resolve()):
            yield Finding(
                _where(run, path), f"is a link out of the run, to {path.resolve()}", "remove the link"
            )
        elif path.is_file() and not path.name.startswith(".") and not os.access(path, os.W_OK):
            yield Finding(_where(run, path), "cannot be written", f"chmod u+w {path}")


def _temporaries(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path in sorted(run.path.glob(".*.tmp")):
        if time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            yield Finding(
                _where(run, path),
                "is what a killed write left behind",
                "--repair removes it",
                functools.partial(path.unlink, missing_ok=True),
            )


def _logs(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    for path in (run.metrics, run.evaluations):
        where = _where(run, path)
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
                functools.partial(_without_torn_lines, path),
            )
        wrong = [row for row in rows if not _is_log_row(row)]
        if wrong:
            text = json.dumps(wrong[0])[:80]
            yield Finding(where, f"{len(wrong)} rows are no log rows, such as {text}", "delete them")
            return
        counts = collections.Counter((row["tokens"], row.get("name"), row["attempt"]) for row in rows)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            yield Finding(
                where,
                f"{len(twice)} rows are there twice in one attempt, first at {twice[0][0]} tokens: two processes wrote",
                "readers keep the last; if the losses differ, delete the run's directory to train it again",
            )
        if path == run.metrics and rows:
            yield from _gaps(where, spec, sorted({row["tokens"] for row in rows}))


def _is_log_row(row: dict[str, Any]) -> bool:
    numbered = all(isinstance(row.get(key), int) for key in ("tokens", "attempt"))
    return numbered and isinstance(row.get("name", ""), str)


def _gaps(where: str, spec: RunSpec, tokens: list[int]) -> Iterator[Finding]:
    first = (spec.branch_at_tokens or 0) + spec.batch_tokens
    if tokens[0] != first:
        tokens = [first - spec.batch_tokens, *tokens]
    missing = [(a, b) for a, b in itertools.pairwise(tokens) if b - a != spec.batch_tokens]
    if missing:
        a, b = missing[0]
        yield Finding(
            where,
            f"steps are missing in {len(missing)} places, first between {a} and {b} tokens",
            "fits use evaluations only and are right; delete the run's directory to have the whole curve again",
        )


def _without_torn_lines(path: Path) -> None:
    rows, _ = read_rows(path)  # again, now under the run's lock
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def _records(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    problem = _problem_of(run.environment, run)
    if problem:
        there = run.environment.exists()
        yield Finding(
            _where(run, run.environment),
            problem,
            "--repair puts it aside; the next attempt writes its own" if there else "nothing reads it again",
            functools.partial(_put_aside, run.environment) if there else None,
        )
    problem = _problem_of(run.ledger, run)
    if problem:
        yield Finding(
            _where(run, run.ledger),
            problem,
            "--repair counts it again from the spec",
            lambda: write_json(run.ledger, ledger_of(spec)),
        )
    if run.result.exists() and run.error.exists():
        yield Finding(
            _where(run, run.error),
            "tells of a failure though the run is complete",
            "--repair removes it",
            run.clear_error,
        )


def _problem_of(path: Path, run: RunDirectory) -> str:
    """What is wrong with a record that is no JSON object, or is missing though the run has its result."""
    if not path.exists():
        return "is missing though the run is complete" if run.result.exists() else ""
    try:
        read_object(path)
    except BadInput as error:
        return str(error)
    return ""


def _put_aside(path: Path) -> None:
    os.replace(path, path.with_name(f"{path.name}.damaged"))


def _result(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    completion = run.completion()
    problem = completion.problem
    if completion.result is not None:
        problem = _contradiction(completion.result, spec)
    if not problem:
        return
    finished = run.checkpoint(spec.tokens).is_dir()
    then = (
        "the next launch writes it again from the logs and trains nothing"
        if finished
        else "its last checkpoint is gone too, so the next launch trains what is missing"
    )
    yield Finding(
        _where(run, run.result),
        problem,
        f"{'--repair puts' if finished else 'put'} it aside; {then}",
        functools.partial(_put_aside, run.result) if finished else None,
    )


def _contradiction(result: Mapping[str, Any], spec: RunSpec) -> str:
    """What a result of this run cannot say."""
    if result.get("tokens") != spec.tokens:
        return f"says tokens={result.get('tokens')!r}, the spec {spec.tokens}"
    if final_evaluation(result) is None:
        return f"has no final {LOSS} (evals={json.dumps(result.get('evals'))[:60]})"
    return ""


def _checkpoints(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    if not run.checkpoints.is_dir():
        return
    for path in sorted(run.checkpoints.iterdir()):
        if not path.name.isdigit() and "tmp" in path.name:
            yield Finding(
                _where(run, path),
                "was not committed, the mark of a kill during a save",
                "--repair removes it; the next attempt would too",
                functools.partial(shutil.rmtree, path, ignore_errors=True),
            )
    names = [path.name for path in run.checkpoints.iterdir()]
    committed = sorted((int(name) for name in names if name.isdigit()), reverse=True)
    ended = run.result.exists()
    needed = [tokens for tokens in committed if tokens in spec.checkpoint_marks] if ended else committed
    damage = {tokens: why for tokens in needed if (why := _damage(run.checkpoints, tokens))}
    for tokens, why in damage.items():
        is_mark = tokens in spec.checkpoint_marks
        fallback = next((other for other in committed if other < tokens and other not in damage), None)
        if ended or (is_mark and fallback is None):
            remedy = "branches that start there need it; delete the run's directory to train it again"
        elif fallback is None:
            remedy = "no other is left: delete the folder checkpoints/ to train this run from its start"
        else:
            remedy = f"the next attempt goes on from {fallback} tokens"
        yield Finding(_where(run, run.checkpoint(tokens)), f"cannot be read ({why})", remedy)
    for mark in spec.checkpoint_marks:
        if ended and mark not in committed:
            yield Finding(
                _where(run, run.checkpoint(mark)),
                "is missing, and branches start there",
                "branches that are complete do not need it; for others delete the run's directory to train it again",
            )


def _damage(folder: Path, tokens: int) -> str:
    """Why a committed checkpoint cannot be read, by reading all of it; empty where it can."""
    # JAX and Orbax, 2 s: only where there are checkpoints
    from training.checkpoint import why_unreadable

    return why_unreadable(folder, tokens)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own words about damaged files."""
    # only where a checkpoint is read
    import logging

    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
