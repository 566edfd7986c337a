"""Train several runs of one shape as one program: `python -m training.pack runs/<sweep>/<run_id> ...`.

Each run has its own seed, learning rate, weight decay, data order, logs, checkpoints and result.json: exactly the files
of a run that is trained alone. What they share is one compiled step over a leading member axis M.

Exit status: 75 if any run was stopped and can be resumed, else 2 if any was refused, else 1 if any failed, else 0.
"""

import argparse
import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.codec import to_json
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput, exit_on_bad_input
from training.cost import shape_of
from training.processes.cores import use_cores_as_devices
from training.processes.group import Group, Outcome, record
from training.run import (
    PLAIN_SECONDS,
    StopSignal,
    add_execution_arguments,
    configure_jax,
    create_run,
    open_run,
    outcome_of,
    pin_to_cores,
    train_locked,
)
from training.spec import RunSpec

# (run directory, tokens, loss, tokens per second of this run's own progress)
Report = Callable[[Path, int, float, float], None]
# The worst news of a pack first: while anything can be resumed, the same command goes on.
GRAVITY = (EXIT_STOPPED, EXIT_BAD_INPUT, EXIT_FAILED, EXIT_COMPLETE)


def check_one_shape(specs: Sequence[RunSpec]) -> None:
    """Raises BadInput where two runs cannot share a compiled program, naming what differs."""
    first = specs[0]
    for spec in specs[1:]:
        if shape_of(spec) != shape_of(first):
            mine, its = _flat(spec), _flat(first)
            key = next(key for key in its if mine[key] != its[key])
            raise BadInput(
                f"{spec.run_id}: {key}={mine[key]} cannot be packed with {first.run_id}, where it is {its[key]}; runs "
                "of a pack share model, data.sequence_length, batch_tokens, optim.microbatch_tokens, optim.decay_all"
            )


def _flat(spec: RunSpec) -> dict[str, Any]:
    """The fields that decide the compiled step, by dotted key."""
    tree = to_json(spec)
    optim = {f"optim.{key}": value for key, value in tree["optim"].items()}
    return {
        **{f"model.{key}": value for key, value in tree["model"].items()},
        "data.sequence_length": spec.data.sequence_length,
        "batch_tokens": spec.batch_tokens,
        "optim.microbatch_tokens": optim.pop("optim.microbatch_tokens"),
        "optim.decay_all": optim.pop("optim.decay_all"),
        **optim,
    }


def execute_pack(
    directories: Sequence[Path],
    execution: Any,
    lock_patience_seconds: float = 0.0,
    report: Report = lambda directory, tokens, loss, rate: None,
) -> dict[Path, Outcome]:
    """Train the runs of `directories` together from where each stands; finished runs are left untouched.

    A run that is locked, cannot be opened or fails ends alone with an outcome of its own, as `execute` gives it; where
    one run is left, it is trained exactly as alone.

    Args:
      execution: a `training.loop.Execution`; its `mesh`, `profile` and `report` are not used.
      report: called about twice a second for each run.

    Returns:
      How each run ended.

    Raises:
      BadInput: two of the runs cannot share a program, or this process is one of several; nothing was trained.
    """
    import jax

    from training.records import run_lock

    if jax.process_count() > 1:
        raise BadInput(f"pack of {len(directories)} runs: a pack is one process, not {jax.process_count()}")
    # In one order everywhere: two packs that share runs then cannot each hold what the other waits for.
    directories = sorted(set(directories))
    outcomes, specs = _read(directories)
    if specs:
        check_one_shape(list(specs.values()))
    deadline = time.monotonic() + lock_patience_seconds
    with contextlib.ExitStack() as locks:
        held = []
        for directory in specs:
            try:
                locks.enter_context(run_lock(directory, max(0.0, deadline - time.monotonic())))
                held.append(directory)
            except Exception as error:  # noqa: BLE001  as in `execute`: a run that cannot start ends alone
                outcomes[directory] = outcome_of(directory, error)
        held = [directory for directory in held if not _is_complete(directory, outcomes)]
        if len(held) == 1:
            outcomes[held[0]] = _alone(held[0], execution, report)
        elif held:
            outcomes |= _together(held, specs, execution, report)
    return {directory: outcomes[directory] for directory in directories}


def _read(directories: Sequence[Path]) -> tuple[dict[Path, Outcome], dict[Path, RunSpec]]:
    """The specs of the runs that are not complete, and the outcomes of the others."""
    from training.records import read_spec

    outcomes: dict[Path, Outcome] = {}
    specs: dict[Path, RunSpec] = {}
    for directory in directories:
        try:
            if not directory.is_dir():
                raise BadInput(f"{directory}: no such run directory")
            spec = read_spec(directory)
        except BadInput as error:
            outcomes[directory] = _ended(directory, error)
            continue
        if not _is_complete(directory, outcomes):
            specs[directory] = spec
    return outcomes, specs


