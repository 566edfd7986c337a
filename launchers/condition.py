"""What is wrong with a complete run, by its files and by its spec, which says what there must be."""

import math
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from core.codec import to_json, typed
from core.condition import Note, last_values, notes_of, once, tree_of
from core.errors import BadInput
from core.files import whole_rows
from core.numbers import finite, short_count
from core.reading import Unreadable, shown
from core.records import LOSS, TaskRecord
from core.rundir import ENVIRONMENT, EVALUATIONS, LEDGER, METRICS, TASKS, RunDirectory
from core.seal import covers, difference
from training.cost import ledger_of
from training.spec import RunSpec

# Of a longer log `status`, which reads ten thousand runs in seconds, only asks how long it is.
COMPARED_BYTES = 1 << 18


def condition(
    run: RunDirectory, spec: RunSpec, result: Mapping[str, Any], skip: Collection[str] = ()
) -> list[Note]:
    """Everything that contradicts something in a run whose result counts; at most one note a file.

    Args:
      skip: files whose checksums are not compared.
    """
    ledger, damage = tree_of(run.read, LEDGER)
    if ledger is None and damage is None:
        damage = Note(LEDGER, "is missing, though the run is complete")
    notes = [damage] if damage else []
    environment, damage = tree_of(run.read, ENVIRONMENT)
    if environment is None:
        notes += [damage or Note(ENVIRONMENT, "is missing, though the run is complete")]
    notes += notes_of(run.name, to_json(spec), ledger or {}, result, run.read, skip)
    notes += [*_of_ledger(ledger, spec), *_of_marks(run, spec), *_of_tasks(run, spec)]
    if METRICS not in skip:
        notes += _of_metrics(run, spec, result)
    return once(notes)


def long_logs(run: RunDirectory, result: Mapping[str, Any]) -> set[str]:
    """Logs that are too long to be compared where time matters, and not shorter than they were."""
    try:
        found = os.stat(run.metrics)
    except OSError:
        return set()
    before = covers(result).get(METRICS, {"bytes": 0, "sha256": ""})["bytes"]
    long = found.st_size > COMPARED_BYTES and found.st_size >= before
    return {METRICS} if stat.S_ISREG(found.st_mode) and long else set()


def unchanged(run: RunDirectory, name: str) -> bool:
    """Whether a file of a complete run still holds what it held then; so is a file that nobody has a checksum of."""
    cover = covers(run.completion().result or {}).get(name)
    payload = run.read(name)
    return cover is None or (payload is not None and not difference(cover, payload))


def _of_ledger(ledger: Mapping[str, Any] | None, spec: RunSpec) -> Iterator[Note]:
    """A ledger that counts another model than the spec describes."""
    if ledger is None:
        return
    for kind, counts in ledger_of(spec).items():
        own = ledger.get(kind)
        for key, count in counts.items():  # type: ignore[attr-defined]  # both are counts by name
            said = own.get(key) if isinstance(own, Mapping) else None
            if said is None and kind == "flops_per_token":
                continue  # a convention that came later
            if finite(said) is None or abs((finite(said) or 0.0) - count) > 1e-9 * count:
                yield Note(LEDGER, f"says {kind}.{key}={shown(said)}, its spec {count:.10g}", spoils=True)
                return


def _of_marks(run: RunDirectory, spec: RunSpec) -> Iterator[Note]:
    """Evaluations that the spec asks for and the log does not have."""
    try:
        payload = run.read(EVALUATIONS)
    except Unreadable:
        return  # told already
    if payload is None:
        return
    rows, _ = whole_rows(payload.split(b"\n"))
    begins = spec.branch_at_tokens or 0
    marks = [mark for mark in spec.all_marks if mark > begins]
    missing = [mark for mark in marks if last_values(rows, mark).get(LOSS) is None]
    if missing:
        yield Note(
            EVALUATIONS,
            f"has no {LOSS} at {len(missing)} of {len(marks)} marks, first at {short_count(missing[0])} tokens",
        )
        return
    for mark in marks:
        values = last_values(rows, mark)
        wrong = next((name for name, value in values.items() if value is None), None)
        if wrong is not None:
            yield Note(EVALUATIONS, f"has no number for {shown(wrong)} at {short_count(mark)} tokens")
            return
        scored = {name.rpartition("/")[0] for name in values if name.startswith("task/")}
        if len(scored) < len(spec.tasks):
            said = f"has scores of {len(scored)} of {len(spec.tasks)} tasks at {short_count(mark)} tokens"
            yield Note(EVALUATIONS, said)
            return


def _of_metrics(run: RunDirectory, spec: RunSpec, result: Mapping[str, Any]) -> Iterator[Note]:
    """Steps that are missing, and a loss of the last steps that is not the one that the result has of them."""
    try:
        payload = run.read(METRICS)
    except Unreadable as error:
        yield Note(METRICS, error.why)
        return
    if payload is None:
        yield Note(METRICS, "is missing, though the run is complete")
        return
    rows, _ = whole_rows(payload.split(b"\n"))
    losses = {tokens: finite(row.get("loss")) for row in rows if isinstance(tokens := row.get("tokens"), int)}
    first = (spec.branch_at_tokens or 0) + spec.batch_tokens
    steps = range(first, spec.tokens + 1, spec.batch_tokens)
    missing = [tokens for tokens in steps if losses.get(tokens) is None]
    if missing:
        said = f"has no loss of {len(missing)} of {len(steps)} steps, first of that at {missing[0]} tokens"
        yield Note(METRICS, said)
        return
    tail = [loss for tokens, loss in losses.items() if loss is not None and tokens > 0.95 * spec.tokens]
    written = finite(result.get("train_loss"))
    if written is not None and not math.isclose(sum(tail) / len(tail), written, rel_tol=1e-6):
        said = f"has a mean loss of {sum(tail) / len(tail):.6g} at the end, and result.json train_loss={written:.6g}"
        yield Note(METRICS, said)


def _of_tasks(run: RunDirectory, spec: RunSpec) -> Iterator[Note]:
    """Tasks that are scored and not described."""
    tree, damage = tree_of(run.read, TASKS)
    if damage is not None:
        yield Note(TASKS, damage.problem)
        return
    if tree is None:
        if spec.tasks:
            yield Note(TASKS, "is missing, though the spec names tasks")
        return
    try:
        typed(dict[str, TaskRecord], tree)
    except BadInput as error:
        yield Note(TASKS, f"says {error}")
        return
    if len(tree) < len(spec.tasks):
        yield Note(TASKS, f"describes {len(tree)} tasks, and the spec names {len(spec.tasks)}")


__all__ = ["COMPARED_BYTES", "condition", "long_logs", "unchanged"]
