"""Where every run of a sweep stands, from its directories alone."""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from core.codec import to_json
from core.epochs import reading_of
from core.errors import BadInput
from core.files import read_object
from core.numbers import finite, number, short_count
from core.reading import path_exists, printable
from core.records import LOSS, final_evaluation, provenance_of
from core.rundir import ERROR, SPEC, SWEEP, RunDirectory, SweepDirectory
from core.sweep_file import SweepRecord, known_sweep_file
from launchers.asked import code_line
from launchers.condition import UNUSED, condition, long_logs
from launchers.slurm.queue import Queued, SlurmDoesNotAnswer, read_queue, submitted_runs
from training.records import is_locked, read_spec
from training.spec import RunSpec

IMPORTED = "imported, not trained here"
NO_FOLDER = f"named in {SWEEP}, no folder"
State = Literal["complete", "running", "queued", "failed", "stopped", "lost", "missing", "broken"]


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """One run: its state, how far it came, its last losses, and what is wrong with it.

    States: complete (result.json), running (a live process holds it, or Slurm runs it), queued (Slurm will start it),
    failed (error.txt), stopped (started, can be resumed), lost (submitted, neither complete nor queued any more),
    missing (never started; or named in sweep.json and not on the disk), broken (its files cannot be read).
    """

    run: str
    state: State
    tokens: int
    total_tokens: int | None
    loss: float | None
    note: str
    commit: str | None = None
    corpus: str | None = None
    epochs: float | None = None


def run_status(directory: Path) -> RunStatus:
    """The status of one run directory; a damaged file becomes a note, never an exception."""
    run = RunDirectory(directory)
    try:
        spec = read_spec(directory)
    except (BadInput, OSError) as error:
        return RunStatus(printable(run.name), "broken", 0, None, None, _one_line(error))
    try:
        return _status(run, spec)
    except (BadInput, OSError) as error:
        return RunStatus(spec.run_id, "broken", 0, spec.tokens, None, _one_line(error))


def _one_line(error: Exception) -> str:
    return printable(f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error))


def _status(run: RunDirectory, spec: RunSpec) -> RunStatus:
    started = path_exists(run.environment)
    environment = read_object(run.environment) if started else {}
    provenance = provenance_of(environment)
    status = functools.partial(
        RunStatus,
        run=spec.run_id,
        total_tokens=spec.tokens,
        commit=provenance.commit or None,
        corpus=provenance.corpus or None,
        epochs=_epochs(spec, environment.get("corpus")),
    )
    completion = run.completion()
    if completion.problem:
        raise BadInput(f"{run.result}: {completion.problem}")
    if completion.result is not None:
        loss, tokens = final_evaluation(completion.result), finite(completion.result.get("tokens"))
        if (loss is None and not spec.imported) or tokens is None:
            raise BadInput(f"{run.result}: has no {LOSS} or no tokens")
        notes = condition(run, spec, completion.result, long_logs(run, completion.result))
        said = "; ".join([*([IMPORTED] if spec.imported else []), *map(str, notes)])
        spoilt = any(note.spoils for note in notes)
        return status(
            state="complete", tokens=int(tokens), loss=loss, note=f"{UNUSED}: {said}" if spoilt else said
        )
    last, torn = run.last_metrics()
    state: State = "stopped" if started else "missing"
    note = f"a torn line in {run.metrics.name}" if torn else ""
    if is_locked(run.path):
        state = "running"
    if path_exists(run.error):
        # Of a run that is held: it failed in a pack whose others go on; whoever begins a run removes the file.
        state, note = "failed", _last_line(run)
    row: Mapping[str, object] = last or {}
    tokens = finite(row.get("tokens")) or 0.0
    return status(state=state, tokens=int(tokens), loss=finite(row.get("loss")), note=note)


def _epochs(spec: RunSpec, corpus: object) -> float | None:
    """How often the whole run reads its text, where env.json says how long that is."""
    known = finite(corpus.get("train_tokens")) if isinstance(corpus, Mapping) else None
    reading = reading_of(to_json(spec.data), spec.tokens, known)
    return reading.epochs if reading else None


def _last_line(run: RunDirectory) -> str:
    lines = (run.read(ERROR) or b"").decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1]) if lines else f"{ERROR} is empty"


def sweep_status(directory: Path) -> list[RunStatus]:
    """Every run directory of a sweep, and every run that its sweep.json names and that has none, by name.

    Raises:
      BadInput: no such folder, or no run in it.
    """
    runs = SweepDirectory(directory).runs()
    record, damage = known_sweep_file(directory)
    names = {run.name for run in runs}
    absent = sorted(set(record["runs"]) - names) if record else []
    if not runs and not absent:
        raise BadInput(damage or f"{directory}: holds no run (no folder with a {SPEC})")
    rows = [run_status(run.path) for run in runs]
    rows += [RunStatus(name, "missing", 0, None, None, NO_FOLDER) for name in absent]
    return sorted(rows, key=lambda row: row.run) if absent else rows


