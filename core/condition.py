"""What is wrong with a run, from its files alone: what status, doctor and report say alike.

A note names a file and what is wrong with it. Where it `spoils` the run, its numbers are not used in any fit.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from core import seal
from core.codec import typed
from core.errors import BadInput
from core.files import whole_rows
from core.identity import contradicts, digest_of
from core.numbers import finite
from core.reading import Unreadable, parse_json, printable, shown
from core.records import BITS_PER_BYTE, LOSS, OF_TASKS, TaskRecord, final_evaluation, is_imported
from core.rundir import EVALUATIONS, LEDGER, METRICS, RESULT, SPEC, TASKS

# A loss, in multiples of that of blind guessing, which training does not survive (training/step.py).
EXPLODED = 3.0
NEVER_NEGATIVE = (
    "step", "tokens", "flops", "seconds", "attempt", "lr", "grad_norm", "tokens_per_second", "n", "stderr",
)  # fmt: skip
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
    notes += notes_of_logs(spec, read, skip)
    if is_imported(spec):  # no step, no mark: its logs begin with a backfill
        return once(notes)
    notes += _of_evaluations(spec, result, read)
    if digest_of(spec) is not None and not contradicts(run, spec):
        notes += [*_of_marks(spec, read), *_of_tasks(spec, read)]
        if METRICS not in skip:
            notes += _of_metrics(spec, result, read)
    return once(notes)


def notes_of_spec(run: str, spec: Mapping[str, Any]) -> list[Note]:
    """Why a spec.json cannot be that of the run, which need not be complete."""
    return [Note(SPEC, problem, spoils=True)] if (problem := contradicts(run, spec)) else []


def notes_of_logs(spec: Mapping[str, Any], read: ReadFile, skip: Collection[str] = ()) -> list[Note]:
    """Rows that hold what no training writes, of a run that need not be complete."""
    notes, most = [], _most_loss(spec)
    for name in {METRICS, EVALUATIONS}.difference(skip):
        odd = next(filter(None, (_odd_number(row, most) for row in _rows(read, name) or ())), "")
        if odd:
            notes.append(Note(name, odd, doubtful=digest_of(spec) is not None))
    return notes


def _odd_number(row: Mapping[str, Any], most_loss: float) -> str:
    """A value of a row of a log that is no number, or one that it cannot be; empty where all are well."""
    of_a_task = str(row.get("name")).startswith(OF_TASKS)
    for key, value in row.items():
        if key == "name" or value is None or (key == "value" and of_a_task):
            continue
        found = finite(value)
        if found is None and not isinstance(value, str):
            return f"says {printable(key)}={shown(value)}, which is no number"
        if key in NEVER_NEGATIVE and (found is None or found < 0):
            return f"says {key}={shown(value)}, which cannot be"
    loss = finite(row.get("loss"))
    if loss is not None and not 0 < loss <= most_loss:
        return f"says loss={loss:g}, which no training goes on from"
    return ""


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
    for key, stored in params.items():
        # Of experts a token meets the active ones alone, and 6N is of those (model/ledger.py).
        count = params.get("active", stored) if key == "total" else stored
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
            notes.append(Note(name, error.why, spoils=name in (SPEC, LEDGER), doubtful=True))
            continue
        problem = "is missing" if payload is None else seal.difference(cover, payload)
        doubtful = bool(problem) and payload is not None
        if not problem and payload is not None and len(payload) > cover["bytes"]:
            problem = f"has {len(payload) - cover['bytes']:,} bytes more than when the run was complete"
        if problem:
            notes.append(Note(name, problem, spoils=name in (SPEC, LEDGER) and doubtful, doubtful=doubtful))
    return notes


def _of_evaluations(spec: Mapping[str, Any], result: Mapping[str, Any], read: ReadFile) -> list[Note]:
    """Where evals.jsonl says another end than result.json.

    With a seal the result is known to be what was written; without one nobody knows which of them was changed.
    """
    try:
        payload = read(EVALUATIONS)
    except Unreadable as error:
        return [Note(EVALUATIONS, error.why, doubtful=True)]
    if payload is None:
        return [Note(EVALUATIONS, "is missing, though the run is complete")]
    rows, _ = whole_rows(payload.split(b"\n"))
    last = values_at(rows, result.get("tokens"))
    spoils = not (seal.is_sealed(result) and seal.is_whole(result))
    evaluations = result.get("evals")
    for name, value in evaluations.items() if isinstance(evaluations, Mapping) else ():
        if name not in last:
            return [Note(EVALUATIONS, f"has no {printable(name)} of the end, which {RESULT} has")]
        wanted, found = finite(value), last[name]
        # A task may have been scored again on other problems, by a backfill; the losses never are.
        scores = found[-1:] if name in (LOSS, BITS_PER_BYTE) else found
        if wanted is None or not any(score is not None and _same(wanted, score) for score in scores):
            said = f"says {printable(name)}={shown(found[-1])} at the end, and {RESULT} {shown(value)}"
            fitted = name == LOSS or digest_of(spec) is not None
            return [Note(EVALUATIONS, said, spoils=spoils and fitted, doubtful=fitted)]
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


def _rows(read: ReadFile, name: str) -> list[dict[str, Any]] | None:
    """The rows of a log; None where it is not there or cannot be read, which is told elsewhere."""
    try:
        payload = read(name)
    except Unreadable:
        return None
    return None if payload is None else whole_rows(payload.split(b"\n"))[0]


def _of_marks(spec: Mapping[str, Any], read: ReadFile) -> Iterator[Note]:
    """Evaluations that the spec asks for and the log does not have."""
    rows = _rows(read, EVALUATIONS)
    if rows is None:
        return
    begins, wanted = spec["branch_at_tokens"] or 0, len(spec.get("tasks", ()))
    marks = [mark for mark in sorted({*spec["evaluation_marks"], spec["tokens"]}) if mark > begins]
    at_marks = {mark: values_at(rows, mark) for mark in marks}
    missing = [mark for mark, values in at_marks.items() if values.get(LOSS, [None])[-1] is None]
    if missing:
        yield Note(
            EVALUATIONS, f"has no {LOSS} at {len(missing)} of {len(marks)} marks, first at {missing[0]} tokens"
        )
        return
    for mark, values in at_marks.items():
        held_out = {name: scores for name, scores in values.items() if not name.startswith(OF_TASKS)}
        wrong = next((name for name, scores in held_out.items() if scores[-1] is None), None)
        if wrong is not None:
            yield Note(EVALUATIONS, f"has no number for {shown(wrong)} at {mark} tokens", doubtful=True)
            return
        scored = {name.rpartition("/")[0] for name in values if name.startswith("task/")}
        if len(scored) < wanted:
            yield Note(EVALUATIONS, f"has scores of {len(scored)} of {wanted} tasks at {mark} tokens")
            return


def _of_metrics(spec: Mapping[str, Any], result: Mapping[str, Any], read: ReadFile) -> Iterator[Note]:
    """Steps that are missing, and a loss of the last steps that is not the one that the result has of them."""
    try:
        if read(METRICS) is None:
            yield Note(METRICS, "is missing, though the run is complete")
    except Unreadable as error:
        yield Note(METRICS, error.why, doubtful=True)
    rows = _rows(read, METRICS)
    if rows is None:
        return
    # As the result is written: by token count, the row that was written last.
    losses = {tokens: finite(row.get("loss")) for row in rows if isinstance(tokens := row.get("tokens"), int)}
    first, end = (spec["branch_at_tokens"] or 0) + spec["batch_tokens"], spec["tokens"]
    steps = range(first, end + 1, spec["batch_tokens"])
    missing = [tokens for tokens in steps if losses.get(tokens) is None]
    if missing:
        yield Note(
            METRICS,
            f"has no loss of {len(missing)} of {len(steps)} steps, first of that at {missing[0]} tokens",
        )
        return
    rates = [
        (row, finite(row.get("flops")), finite(row.get("step"))) for row in rows if row.get("tokens") in steps
    ]
    for row, flops, step in rates:
        usual, batch = (rates[0][1] or 0.0) / rates[0][0]["tokens"], spec["batch_tokens"]
        if (flops is not None and not _same(flops / row["tokens"], usual)) or step not in (
            None,
            row["tokens"] / batch,
        ):
            said = f"says step={shown(row.get('step'))} and flops={shown(row.get('flops'))} at {row['tokens']} tokens"
            yield Note(METRICS, f"{said}, which other rows contradict", doubtful=True)
            return
    tail = [loss for tokens, loss in losses.items() if loss is not None and tokens > 0.95 * end]
    written, mean = finite(result.get("train_loss")), sum(tail) / len(tail)
    if written is not None and not math.isclose(mean, written, rel_tol=1e-6):
        said = f"has a mean loss of {mean:.6g} at the end, and {RESULT} train_loss={written:.6g}"
        yield Note(METRICS, said, doubtful=True)


def _of_tasks(spec: Mapping[str, Any], read: ReadFile) -> Iterator[Note]:
    """Tasks that are scored and not described."""
    tree, damage = tree_of(read, TASKS)
    wanted = len(spec.get("tasks", ()))
    if damage is not None:
        yield Note(TASKS, damage.problem)
    elif tree is None and wanted:
        yield Note(TASKS, "is missing, though the spec names tasks")
    elif tree is not None:
        try:
            typed(dict[str, TaskRecord], tree)
        except BadInput as error:
            yield Note(TASKS, f"says {error}")
            return
        if len(tree) < wanted:
            yield Note(TASKS, f"describes {len(tree)} tasks, and the spec names {wanted}")
            return
        yield from _of_chances(tree, _rows(read, EVALUATIONS) or ())


def _of_chances(tasks: Mapping[str, TaskRecord], rows: Iterable[Mapping[str, Any]]) -> Iterator[Note]:
    """The chances and numbers of problems stand in the log too: those that were scored last count."""
    last = {row.get("name"): row for row in rows if isinstance(row.get("name"), str)}
    for task, record in tasks.items():
        for key in ("chance", "choice_chance"):
            row = last.get(f"task/{task}/{key}", {})
            pairs = (
                (key, finite(row.get("value")), record[key]),
                ("items", finite(row.get("n")), record["items"]),
            )
            for name, scored, said in pairs if row else ():
                if scored is not None and not _same(scored, said):
                    text = f"says {name}={said:g} of {printable(task)}, and {EVALUATIONS} {scored:g}"
                    yield Note(TASKS, text, doubtful=True)
                    return


def values_at(rows: Iterable[Mapping[str, Any]], tokens: object) -> dict[str, list[float | None]]:
    """The evaluations at a token count by name: those of later attempts behind, None for what is no finite number."""
    found: dict[str, list[tuple[float, float | None]]] = {}
    for row in rows:
        name = row.get("name")
        if row.get("tokens") == tokens and isinstance(name, str):
            found.setdefault(name, []).append((finite(row.get("attempt")) or 0.0, finite(row.get("value"))))
    return {
        name: [value for _, value in sorted(scored, key=lambda one: one[0])] for name, scored in found.items()
    }
