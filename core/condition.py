"""What is wrong with a run, from its files alone: what status, doctor and report say alike.

A note names a file and what is wrong with it. Where it `spoils` the run, its numbers are not used in any fit.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from core import seal
from core.files import whole_rows
from core.identity import contradicts
from core.numbers import finite
from core.reading import Unreadable, parse_json, printable, shown
from core.records import BITS_PER_BYTE, LOSS, final_evaluation
from core.rundir import EVALUATIONS, LEDGER, RESULT, SPEC

# A loss, in multiples of that of blind guessing, which training does not survive (training/step.py).
EXPLODED = 3.0
SAME = 1e-9  # relative: the same number, written twice

# The bytes of a file of the run by its name, None where there is none; raises Unreadable.
ReadFile = Callable[[str], bytes | None]


@dataclasses.dataclass(frozen=True)
class Note:
    """One thing that is wrong with a run.

    Attributes:
      file: its name.
      problem: what is wrong with it, one line.
      spoils: the run's numbers cannot be used.
      doubtful: what the file says cannot be used; what is missing from it is no such thing.
    """

    file: str
    problem: str
    spoils: bool = False
    doubtful: bool = False

    def __str__(self) -> str:
        return f"{self.file} {self.problem}"


def tree_of(read: ReadFile, name: str) -> tuple[dict[str, Any] | None, Note | None]:
    """The JSON object of a record, or None and what is wrong with it; None and None where there is no such file."""
    try:
        payload = read(name)
        if payload is None:
            return None, None
        value = parse_json(payload)
    except Unreadable as error:
        return None, Note(name, error.why, spoils=True)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return None, Note(name, "is damaged (not a JSON object)", spoils=True)
    return value, None


def notes_of(
    run: str,
    spec: Mapping[str, Any],
    ledger: Mapping[str, Any],
    result: Mapping[str, Any],
    read: ReadFile,
    skip: Collection[str] = (),
) -> list[Note]:
    """What contradicts what in a run whose result.json counts.

    Args:
      run: run_id, the name of its directory.
      spec, ledger, result: its records; {} for one that is not there.
      read: gives the run's files.
      skip: files whose checksums are not compared.
    """
    notes = notes_of_spec(run, spec)
    notes += [Note(RESULT, problem, spoils=True) for problem in _of_result(result, spec)]
    notes += [Note(LEDGER, problem, spoils=True) for problem in _of_ledger(ledger, result)]
    notes += _of_files(result, read, skip)
    return once(notes + _of_evaluations(result, read))


def notes_of_spec(run: str, spec: Mapping[str, Any]) -> list[Note]:
    """Why a spec.json cannot be that of the run, which need not be complete."""
    return [Note(SPEC, problem, spoils=True)] if (problem := contradicts(run, spec)) else []


def once(notes: Iterable[Note]) -> list[Note]:
    """One note a file: the first of those that take most away."""
    found: dict[str, Note] = {}
    for note in notes:
        weight = (note.spoils, note.doubtful)
        if note.file not in found or weight > (found[note.file].spoils, found[note.file].doubtful):
            found[note.file] = note
    return list(found.values())


def _of_result(result: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    found = []
    if seal.is_sealed(result) and not seal.is_whole(result):
        found.append("was changed after the run was complete (its checksum differs)")
    planned = finite(spec.get("tokens"))
    if planned is not None and finite(result.get("tokens")) != planned:
        found.append(f"says tokens={shown(result.get('tokens'))}, the spec {planned:.0f}")
    loss, most = final_evaluation(result), _most_loss(spec)
    if loss is not None and not 0 < loss <= most:
        found.append(f"says {LOSS}={loss:g}, which no trained model has")
    return found


def _most_loss(spec: Mapping[str, Any]) -> float:
    model = spec.get("model")
    vocabulary = finite(model.get("vocabulary")) if isinstance(model, Mapping) else None
    return EXPLODED * math.log(vocabulary) if vocabulary and vocabulary > 1 else math.inf


def _of_ledger(ledger: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Counts that are no counts, or differ from each other or from those that the result was written with."""
    params, flops = (_numbers(ledger.get(key)) for key in ("params", "flops_per_token"))
    if not ledger:
        return []
    for kind, counts in (("params", params), ("flops_per_token", flops)):
        wrong = next((key for key, value in counts.items() if value is None or not value > 0), None)
        if wrong is not None:
            return [f"says {kind}.{printable(wrong)}={shown(ledger[kind][wrong])}, which counts nothing"]
    for key, count in params.items():
        stated = flops.get(f"6N_{key}")
        if stated is not None and not _same(stated, 6 * (count or 0.0)):
            return [f"says {count:g} parameters ({printable(key)}), and 6N={stated:g} FLOPs a token of them"]
    tokens = finite(result.get("tokens"))
    written = [("params", key, value, 1.0) for key, value in _numbers(result.get("params")).items()]
    if tokens:
        written += [
            ("flops_per_token", key, value, tokens) for key, value in _numbers(result.get("flops")).items()
        ]
    for kind, key, value, scale in written:
        mine = (params if kind == "params" else flops).get(key)
        if mine is not None and value is not None and not _same(mine * scale, value):
            return [f"says {kind}.{printable(key)}={mine:g}, and {RESULT} was written with {value / scale:g}"]
    return []


