"""What can be wrong with the checkpoints of a run."""

import contextlib
import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.reading import path_exists, shown
from core.rundir import RunDirectory
from launchers.doctor.finding import Finding, where_of
from training.spec import RunSpec


def checkpoints(run: RunDirectory, spec: RunSpec) -> Iterator[Finding]:
    completed = run.completion().result
    if not run.checkpoints.is_dir():
        if path_exists(run.checkpoints):
            yield Finding(where_of(run, run.checkpoints), "is no folder", "remove it")
        if completed is not None:
            yield from _missing(run, completed, [])
        return
    for path in sorted(run.checkpoints.iterdir()):
        if not path.name.isdigit() and "tmp" in path.name:
            yield Finding(
                where_of(run, path),
                "was not committed, the mark of a kill during a save",
                "--repair removes it; the next attempt would too",
                functools.partial(shutil.rmtree, path, ignore_errors=True),
            )
    committed = run.checkpoint_tokens()[::-1]
    ended = completed is not None
    needed = (
        committed
        if completed is None
        else [tokens for tokens in committed if tokens in (*spec.checkpoint_marks, spec.tokens)]
    )
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
        yield Finding(where_of(run, run.checkpoint(tokens)), f"cannot be read ({why})", remedy)
    for mark in spec.checkpoint_marks:
        if ended and mark not in committed:
            yield Finding(
                where_of(run, run.checkpoint(mark)),
                "is missing, and branches start there",
                "branches that are complete do not need it; for others delete the run's directory to train it again",
            )
    if completed is not None:
        yield from _missing(run, completed, [*committed, *spec.checkpoint_marks])


def _missing(run: RunDirectory, result: Mapping[str, Any], there: Sequence[int]) -> Iterator[Finding]:
    """Checkpoints that were there when the run was complete; where nobody wrote that down, its last one."""
    before = result.get("checkpoints", [result.get("tokens")] if there else [])
    gone = [tokens for tokens in before if tokens not in there] if isinstance(before, list) else []
    if gone:
        yield Finding(
            where_of(run, run.checkpoints),
            f"has lost {len(gone)} of the {len(before)} checkpoints of the complete run, such as {shown(gone[0])}",
            "its numbers stand; backfill and branches need them: restore them from a copy, or delete the run's "
            "directory to train it again",
        )


def unchecked(runs: Iterable[RunDirectory]) -> str:
    """One line on checkpoints of an earlier version, whose numbers nothing vouches for; empty where there are none."""
    committed = [(run, tokens) for run in runs for tokens in run.checkpoint_tokens()]
    if not committed:
        return ""
    # JAX and Orbax, 2 s: only where there are checkpoints
    from training.checkpoint import is_unchecked

    old = [run.checkpoint(tokens) for run, tokens in committed if is_unchecked(run.checkpoints, tokens)]
    if not old:
        return ""
    return f"{len(old)} checkpoints have no checksums, such as {old[0]}: read, and their numbers not checked"


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
