"""Score tasks on runs that are trained already.

A hole is a task without its scores at the end of a complete run, or with the scores of other problems. Only holes
are filled, from the run's last checkpoint; rows that are there stay as they are.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from core.errors import BadInput
from core.files import JsonLines, read_rows
from core.items import items_at
from core.records import HELD_OUT_TEXT, TaskRecord
from core.rundir import EVALUATIONS, SPEC, TASK_ITEMS, TASKS, RunDirectory, SweepDirectory
from data.cache import open_or_build
from data.tasks.registry import located
from training.checksums import DamagedCheckpoint
from training.evaluate.loss import as_read, evaluation_sequences, held_out, score_each
from training.evaluate.score import METRICS, PreparedTask, score_tasks
from training.evaluate.tasks import held_out_tasks, write_records
from training.evaluate.write import write_scores, write_text_items
from training.load import NoCheckpoint, parameters
from training.processes.mesh import choose_mesh
from training.records import RunIsLocked, read_spec, run_lock
from training.spec import RunSpec
from training.step import make_evaluation_step

NO_CHOICE = {"choice_accuracy", "choice_chance", "brier"}
SINCE_LATER = {"choice_accuracy_norm"}  # runs that were scored before it was counted are no holes


@dataclasses.dataclass
class BackfillSummary:
    """What a backfill did.

    Attributes:
      filled: (run, task) pairs scored now.
      present: (run, task) pairs that had their scores.
      incomplete: runs that are not trained to their end.
      failed: runs that could not be scored, with the reason.
      records: what tasks.json says of each task.
    """

    filled: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    present: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    incomplete: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    records: dict[str, TaskRecord] = dataclasses.field(default_factory=dict)


def run_directories(sweep: Path) -> list[Path]:
    """The run directories of a sweep, sorted by name.

    Raises:
      BadInput: no such directory, or no run in it.
    """
    if not sweep.is_dir():
        raise BadInput(f"{sweep}: no such directory of a sweep")
    found = [run.path for run in SweepDirectory(sweep).runs()]
    if not found:
        raise BadInput(f"{sweep}: no runs in it (no folder with a {SPEC})")
    return found


def fill(
    sweep: Path,
    names: Sequence[str],
    items: int,
    cache_root: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    text: bool = False,
) -> BackfillSummary:
    """Fill the holes of every complete run of a sweep; doing it again changes nothing.

    Args:
      items: problems of each task.
      report: called with one line for each run that is scored.
      text: the loss of each held-out sequence too.

    Raises:
      BadInput: no such sweep or task, problems that do not fit, or a task in the training text.
    """
    if not names and not text:
        raise BadInput("--tasks: name at least one task, or give --text")
    summary = BackfillSummary()
    for directory in run_directories(sweep):
        if not RunDirectory(directory).is_complete():
            summary.incomplete.append(directory.name)
            continue
        try:
            spec = read_spec(directory)
        except BadInput as error:
            summary.failed[directory.name] = str(error)
            continue
        tasks = held_out_tasks(tuple(dict.fromkeys(names)), items, spec.data, cache_root)
        summary.records |= tasks.records
        if _reads_other_text(directory, tasks.fingerprint):
            said = f"{spec.data.corpus!r} in tokens of {spec.data.tokenizer!r} is another stream here"
            if spec.imported and not RunDirectory(directory).read_environment()["corpus"]["fingerprint"]:
                said = "imported, and what it was trained on is not known"
            elif text or spec.data.tokenizer != "byte":
                summary.failed[directory.name] = f"{said} than the one that the run was trained on"
                continue
            report(f"{directory.name}: {said}; overlap is counted with the text here")
        try:
            with run_lock(directory, 10.0):
                holes = missing_tasks(directory, spec, tasks.records)
                asked = [*tasks.records, *((HELD_OUT_TEXT,) if text else ())]
                if text and not has_text_items(directory, spec):
                    holes.append(HELD_OUT_TEXT)
                summary.present += [(directory.name, name) for name in asked if name not in holes]
                if holes:
                    files = RunDirectory(directory)
                    intact = [name for name in (EVALUATIONS, TASKS, TASK_ITEMS) if files.is_intact(name)]
                    wanted = [task for task in tasks.prepared if task.name in holes]
                    _score(directory, spec, wanted, cache_root if HELD_OUT_TEXT in holes else None)
                    write_records(
                        directory, {name: tasks.records[name] for name in holes if name in tasks.records}
                    )
                    files.seal_again(*intact)
                    summary.filled += [(directory.name, name) for name in holes]
                    report(f"{directory.name}: scored on {', '.join(holes)}")
        except (RunIsLocked, NoCheckpoint, DamagedCheckpoint, BadInput) as error:
            summary.failed[directory.name] = str(error)
    return summary


def _reads_other_text(directory: Path, fingerprint: str) -> bool:
    """Whether the run was trained on other tokens than those that its specification leads to here."""
    files = RunDirectory(directory)
    return files.environment.exists() and files.read_environment()["corpus"]["fingerprint"] != fingerprint


def task_names(sweep: Path, typed: Sequence[str]) -> list[str]:
    """Names of tasks with the paths from the root on, but those by which a run of the sweep was scored already."""
    known = (
        {name for run in SweepDirectory(sweep).runs() for name in run.read_tasks()} if sweep.is_dir() else set()
    )
    return [name if name in known else located(name) for name in typed]


def missing_tasks(directory: Path, spec: RunSpec, records: Mapping[str, TaskRecord]) -> list[str]:
    """The tasks of `records` that lack a score at the end of the run, or have those of other problems."""
    files = RunDirectory(directory)
    known = files.read_tasks()
    evaluations, _ = files.read_evaluations()  # a torn line is a hole, and is filled
    names = {row.get("name") for row in evaluations if row.get("tokens") == spec.tokens}
    holes = []
    for name, record in records.items():
        has_choices = record["choice_chance"] < 1
        wanted = set(METRICS) - SINCE_LATER - (set() if has_choices else NO_CHOICE)
        whole = all(f"task/{name}/{metric}" in names for metric in wanted)
        if not whole or name not in known or known[name]["fingerprint"] != record["fingerprint"]:
            holes.append(name)
    return holes


def has_text_items(directory: Path, spec: RunSpec) -> bool:
    """Whether the run kept the loss of each held-out sequence at its end."""
    return HELD_OUT_TEXT in items_at(read_rows(RunDirectory(directory).task_items)[0], spec.tokens)


def _score(directory: Path, spec: RunSpec, tasks: Sequence[PreparedTask], text: Path | None) -> None:
    """Score tasks, and the sequences of held-out text where `text` is the folder of token caches."""
    mesh, row = choose_mesh("", spec), {"tokens": spec.tokens}
    files = RunDirectory(directory)
    row["attempt"] = files.read_result()["attempts"]
    with jax.set_mesh(mesh):
        params = parameters(directory, spec, mesh, spec.tokens)
        scores = score_tasks(tasks, spec.model, mesh, params, spec.data.sequence_length) if tasks else []
        if text is not None:
            sequences_at_once = evaluation_sequences(spec, mesh)
            slice_ = as_read(held_out(open_or_build(spec.data, text), spec.data, sequences_at_once), spec)
            sequences = score_each(make_evaluation_step(spec.model, mesh, spec.objective), params, slice_)
            write_text_items(directory, slice_, sequences, **row)
    if tasks:
        with JsonLines(files.evaluations) as log:
            write_scores(log, directory, tasks, scores, **row)
