"""What is wrong with a complete run, by its files and by its spec, which says what there must be."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from core.codec import to_json
from core.condition import Note, notes_of, once, tree_of
from core.numbers import finite
from core.reading import shown
from core.rundir import ENVIRONMENT, LEDGER, METRICS, RunDirectory
from core.seal import covers
from training.cost import ledger_of
from training.spec import RunSpec

# How the note of a complete run begins whose files contradict each other.
UNUSED = "its numbers are used in no fit"
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
    return once([*notes, *of_ledger(ledger, spec)])


def long_logs(run: RunDirectory, result: Mapping[str, Any]) -> set[str]:
    """Logs that are too long to be compared where time matters, and not shorter than they were."""
    try:
        found = os.stat(run.metrics)
    except OSError:
        return set()
    before = covers(result).get(METRICS, {"bytes": 0, "sha256": ""})["bytes"]
    long = found.st_size > COMPARED_BYTES and found.st_size >= before
    return {METRICS} if stat.S_ISREG(found.st_mode) and long else set()


def of_ledger(ledger: Mapping[str, Any] | None, spec: RunSpec) -> Iterator[Note]:
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


__all__ = ["COMPARED_BYTES", "UNUSED", "condition", "long_logs", "of_ledger"]
