"""Train several runs of one shape as one program: `python -m training.pack runs/<sweep>/<run_id> ...`.

Each run has its own seed, learning rate, weight decay, data order, logs, checkpoints and result.json: exactly the files
of a run that is trained alone. What they share is one compiled step over a leading member axis M.

Exit status: 75 if any run was stopped and can be resumed, else 2 if any was refused, else 1 if any failed, else 0.
"""

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tyro.conf import Positional, UseAppendAction

from core.cli import parse
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput, exit_on_bad_input
from training.command import PLAIN_SECONDS, Flags, create_run, label, log_warnings
from training.execution import Execution
from training.processes.cores import use_cores_as_devices
from training.processes.group import Outcome
from training.processes.start import StopSignal, configure_jax, pin_to_cores

# The worst news of a pack first: while anything can be resumed, the same command goes on.
GRAVITY = (EXIT_STOPPED, EXIT_BAD_INPUT, EXIT_FAILED, EXIT_COMPLETE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Flags):
    """The command line of one pack."""

    directories: Positional[tuple[Path, ...]]
    """runs/<sweep>/<run_id>, each holding spec.json"""
    spec: UseAppendAction[tuple[str, ...]] = ()
    """a RunSpec as JSON, once for each run in their order: creates directories that are not there"""


class Progress:
    """Now and then a line on standard error that says how far one of the runs is."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, directory: Path, tokens: int, loss: float, rate: float) -> None:
        if time.monotonic() - self._shown >= PLAIN_SECONDS:
            self._shown = time.monotonic()
            sys.stderr.write(f"{directory.name}: {tokens:,} tokens  loss {loss:.4f}  {rate:,.0f} tokens/s\n")
            sys.stderr.flush()


def status_of(outcomes: Iterable[Outcome]) -> int:
    """The exit status of a pack."""
    return min((outcome.status for outcome in outcomes), key=GRAVITY.index, default=EXIT_COMPLETE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the runs that the command line names."""
    stop = StopSignal()
    stop.install()
    with exit_on_bad_input():
        options = parse(Arguments, sys.argv[1:] if arguments is None else arguments, "python -m training.pack")
        log_warnings()
        if not options.directories:
            raise BadInput("directories: name at least one run, as in python -m training.pack runs/SWEEP/RUN")
        if options.spec and len(options.spec) != len(options.directories):
            raise BadInput(f"--spec: given {len(options.spec)} times for {len(options.directories)} runs")
        for directory, text in zip(options.directories, options.spec, strict=False):
            create_run(directory, text)
        if options.cores is not None:
            pin_to_cores(options.cores)
        configure_jax(options.cache)
        use_cores_as_devices()
        from training.execute import execute  # loads JAX: a mistake in the flags is said before

        execution = Execution(
            cache_root=options.cache,
            checkpoint_seconds=options.checkpoint_seconds,
            lock_patience_seconds=options.lock_patience_seconds,
            stop_requested=stop,
            report=Progress(),
        )
        outcomes = execute(options.directories, execution)
    for directory, outcome in outcomes.items():
        if outcome.message:
            sys.stderr.write(f"{label(outcome.status)}: {directory.name}: {outcome.message}\n")
    return status_of(outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