def _is_complete(directory: Path, outcomes: dict[Path, Outcome]) -> bool:
    complete = (directory / "result.json").exists()
    if complete:
        outcomes[directory] = Outcome(EXIT_COMPLETE)
    return complete


def _ended(directory: Path, error: Exception) -> Outcome:
    """The outcome of a run that could not begin, said in its error.txt too."""
    outcome = outcome_of(directory, error)
    if directory.is_dir():
        with contextlib.suppress(OSError):  # a full disk: the outcome's message still reaches the user
            record(directory, outcome)
    return outcome


def _alone(directory: Path, execution: Any, report: Report) -> Outcome:
    def forward(tokens: int, loss: float, rate: float) -> None:
        report(directory, tokens, loss, rate)

    try:
        return train_locked(directory, dataclasses.replace(execution, report=forward), Group())
    except OSError as error:  # of error.txt itself
        return outcome_of(directory, error)


def _together(
    directories: Sequence[Path], specs: dict[Path, RunSpec], execution: Any, report: Report
) -> dict[Path, Outcome]:
    import jax

    from training.packed import Pack
    from training.processes.mesh import choose_mesh

    pack: list[Pack] = []

    def forwarded(directory: Path) -> Callable[[int, float, float], None]:
        # A row's tokens per second are the machine's while it served this run; its own progress is its share of them.
        return lambda tokens, loss, rate: report(directory, tokens, loss, rate / pack[0].working)

    outcomes: dict[Path, Outcome] = {}
    opened: list[tuple[Path, Any]] = []
    for directory in directories:
        (directory / "error.txt").unlink(missing_ok=True)
        try:
            mesh = choose_mesh("", specs[directory])
            own = dataclasses.replace(execution, report=forwarded(directory), profile=False)
            with jax.set_mesh(mesh):
                run = open_run(specs[directory], directory, own, mesh, Group(), len(directories))
            opened.append((directory, run))
        except Exception as error:  # noqa: BLE001  a run that cannot be opened ends alone
            outcomes[directory] = _ended(directory, error)
    if opened:
        pack.append(Pack(opened, execution.stop_requested))
        pack[0].train()
        for member in pack[0].members:
            assert member.outcome is not None
            outcomes[member.directory] = member.outcome
    return outcomes


def status_of(outcomes: Sequence[Outcome]) -> int:
    """The exit status of a pack."""
    return min((outcome.status for outcome in outcomes), key=GRAVITY.index, default=EXIT_COMPLETE)


def main(arguments: list[str] | None = None) -> int:
    """Command line of one pack."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pack", description="Train several runs of one shape as one program."
    )
    parser.add_argument(
        "directories", type=Path, nargs="+", help="runs/<sweep>/<run_id>, each holding spec.json"
    )
    add_execution_arguments(parser)
    parser.add_argument(
        "--spec",
        action="append",
        default=[],
        help="a RunSpec as JSON, once for each run in their order: creates directories that are not there",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = StopSignal()
    stop.install()
    shown = time.monotonic()

    def report(directory: Path, tokens: int, loss: float, rate: float) -> None:
        nonlocal shown
        if time.monotonic() - shown >= PLAIN_SECONDS:
            shown = time.monotonic()
            sys.stderr.write(f"{directory.name}: {tokens:,} tokens  loss {loss:.4f}  {rate:,.0f} tokens/s\n")
            sys.stderr.flush()

    with exit_on_bad_input():
        if options.spec and len(options.spec) != len(options.directories):
            raise BadInput(f"--spec: given {len(options.spec)} times for {len(options.directories)} runs")
        for directory, text in zip(options.directories, options.spec, strict=False):
            create_run(directory, text)
        if options.cores is not None:
            pin_to_cores(options.cores)
        configure_jax(options.cache)
        use_cores_as_devices()
        from training.loop import Execution

        execution = Execution(
            cache_root=options.cache, checkpoint_seconds=options.checkpoint_seconds, stop_requested=stop
        )
        outcomes = execute_pack(options.directories, execution, options.lock_patience_seconds, report)
    for directory, outcome in outcomes.items():
        if outcome.message:
            word = "error" if outcome.status in (EXIT_FAILED, EXIT_BAD_INPUT) else "note"
            sys.stderr.write(f"{word}: {directory.name}: {outcome.message}\n")
    return status_of(list(outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
