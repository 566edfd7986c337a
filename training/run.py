"""Train one run directory to its end: `python -m training.run runs/<sweep>/<run_id>`.

Exit status: 0 complete, 75 stopped by a signal and resumable, 1 failed (error.txt holds the cause), 2 bad input.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import FlagCreatePairsOff, Positional

from core.cli import parse
from core.errors import BadInput, exit_on_bad_input
from training.command import PLAIN_SECONDS, Flags, create_run, label, log_warnings
from training.execution import Execution
from training.processes.cores import use_cores_as_devices
from training.processes.group import Group
from training.processes.hosts import Membership, from_arguments, from_environment
from training.processes.start import StopSignal, configure_jax, pin_to_cores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Flags):
    """The command line of one run.

    Several processes train one run where each is started with the same arguments but its index.
    """

    directory: Positional[Path]
    """runs/<sweep>/<run_id>, holding spec.json"""
    mesh: str = ""
    """devices by axis: data=2,fsdp=2,tensor=1 (default: by rule)"""
    profile: bool = False
    """trace five steps into RUN/profile, for ui.perfetto.dev"""
    spec: str | None = None
    """the RunSpec as JSON: creates the run directory where there is none"""
    coordinator: str | None = None
    """HOST:PORT where process 0 of several listens"""
    processes: int | None = None
    """how many processes there are"""
    process_index: int | None = None
    """which of them this is, from 0"""
    distributed: bool = False
    """take the three from Slurm (a task of srun) or a TPU host"""
    join_seconds: float = 300.0
    """how long processes wait for each other"""


def membership_of(options: Arguments) -> Membership | None:
    """The place among several processes that the flags give this one; None for a process alone.

    Raises:
      BadInput: flags that contradict each other, or --distributed where nothing says who the others are.
    """
    named = from_arguments(options.coordinator, options.processes, options.process_index)
    if not options.join_seconds > 0:
        raise BadInput(f"--join-seconds={options.join_seconds:g}: must be positive")
    if not options.distributed:
        return named
    if named is not None:
        raise BadInput("--distributed: takes the place of --coordinator, --processes and --process-index")
    return from_environment(os.environ)


def group_of(options: Arguments) -> Group:
    """The processes that train the run, once all have met."""
    membership = membership_of(options)
    configure_jax(options.cache)
    if membership is None or membership.count == 1:
        use_cores_as_devices()
        return Group()
    from training.processes.distributed import join  # loads JAX: a mistake in the flags is said before

    return join(membership, options.directory, options.join_seconds)


class Progress:
    """One line of progress on standard error: rewritten on a terminal, now and then in a file."""

    def __init__(self, group: Group):
        self.on_terminal = sys.stderr.isatty()
        self._leads = group.is_leader
        self._shown = time.monotonic()

    def __call__(self, directory: Path, tokens: int, loss: float, rate: float) -> None:
        if not self._leads or (not self.on_terminal and time.monotonic() - self._shown < PLAIN_SECONDS):
            return
        self._shown = time.monotonic()
        line = f"{tokens:,} tokens  loss {loss:.4f}  {rate:,.0f} tokens/s"
        sys.stderr.write(f"\r{line}   " if self.on_terminal else f"{line}\n")
        sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the run that the command line names."""
    stop = StopSignal()
    stop.install()
    with exit_on_bad_input():
        options = parse(
            FlagCreatePairsOff[Arguments],
            sys.argv[1:] if arguments is None else arguments,
            "python -m training.run",
        )
        log_warnings()
        if options.spec is not None:
            create_run(options.directory, options.spec)
        if options.cores is not None:
            pin_to_cores(options.cores)
        group = group_of(options)
    from training.execute import execute  # loads JAX: a mistake in the flags is said before

    progress = Progress(group)
    execution = Execution(
        cache_root=options.cache,
        checkpoint_seconds=options.checkpoint_seconds,
        mesh=options.mesh,
        profile=options.profile,
        lock_patience_seconds=options.lock_patience_seconds,
        stop_requested=stop,
        report=progress,
    )
    (outcome,) = execute([options.directory], execution, group).values()
    if outcome.message:
        newline = "\n" if progress.on_terminal else ""
        sys.stderr.write(f"{newline}{label(outcome.status)}: {outcome.message}\n")
    return group.exit(outcome.status)


if __name__ == "__main__":
    sys.exit(main())