def join_queue(rows: list[RunStatus], directory: Path) -> tuple[list[RunStatus], str]:
    """The rows with what Slurm says about them, and a warning where Slurm was asked and did not answer.

    Only runs that are not complete can change: the disk is the truth, the queue a hint about what is still to come.
    """
    submitted = submitted_runs(directory)
    if not submitted:
        return rows, ""
    try:
        queue, warning = read_queue(directory), ""
    except SlurmDoesNotAnswer as error:
        return rows, f"Slurm does not answer ({error}): queued and lost runs cannot be told apart"
    return [
        _join(row, queue.get(row.run), submitted.get(row.run), directory / row.run) for row in rows
    ], warning


def _join(row: RunStatus, job: Queued | None, batch: Path | None, directory: Path) -> RunStatus:
    if row.state in ("complete", "broken"):
        return row
    if row.state == "failed" and job is not None and job.state != "PENDING" and is_locked(directory):
        return row  # in a pack whose other runs go on; a run that is begun anew has lost its error.txt by then
    if job is not None and job.state == "PENDING":
        return dataclasses.replace(row, state="queued", note=f"job {job.job}: {job.reason}")
    if job is not None:
        return dataclasses.replace(row, state="running", note=f"job {job.job}: {job.state.lower()}")
    if batch is not None and row.state in ("stopped", "missing"):
        why = f"sent as {batch.name}, no longer queued; submit again (logs: {batch / 'logs'})"
        return dataclasses.replace(row, state="lost", note=why)
    return row


def show_status(directory: Path, *, as_json: bool = False) -> None:
    """Print the table, the totals, and where recorded code or corpus differ."""
    rows, warning = join_queue(sweep_status(directory), directory)
    record, damage = known_sweep_file(directory)
    for said in filter(None, (warning, damage)):
        print(f"warning: {said}", file=sys.stderr)  # noqa: T201
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))  # noqa: T201
        return
    # --json and other programs are spared it
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    # Runs of an earlier version do not know it.
    epochs = ("epochs",) if any(row.epochs is not None for row in rows) else ()
    for heading in ("run", "state", "tokens", *epochs, "loss", "note"):
        right = heading in ("tokens", "epochs", "loss")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        total = f"/{short_count(row.total_tokens)}" if row.total_tokens else ""
        table.add_row(
            row.run,
            row.state,
            f"{short_count(row.tokens)}{total}",
            *("" if row.epochs is None else number(row.epochs) for _ in epochs),
            "" if row.loss is None else f"{row.loss:.4f}",
            row.note,
        )
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    console.print(table)
    counts = {state: sum(row.state == state for row in rows) for state in sorted({row.state for row in rows})}
    console.print(f"{len(rows)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    absent = [row.run for row in rows if row.note == NO_FOLDER]
    if absent:
        console.print(
            f"warning: {len(absent)} runs are missing: {SWEEP} names them and they have no folder: "
            f"{', '.join(absent[:3])}{f' and {len(absent) - 3} more' if len(absent) > 3 else ''}"
        )
    unused = [row.run for row in rows if row.state == "broken" or row.note.startswith(UNUSED)]
    if unused:
        console.print(
            f"warning: {len(unused)} runs are damaged and in no fit: {', '.join(unused[:3])}"
            f"{f' and {len(unused) - 3} more' if len(unused) > 3 else ''}; python launch.py doctor {directory}"
        )
    for what in ("commit", "corpus"):
        seen = sorted({getattr(row, what) for row in rows if getattr(row, what)})
        if len(seen) > 1:
            console.print(
                f"warning: the runs record {len(seen)} different {what}s: {', '.join(x[:12] for x in seen)}"
            )
    if record is not None:
        for line in _what_it_is(record):
            print(line)  # noqa: T201  whole, to be copied, however wide the terminal is


def _what_it_is(record: SweepRecord) -> list[str]:
    """Question, code and command of a sweep.json."""
    said = [f"question: {record['question']}"] if record.get("question") else []
    if copied := record.get("copied"):
        sources = ", ".join(sorted({one["sweep"] for one in copied.values()}))
        said.append(f"{len(copied)} runs were copied from {sources}")
    said.append(code_line(record.get("commit"), record.get("diff_sha256")))
    if command := record.get("command"):
        where = f", in {record['folder']}" if record.get("folder") not in (None, os.getcwd()) else ""
        said.append(f"asked for on {record.get('created', '')[:10]}{where}: {command}")
    return [printable(line, most=10_000) for line in said]
