"""Train several runs of one shape as one program: `python -m training.pack runs/<sweep>/<run_id> ...`.

Each run has its own seed, learning rate, weight decay, data order, logs, checkpoints and result.json: exactly the files
of a run that is trained alone. What they share is one compiled step over a leading member axis M.

Exit status: 75 if any run was stopped and can be resumed, else 2 if any was refused, else 1 if any failed, else 0.
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tyro.conf import Positional, UseAppendAction

from core import stop, voice
from core.cli import parse
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput, exit_on_bad_input
from core.rundir import RunDirectory
from training.command import Flags, Screen, create_run
from training.processes.cores import use_cores_as_devices
from training.processes.group import Outcome
from training.processes.start import configure_jax

# The worst news of a pack first: while anything can be resumed, the same command goes on.
GRAVITY = (EXIT_STOPPED, EXIT_BAD_INPUT, EXIT_FAILED, EXIT_COMPLETE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Flags):
    """The command line of one pack."""

    directories: Positional[tuple[Path, ...]]
    """runs/<sweep>/<run_id>, each holding spec.json"""
    spec: UseAppendAction[tuple[str, ...]] = ()
    """a RunSpec as JSON, once for each run in their order: creates directories that are not there"""


def status_of(outcomes: Iterable[Outcome]) -> int:
    """The exit status of a pack."""
    return min((outcome.status for outcome in outcomes), key=GRAVITY.index, default=EXIT_COMPLETE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the runs that the command line names."""
    screen = Screen(rewrites=False, names=True)
    with exit_on_bad_input():
        words = sys.argv[1:] if arguments is None else arguments
        options: Arguments = parse(Arguments, words, "python -m training.pack")
        if not options.directories:
            raise BadInput("name at least one run, as in python -m training.pack runs/SWEEP/RUN")
        if options.spec and len(options.spec) != len(options.directories):
            raise BadInput(f"--spec: given {len(options.spec)} times for {len(options.directories)} runs")
        for directory, text in zip(options.directories, options.spec, strict=False):
            create_run(directory, text)
        options.prepare()
        voice.keep(RunDirectory(options.directories[0]).worker_log)
        configure_jax(options.cache)
        use_cores_as_devices()
        from training.execute import execute  # here: JAX loads slowly, and a bad flag is refused before

        outcomes = execute(options.directories, options.execution(stop.requested, screen.progress))
        screen.end(outcomes)
        if EXIT_FAILED in [outcome.status for outcome in outcomes.values()]:
            voice.failed()
    return status_of(outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
