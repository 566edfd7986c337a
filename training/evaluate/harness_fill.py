"""Score complete runs with lm-evaluation-harness; what is there stays. Imported where the harness is installed."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from core.errors import BadInput
from core.files import JsonLines
from core.records import HARNESS, TaskRecord
from core.rundir import EVALUATIONS, TASK_ITEMS, TASKS, RunDirectory, SweepDirectory
from data.cache import open_or_build
from training.checksums import DamagedCheckpoint
from training.evaluate.harness_tasks import Definition, Definitions, Scored, evaluate
from training.evaluate.tasks import count_overlaps, write_records
from training.evaluate.text_model import TextModel
from training.evaluate.write import write_items, write_numbers
from training.load import NoCheckpoint, load
from training.records import RunIsLocked, read_spec, run_lock
from training.spec import RunSpec

Report = Callable[[str], None]


@dataclasses.dataclass
class HarnessSummary:
    """What was done: (run, task) pairs scored now and present before, runs not complete, and failed with the cause."""

    scored: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    present: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    incomplete: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


def directories(path: Path) -> list[Path]:
    """A run, or the runs of a sweep.

    Raises:
      BadInput: neither.
    """
    if RunDirectory(path).is_run():
        return [path]
    found = [run.path for run in SweepDirectory(path).runs()]
    if not found:
        raise BadInput(f"{path}: neither a run nor a sweep (no run's files in it)")
    return found


def score_runs(
    runs: Sequence[Path],
    definitions: Definitions,
    limit: int | None,
    batch: int | None,
    cache: Path,
    say: Report,
) -> HarnessSummary:
    """Score what is missing at the end of each complete run; doing it again changes nothing.

    Raises:
      BadInput: a definition that the harness or the model refuses.
    """
    summary = HarnessSummary()
    fingerprints = _fingerprints(definitions)
    for directory in runs:
        if not RunDirectory(directory).is_complete():
            summary.incomplete.append(directory.name)
            continue
        try:
            spec = read_spec(directory)
            with run_lock(directory, 10.0):
                missing = [name for name in fingerprints if not _has(directory, spec, name, fingerprints[name])]
                summary.present += [(directory.name, name) for name in fingerprints if name not in missing]
                if missing:
                    model = TextModel.of(load(directory, tokens=spec.tokens, cache=cache), batch)
        except (RunIsLocked, NoCheckpoint, DamagedCheckpoint, BadInput) as error:
            summary.failed[directory.name] = str(error)
            continue
        if not missing:
            continue
        found = evaluate(model, definitions, missing, limit)
        records = _records(definitions, fingerprints, missing, spec, model, cache, say)
        try:
            with run_lock(directory, 10.0):
                _write(directory, spec, {name: found[name] for name in missing}, records)
        except RunIsLocked as error:
            summary.failed[directory.name] = str(error)
            continue
        summary.scored += [(directory.name, name) for name in missing]
        for name in missing:
            for metric, score in found[name].scores.items():
                value = f"{score.value:.6g} +- {score.stderr:.2g}"
                say(f"{directory.name} {HARNESS}{name}/{metric} {value} ({score.n})")
        for told, times in sorted(model.told.items()):
            say(f"note: {directory.name}: {times} {told}")
    return summary


def _fingerprints(definitions: Definitions) -> dict[str, str]:
    own = {name: definition.fingerprint for name, definition in definitions.tasks.items()}
    groups = {
        name: hashlib.sha256(json.dumps([own[leaf] for leaf in leaves]).encode()).hexdigest()
        for name, leaves in definitions.groups.items()
        if definitions.loaded["groups"][name].has_aggregation
    }
    return {**own, **groups}


def _has(directory: Path, spec: RunSpec, name: str, fingerprint: str) -> bool:
    files = RunDirectory(directory)
    rows, _ = files.read_evaluations()
    scored = any(
        row.get("name") == f"{HARNESS}{name}/chance" and row.get("tokens") == spec.tokens for row in rows
    )
    record = files.read_tasks().get(f"{HARNESS}{name}")
    return scored and record is not None and record["fingerprint"] == fingerprint


def _write(
    directory: Path, spec: RunSpec, found: Mapping[str, Scored], records: Mapping[str, TaskRecord]
) -> None:
    files = RunDirectory(directory)
    intact = [name for name in (EVALUATIONS, TASKS, TASK_ITEMS) if files.is_intact(name)]
    attempt = files.read_result()["attempts"]
    with JsonLines(files.evaluations) as log:
        for name, scored in found.items():
            write_numbers(log, f"{HARNESS}{name}", scored.scores, tokens=spec.tokens, attempt=attempt)
    for name, scored in found.items():
        if scored.columns:
            label = f"{HARNESS}{name}"
            fingerprint = records[label]["fingerprint"]
            write_items(directory, label, fingerprint, scored.columns, tokens=spec.tokens, attempt=attempt)
    write_records(directory, records)
    files.seal_again(*intact)


def _records(
    definitions: Definitions,
    fingerprints: Mapping[str, str],
    names: Sequence[str],
    spec: RunSpec,
    model: TextModel,
    cache: Path,
    say: Report,
) -> dict[str, TaskRecord]:
    tasks = [definitions.tasks[name] for name in names if name in definitions.tasks]
    overlaps = _overlaps(tasks, spec, model, cache, say)
    records = {}
    for name in names:
        chance, items = definitions.chance(name)
        records[f"{HARNESS}{name}"] = TaskRecord(
            family="lm-eval",
            items=items,
            chance=chance,
            choice_chance=chance,
            positive_control=False,
            memorised=False,
            fingerprint=fingerprints[name],
            overlap=overlaps.get(name, {}),
        )
    return records


def _overlaps(
    tasks: Sequence[Definition], spec: RunSpec, model: TextModel, cache: Path, say: Report
) -> dict[str, dict[str, int]]:
    """How much of each task stands in the training text; nothing where that text is not here."""
    try:
        text = open_or_build(spec.data, cache)
    except BadInput as error:
        say(f"note: overlap with the training text is not counted: {error}")
        return {}
    tokens = {
        task.name: (task.fingerprint, [np.asarray(own) for own in model.tokenizer.encode(task.texts)])
        for task in tasks
    }
    found = count_overlaps(tokens, spec.data, text, cache)
    for task in tasks:
        items = found[task.name]["items_found"]
        if items:
            say(f"note: {items} of {task.items} documents of {HARNESS}{task.name} are in the training text")
    return found


def forget(folder: Path) -> None:
    """Remove what the datasets library kept of the documents."""
    shutil.rmtree(folder, ignore_errors=True)