def _numbers(tree: Any) -> dict[str, float | None]:
    return {key: finite(value) for key, value in tree.items()} if isinstance(tree, Mapping) else {}


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME)


def _of_files(result: Mapping[str, Any], read: ReadFile, skip: Collection[str]) -> list[Note]:
    """What the seal says of the other files."""
    notes = []
    for name, cover in seal.covers(result).items():
        if name in skip:
            continue
        try:
            payload = read(name)
        except Unreadable as error:
            notes.append(Note(name, error.why, spoils=name in (SPEC, LEDGER)))
            continue
        problem = "is missing" if payload is None else seal.difference(cover, payload)
        doubtful = bool(problem) and payload is not None
        if not problem and payload is not None and len(payload) > cover["bytes"]:
            problem = f"has {len(payload) - cover['bytes']:,} bytes more than when the run was complete"
        if problem:
            notes.append(Note(name, problem, spoils=name in (SPEC, LEDGER) and doubtful, doubtful=doubtful))
    return notes


def _of_evaluations(result: Mapping[str, Any], read: ReadFile) -> list[Note]:
    """Where evals.jsonl says another end than result.json.

    With a seal the result is known to be what was written; without one nobody knows which of them was changed.
    """
    try:
        payload = read(EVALUATIONS)
    except Unreadable as error:
        return [Note(EVALUATIONS, error.why)]
    if payload is None:
        return [Note(EVALUATIONS, "is missing, though the run is complete")]
    rows, _ = whole_rows(payload.split(b"\n"))
    last = last_values(rows, result.get("tokens"))
    spoils = not (seal.is_sealed(result) and seal.is_whole(result))
    evaluations = result.get("evals")
    for name, value in evaluations.items() if isinstance(evaluations, Mapping) else ():
        wanted = finite(value)
        if name not in last:
            return [Note(EVALUATIONS, f"has no {printable(name)} of the end, which {RESULT} has")]
        if wanted is None or last[name] is None or not _same(wanted, last[name] or 0.0):
            said = f"says {printable(name)}={shown(last[name])} at the end, and {RESULT} {shown(value)}"
            return [Note(EVALUATIONS, said, spoils=spoils, doubtful=True)]
    odd = _odd_one(rows)
    return [Note(EVALUATIONS, odd, doubtful=True)] if odd else []


def _odd_one(rows: Iterable[Mapping[str, Any]]) -> str:
    """A loss that is no loss, or that its bits per byte do not fit: their ratio is that of the held-out text."""
    losses = [
        (row.get("tokens"), row.get("attempt"), finite(row.get("value")))
        for row in rows
        if row.get("name") == LOSS
    ]
    bits = {
        (shown(row.get("tokens")), shown(row.get("attempt"))): finite(row.get("value"))
        for row in rows
        if row.get("name") == BITS_PER_BYTE
    }
    ratios = []
    for tokens, attempt, loss in losses:
        if loss is None or not loss > 0:
            return f"says {LOSS}={shown(loss)} at {shown(tokens)} tokens"
        both = bits.get((shown(tokens), shown(attempt)))
        if both is not None:
            ratios.append((tokens, both / loss))
    usual = sorted(ratio for _, ratio in ratios)[len(ratios) // 2] if ratios else 0.0
    for tokens, ratio in ratios:
        if not math.isclose(ratio, usual, rel_tol=1e-6):
            return f"says {LOSS} and {BITS_PER_BYTE} at {shown(tokens)} tokens that are not of one text"
    return ""


def last_values(rows: Iterable[Mapping[str, Any]], tokens: object) -> dict[str, float | None]:
    """The evaluations at a token count by name: those of the last attempt that has them, None for what is no number."""
    latest: dict[str, tuple[float, float | None]] = {}
    for row in rows:
        name, attempt = row.get("name"), finite(row.get("attempt")) or 0.0
        if row.get("tokens") == tokens and isinstance(name, str) and attempt >= latest.get(name, (-1.0, 0))[0]:
            latest[name] = (attempt, finite(row.get("value")))
    return {name: value for name, (_, value) in latest.items()}
