"""Run a sweep on Slurm: sbatch arrays from one readable template, and nothing that a kill could lose.

result.json on disk is the only truth. What Slurm has queued is asked of squeue each time and never recorded, so
`submit` again sends exactly what is neither complete nor queued.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import write_atomic, write_json
from core.rundir import SweepDirectory
from launchers.local.launch import sweep_lock
from launchers.packs import PackSizes, measured_sizes, parse_pack
from launchers.slurm.batch import Array, plan_arrays, render
from launchers.slurm.options import Resources, SlurmOptions
from launchers.slurm.queue import (
    BATCHES,
    DEFAULT_MAX_ARRAY_SIZE,
    Queued,
    SlurmDoesNotAnswer,
    batches,
    max_array_size,
    read_queue,
    require_slurm,
    slurm_command,
)
from training.cost import parameter_count
from training.records import write_spec
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class Submission:
    """What `submit` did: arrays sent (job id, runs), why other runs were not sent, and what was said about packs."""

    sent: tuple[tuple[str, Array], ...]
    complete: tuple[str, ...]
    queued: dict[str, Queued]
    scripts: tuple[Path, ...]
    lines: tuple[str, ...] = ()


def is_complete(sweep: Path, run: str) -> bool:
    return SweepDirectory(sweep).run(run).is_complete()


def _sorted_out(
    sweep: Path, specs: Sequence[RunSpec], queued: Mapping[str, Queued]
) -> tuple[tuple[str, ...], list[RunSpec], dict[str, Queued]]:
    """Which of these runs are complete, which are neither complete nor queued, and what the queue holds of them."""
    names = [spec.run_id for spec in specs]
    complete = tuple(name for name in names if is_complete(sweep, name))
    settled, asked = {*complete, *queued}, set(names)
    todo = [spec for spec in specs if spec.run_id not in settled]
    return complete, todo, {run: job for run, job in queued.items() if run in asked}


def pack_sizes(specs: Sequence[RunSpec], options: SlurmOptions, cache: Path) -> PackSizes:
    """The most runs of a pack, by what each resource shape says; 1 where a run has several processes or a mesh."""
    shapes: dict[Resources, list[RunSpec]] = {}
    for spec in specs:
        shapes.setdefault(options.shape_for(parameter_count(spec)), []).append(spec)
    sizes, lines = {}, []
    for shape, members in shapes.items():
        pack = 1 if shape.trains_alone else parse_pack(shape.pack, "pack")
        chosen = measured_sizes(members, pack, shape.gpus, cache, options.throttle)
        sizes.update(chosen.sizes)
        lines += [line for line in chosen.lines if line not in lines]
    return PackSizes(sizes, tuple(lines))


def submit(sweep: Path, specs: Sequence[RunSpec], options: SlurmOptions, cache: Path) -> Submission:
    """Send every run that is neither complete nor queued; packs are formed of these alone.

    Raises:
      BadInput: Slurm does not answer or refuses an array (what was sent before is sent; the same command sends the
        rest), the folder cannot be written, or a run directory holds another spec.
    """
    require_slurm()
    sweep = sweep.resolve()
    try:
        with sweep_lock(sweep / BATCHES):
            queued = read_queue(sweep)
            complete, todo, mine = _sorted_out(sweep, specs, queued)
            for spec in todo:
                write_spec(sweep / spec.run_id, spec)
            sizes = pack_sizes(todo, options, cache)
            arrays = plan_arrays(todo, options, max_array_size(), sizes)
            sent, scripts = _send(sweep, arrays, options, cache.resolve(), queued)
    except SlurmDoesNotAnswer as error:
        raise BadInput(
            f"Slurm does not answer: {error}; nothing is known about the queue, nothing was sent"
        ) from None
    return Submission(tuple(sent), complete, mine, tuple(scripts), sizes.lines)


def _send(
    sweep: Path, arrays: Sequence[Array], options: SlurmOptions, cache: Path, queued: dict[str, Queued]
) -> tuple[list[tuple[str, Array]], list[Path]]:
    jobs: list[str] = []
    scripts = []
    for array in arrays:
        batch = _next_batch(sweep)
        write_batch(batch, array, options, sweep, cache)
        scripts.append(batch / "array.sh")
        waits = [jobs[index] for index in array.after]
        # The trunks of a pack are one element of the queue: named once.
        waits += dict.fromkeys(queued[trunk].job for trunk in array.parents if trunk in queued)
        command = [
            "sbatch",
            "--parsable",
            *([f"--dependency=afterany:{':'.join(waits)}"] if waits else []),
            "array.sh",
        ]
        try:
            answer = slurm_command(command, cwd=batch)
        except SlurmDoesNotAnswer as error:
            count = sum(len(done.runs) for done in arrays[: len(jobs)])
            raise BadInput(
                f"sbatch refused {batch / 'array.sh'}: {error}; {count} runs were sent before it, the same command "
                "sends the rest"
            ) from None
        jobs.append(answer.strip().split(";")[0])
        write_json(batch / "submitted.json", {"job": jobs[-1], "command": command, "time": time.time()})
    return list(zip(jobs, arrays, strict=True)), scripts


def _next_batch(sweep: Path) -> Path:
    """A new folder slurm/NNN of the sweep, created here and by nobody else."""
    existing = batches(sweep)
    batch = sweep / BATCHES / f"{int(existing[-1].name) + 1 if existing else 1:03}"
    batch.mkdir(parents=True)
    return batch


def write_batch(batch: Path, array: Array, options: SlurmOptions, sweep: Path, cache: Path) -> None:
    """runs.txt, array.sh and logs/ of one array."""
    script = render(array, options, batch, sweep, cache, options.python or sys.executable)
    (batch / "logs").mkdir(parents=True, exist_ok=True)
    write_atomic(batch / "runs.txt", "".join(f"{' '.join(element)}\n" for element in array.elements))
    write_atomic(batch / "array.sh", script)


def dry_run(sweep: Path, specs: Sequence[RunSpec], options: SlurmOptions, cache: Path) -> Submission:
    """Write what `submit` would send under slurm/dry-run and send nothing; works without Slurm."""
    sweep = sweep.resolve()
    try:
        queued, most = read_queue(sweep), max_array_size()
    except SlurmDoesNotAnswer:
        queued, most = {}, DEFAULT_MAX_ARRAY_SIZE
    complete, todo, mine = _sorted_out(sweep, specs, queued)
    sizes = pack_sizes(todo, options, cache)
    arrays = plan_arrays(todo, options, most, sizes)
    scripts = []
    for index, array in enumerate(arrays):
        batch = sweep / BATCHES / "dry-run" / f"{index + 1:03}"
        with writes(batch):
            write_batch(batch, array, options, sweep, cache.resolve())
        scripts.append(batch / "array.sh")
    return Submission(tuple(("", array) for array in arrays), complete, mine, tuple(scripts), sizes.lines)


def cancel(sweep: Path) -> int:
    """Take every run of this sweep out of Slurm's queue; running ones save first. Returns how many there were.

    Each batch is marked before scancel, so that an element that was about to be requeued, or is started once more,
    sees the mark and ends; `submit` again makes new batches.

    Raises:
      BadInput: no such sweep, or Slurm does not answer.
    """
    if not sweep.is_dir():
        raise BadInput(f"{sweep}: no such sweep")
    try:
        queue = read_queue(sweep)
        for batch in batches(sweep):
            write_atomic(batch / "cancelled", "")
        jobs = sorted({entry.job.split("_")[0] for entry in queue.values()})
        for start in range(0, len(jobs), 200):
            some = jobs[start : start + 200]
            slurm_command(
                ["scancel", "--state=PENDING", *some]
            )  # first: nothing starts in the place of what ends
            slurm_command(["scancel", *some])
    except SlurmDoesNotAnswer as error:
        raise BadInput(f"Slurm does not answer: {error}") from None
    return len(queue)


def cancel_and_say(sweep: Path) -> int:
    """`cancel` as a command: 0, or BadInput."""
    sys.stdout.write(f"{sweep}: {cancel(sweep)} runs taken out of the queue; running ones save and end\n")
    return EXIT_COMPLETE


def describe(submission: Submission, sweep: Path, *, dry: bool) -> str:
    """What happened, for a person."""
    lines = list(submission.lines)
    for (job, array), script in zip(submission.sent, submission.scripts, strict=True):
        after = (
            f", after {', '.join(submission.sent[index][0] or f'array {index + 1}' for index in array.after)}"
        )
        runs, elements = len(array.runs), len(array.elements)
        lines.append(
            f"{'would send' if dry else f'job {job}:'} {runs} {array.role}"
            f"{f' as {elements} elements' if elements < runs else ''}{after if array.after else ''}: {script}"
        )
    count = sum(len(array.runs) for _, array in submission.sent)
    lines.append(
        f"{sweep}: {count} {'to send' if dry else 'sent'}, {len(submission.queued)} already queued, "
        f"{len(submission.complete)} complete"
    )
    return "\n".join(lines)


def as_json(submission: Submission) -> str:
    """The same for a program."""
    return json.dumps(
        {
            "arrays": [
                {
                    "job": job,
                    "runs": list(array.runs),
                    "elements": [list(element) for element in array.elements],
                    "script": str(script),
                }
                for (job, array), script in zip(submission.sent, submission.scripts, strict=True)
            ],
            "queued": {run: entry.job for run, entry in submission.queued.items()},
            "complete": list(submission.complete),
        },
        indent=1,
    )


__all__ = ["Submission", "as_json", "cancel", "cancel_and_say", "describe", "dry_run", "submit"]
