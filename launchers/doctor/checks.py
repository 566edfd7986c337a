"""What can be wrong in a run's directory: each check reads, explains, and may know how to mend it without training."""

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import read_json, read_json_lines, write_atomic, write_json
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
    repair: Callable[[], None] | None = dataclasses.field(default=None, compare=False)


def examine_run(directory: Path) -> list[Finding]:
    """Everything wrong in one run directory. Nothing of a run that a live process trains is judged but its spec."""
    name = directory.name
    try:
        spec = read_spec(directory)
    except BadInput as error:
        return [Finding(f"{name}/spec.json", str(error), "restore the file, or delete the run's directory")]
    if is_locked(directory):
        return []
    checks = (_folder, _temporaries, _logs, _records, _result, _checkpoints)
    return [finding for check in checks for finding in check(directory, spec)]


def _folder(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding(spec.run_id, "its folder cannot be written", f"chmod u+wx {directory}")
    for path in sorted(directory.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(directory.resolve()):
            yield Finding(
                f"{spec.run_id}/{path.name}",
                f"is a link out of the run, to {path.resolve()}",
                "remove the link",
            )
        elif path.is_file() and not path.name.startswith(".") and not os.access(path, os.W_OK):
            yield Finding(f"{spec.run_id}/{path.name}", "cannot be written", f"chmod u+w {path}")


def _temporaries(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    for path in sorted(directory.glob(".*.tmp")):
        if time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            yield Finding(
                f"{spec.run_id}/{path.name}",
                "is what a killed write left behind",
                "--repair removes it",
                lambda path=path: path.unlink(missing_ok=True),  # type: ignore[misc]
            )


def _logs(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    for name in ("metrics.jsonl", "evals.jsonl"):
        path = directory / name
        with warnings.catch_warnings(record=True) as torn:
            warnings.simplefilter("always")
            rows = list(read_json_lines(path))
        if torn:
            yield Finding(
                f"{spec.run_id}/{name}",
                f"{len(torn)} torn line{'s' * (len(torn) > 1)}, the mark of a kill; readers leave them out",
                "--repair removes them",
                lambda path=path: _without_torn_lines(path),  # type: ignore[misc]
            )
        wrong = [row for row in rows if not {"tokens", "attempt"} <= row.keys()]
        if wrong:
            text = json.dumps(wrong[0])[:80]
            yield Finding(
                f"{spec.run_id}/{name}", f"{len(wrong)} rows are no log rows, such as {text}", "delete them"
            )
            return
        counts = collections.Counter((row["tokens"], row.get("name"), row["attempt"]) for row in rows)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            yield Finding(
                f"{spec.run_id}/{name}",
                f"{len(twice)} rows are there twice in one attempt, first at {twice[0][0]} tokens: two processes wrote",
                "readers keep the last; if the losses differ, delete the run's directory to train it again",
            )
        if name == "metrics.jsonl" and rows:
            yield from _gaps(path, spec, sorted({row["tokens"] for row in rows}))


def _gaps(path: Path, spec: RunSpec, tokens: list[int]) -> Iterator[Finding]:
    first = (spec.branch_at_tokens or 0) + spec.batch_tokens
    if tokens[0] != first:
        tokens = [first - spec.batch_tokens, *tokens]
    missing = [(a, b) for a, b in itertools.pairwise(tokens) if b - a != spec.batch_tokens]
    if missing:
        a, b = missing[0]
        yield Finding(
            f"{spec.run_id}/{path.name}",
            f"steps are missing in {len(missing)} places, first between {a} and {b} tokens",
            "fits use evaluations only and are right; delete the run's directory to have the whole curve again",
        )


def _without_torn_lines(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = list(read_json_lines(path))
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def _records(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    complete = (directory / "result.json").exists()
    for name in ("env.json", "ledger.json"):
        path = directory / name
        if not path.exists():
            missing = complete
            problem = "is missing though the run is complete"
        else:
            problem = _unreadable(path)
            missing = bool(problem)
        if missing and name == "ledger.json":
            yield Finding(
                f"{spec.run_id}/{name}",
                problem,
                "--repair counts it again from the spec",
                lambda path=path: write_json(path, ledger_of(spec)),  # type: ignore[misc]
            )
        elif missing:
            yield Finding(
                f"{spec.run_id}/{name}",
                problem,
                "--repair puts it aside; the next attempt writes its own"
                if path.exists()
                else "nothing reads it again",
                (lambda path=path: _put_aside(path)) if path.exists() else None,  # type: ignore[misc]
            )
    if complete and (directory / "error.txt").exists():
        yield Finding(
            f"{spec.run_id}/error.txt",
            "tells of a failure though the run is complete",
            "--repair removes it",
            lambda: (directory / "error.txt").unlink(missing_ok=True),
        )


def _unreadable(path: Path) -> str:
    try:
        value = read_json(path)
    except BadInput as error:
        return str(error)
    return "" if isinstance(value, dict) else f"holds no object but {type(value).__name__}"


def _put_aside(path: Path) -> None:
    os.replace(path, path.with_name(f"{path.name}.damaged"))


def _result(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    path = directory / "result.json"
    if not path.exists():
        return
    problem = _unreadable(path) or _wrong_result(read_json(path), spec)
    if not problem:
        return
    finished = (directory / "checkpoints" / str(spec.tokens)).is_dir()
    then = (
        "the next launch writes it again from the logs and trains nothing"
        if finished
        else "its last checkpoint is gone too, so the next launch trains what is missing"
    )
    yield Finding(
        f"{spec.run_id}/result.json",
        problem,
        f"{'--repair puts' if finished else 'put'} it aside; {then}",
        (lambda: _put_aside(path)) if finished else None,
    )


def _wrong_result(result: dict[str, Any], spec: RunSpec) -> str:
    if result.get("run") != spec.run_id:
        return f"belongs to run {result.get('run')!r}"
    if result.get("tokens") != spec.tokens:
        return f"says tokens={result.get('tokens')!r}, the spec {spec.tokens}"
    evals = result.get("evals")
    loss = evals.get("val/loss") if isinstance(evals, dict) else None
    if not isinstance(loss, int | float) or loss != loss:
        return f"has no final val/loss (evals={json.dumps(evals)[:60]})"
    return ""


def _checkpoints(directory: Path, spec: RunSpec) -> Iterator[Finding]:
    folder = directory / "checkpoints"
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not path.name.isdigit() and "tmp" in path.name:
            yield Finding(
                f"{spec.run_id}/checkpoints/{path.name}",
                "was not committed, the mark of a kill during a save",
                "--repair removes it; the next attempt would too",
                lambda path=path: shutil.rmtree(path, ignore_errors=True),  # type: ignore[misc]
            )
    committed = sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)
    complete = (directory / "result.json").exists()
    needed = [tokens for tokens in committed if tokens in spec.checkpoint_marks] if complete else committed
    bad = [(tokens, why) for tokens in needed if (why := _damage(folder, tokens))]
    for tokens, why in bad:
        is_mark = tokens in spec.checkpoint_marks
        fallback = next((other for other in committed if other < tokens and other not in dict(bad)), None)
        if complete or (is_mark and fallback is None):
            remedy = "branches that start there need it; delete the run's directory to train it again"
        elif fallback is None:
            remedy = "no other is left: delete the folder checkpoints/ to train this run from its start"
        else:
            remedy = f"the next attempt goes on from {fallback} tokens"
        yield Finding(f"{spec.run_id}/checkpoints/{tokens}", f"cannot be read ({why})", remedy)
    for mark in spec.checkpoint_marks:
        if complete and mark not in committed:
            yield Finding(
                f"{spec.run_id}/checkpoints/{mark}",
                "is missing, and branches start there",
                "branches that are complete do not need it; for others delete the run's directory to train it again",
            )


def _damage(folder: Path, tokens: int) -> str:
    """Why a committed checkpoint cannot be read, by reading all of it; empty where it can."""
    from training.checkpoint import why_unreadable

    return why_unreadable(folder, tokens)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own words about damaged files."""
    import logging

    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
