"""Train one run directory to its end: `python -m training.run runs/<sweep>/<run_id>`.

Exit status: 0 complete, 75 stopped by a signal and resumable, 1 failed (error.txt holds the cause), 2 bad input.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import FlagCreatePairsOff, Positional

from core import stop, voice
from core.cli import parse
from core.errors import EXIT_FAILED, BadInput, exit_on_bad_input
from core.rundir import RunDirectory
from training.command import Flags, Screen, create_run
from training.processes.cores import use_cores_as_devices
from training.processes.group import Group
from training.processes.hosts import Membership, from_arguments, from_environment
from training.processes.start import configure_jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Flags):
    """The command line of one run.

    Several processes train one run where each is started with the same arguments but its index.
    """

    directory: Positional[Path]
    """runs/<sweep>/<run_id>, holding spec.json"""
    mesh: str = ""
    """devices by axis: data=2,fsdp=2,tensor=1 (default: by rule)"""
    profile: FlagCreatePairsOff[bool] = False
    """trace five steps into RUN/profile, for ui.perfetto.dev"""
    spec: str | None = None
    """the RunSpec as JSON: creates the run directory where there is none"""
    coordinator: str | None = None
    """HOST:PORT where process 0 of several listens"""
    processes: int | None = None
    """how many processes there are"""
    process_index: int | None = None
    """which of them this is, from 0"""
    distributed: FlagCreatePairsOff[bool] = False
    """take the three from Slurm (a task of srun) or a TPU host"""
    join_seconds: float = 300.0
    """how long processes wait for each other"""

    def membership(self) -> Membership | None:
        """The place of this process among several; None for a process alone.

        Raises:
          BadInput: flags that contradict each other, or --distributed where nothing says who the others are.
        """
        named = from_arguments(self.coordinator, self.processes, self.process_index)
        if not self.join_seconds > 0:
            raise BadInput(f"--join-seconds={self.join_seconds:g}: must be positive")
        if not self.distributed:
            return named
        if named is not None:
            raise BadInput("--distributed: takes the place of --coordinator, --processes and --process-index")
        return from_environment(os.environ)


def meet(options: Arguments) -> Group:
    """The processes that train the run, once all are there."""
    membership = options.membership()
    configure_jax(options.cache)
    if membership is None or membership.count == 1:
        use_cores_as_devices()
        return Group()
    from training.processes.distributed import join  # here, as `execute` below

    return join(membership, options.directory, options.join_seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the run that the command line names."""
    with exit_on_bad_input():
        words = sys.argv[1:] if arguments is None else arguments
        options: Arguments = parse(Arguments, words, "python -m training.run")
        options.prepare()
        if options.spec is not None:
            create_run(options.directory, options.spec)
        voice.keep(RunDirectory(options.directory).worker_log)
        group = meet(options)
        from training.execute import execute  # here: JAX loads slowly, and a bad flag is refused before

        screen = Screen(rewrites=sys.stderr.isatty(), names=False)
        execution = dataclasses.replace(
            options.execution(stop.requested, screen.progress if group.is_leader else lambda *_: None),
            mesh=options.mesh,
            profile=options.profile,
        )
        outcomes = execute([options.directory], execution, group)
        screen.end(outcomes)
        if outcomes[options.directory].status == EXIT_FAILED:
            voice.failed()
        return group.exit(outcomes[options.directory].status)


if __name__ == "__main__":
    sys.exit(main())
