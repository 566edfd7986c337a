"""`python launch.py run`: prepare the data, train what is missing on this machine, sum up."""

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

from core import disk, stop
from core.bounds import Allowed
from core.epochs import repeated_line
from core.errors import EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput
from core.rundir import SweepDirectory
from launchers.budget import refuse_above
from launchers.elsewhere import say_copied
from launchers.held_back import train_in_order
from launchers.local.launch import LocalOptions, launch
from launchers.packs import parse_pack
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """How to train here; none of it changes what is computed but --cores-per-worker and --mesh, the last bits.

    Attributes:
      workers: worker processes; where none, one an accelerator or CPU core.
      cores_per_worker: CPU threads of one worker.
      mesh: devices of each run by axis, as data=2,fsdp=4,tensor=1; where empty, by rule.
      checkpoint_seconds: least time between checkpoints.
      profile: trace five steps of every run, for ui.perfetto.dev.
      pack: runs of one shape as one program: auto (as many as this device gains from; none on a CPU), off, or the most
        of a pack.
      budget_flops: refuse to train what costs more FLOPs.
      dry_run: say what would be trained, train nothing.
    """

    workers: Annotated[int | None, Allowed(1, 10_000)] = None
    cores_per_worker: Annotated[int, Allowed(1, 10_000)] = 1
    mesh: str = ""
    checkpoint_seconds: Annotated[float, Allowed(1e-3, 1e9)] = 60.0
    profile: bool = False
    pack: str = "auto"
    budget_flops: Annotated[float | None, Allowed(1, 1e40)] = None
    dry_run: bool = False


def local_options(flags: RunFlags, cache: Path) -> LocalOptions:
    """What the launcher needs to know.

    Raises:
      BadInput: a flag out of range, or two that do not go together.
    """
    pack, devices = parse_pack(flags.pack), 0
    if flags.mesh:
        from training.processes.mesh import parse_mesh  # brings JAX, which a run without a mesh is spared here

        devices = math.prod(parse_mesh(flags.mesh).values())
    if flags.mesh or flags.profile:
        flag = f"--mesh={flags.mesh}" if flags.mesh else "--profile"
        if pack not in ("auto", 1):
            raise BadInput(f"--pack={flags.pack}: {flag} is for runs that train alone; must be auto or off")
        pack = 1
    return LocalOptions(
        cache_root=cache,
        workers=flags.workers,
        cores_per_worker=flags.cores_per_worker,
        checkpoint_seconds=flags.checkpoint_seconds,
        mesh=flags.mesh,
        devices_per_worker=devices,
        profile=flags.profile,
        pack=pack,
    )


def train(
    specs: Sequence[RunSpec],
    held: Collection[str],
    directory: Path,
    cache: Path,
    flags: RunFlags,
    begin: Callable[[], None] = lambda: None,
) -> int:
    """Train every run that is missing, those that wait for a forecast last; returns an exit status.

    Args:
      held: run_ids of those that wait for a forecast; none where nothing is to be forecast.
      begin: is called before anything is trained, once nothing is left to be refused.
    """

    refuse_above(specs, directory, flags.budget_flops)

    def left() -> int:
        return sum(not SweepDirectory(directory).run(spec.run_id).is_complete() for spec in specs)

    try:
        ended = train_in_order(
            specs, held, directory, lambda due: _train_now(due, directory, cache, flags, begin)
        )
    except stop.StopRequested:
        ended = EXIT_STOPPED if held or left() else EXIT_COMPLETE
    except OSError as error:
        if (said := disk.line(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        ended = EXIT_STOPPED if left() else EXIT_FAILED
    if ended == EXIT_STOPPED or (stop.requested() and left()):
        who = f"{stop.reason()}: " if stop.requested() else ""
        print(
            f"{who}{left()} of {len(specs)} runs are left, and what they have trained is saved; to go on: "
            f"{stop.this_command()}",
            file=sys.stderr,
        )
        return EXIT_STOPPED
    if not ended and not held:
        print(f"next: python -m analysis.report {directory}")
    return ended


def _train_now(
    specs: Sequence[RunSpec], directory: Path, cache: Path, flags: RunFlags, begin: Callable[[], None]
) -> int:
    # NumPy: a sweep that is complete is spared it
    from training.evaluate.tasks import overlap_line
    from training.prepare import prepare, readings  # brings JAX, which a mistyped flag does not wait for

    options = local_options(flags, cache)
    runs = {spec.run_id: SweepDirectory(directory).run(spec.run_id).completion() for spec in specs}
    for run_id, completion in runs.items():
        if completion.problem:
            result = SweepDirectory(directory).run(run_id).result
            print(f"warning: {result}: {completion.problem}; finishing the run again", file=sys.stderr)
    missing = [spec for spec in specs if runs[spec.run_id].result is None]
    for name, record in prepare(missing, cache, sweep=directory).items():
        print(overlap_line(name, record))
    if said := repeated_line(readings(missing, cache)):
        print(said, flush=True)
    begin()
    say_copied(directory, missing)
    summary = launch(directory, specs, options)
    counts = f"{len(summary.complete)} trained, {len(summary.skipped)} already complete"
    for word, group in (("failed", summary.failed), ("refused", summary.refused), ("stopped", summary.stopped)):
        counts += f", {len(group)} {word}" if group else ""
    print(f"{directory}: {counts}")
    by_cause: dict[str, list[str]] = {}
    for run_id, cause in {**summary.failed, **summary.refused}.items():
        by_cause.setdefault(cause, []).append(run_id)
    for cause, names in by_cause.items():
        who = f"{len(names)} runs, {names[0]} first" if len(names) > 1 else names[0]
        print(f"error: {who}: {cause}", file=sys.stderr)
    return summary.status
