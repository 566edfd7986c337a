"""Train one run directory to its end: `python -m training.run runs/<sweep>/<run_id>`.

Exit status: 0 complete, 75 stopped by a signal and resumable, 1 failed (error.txt holds the cause), 2 bad input.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from core.codec import from_json
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput, exit_on_bad_input
from core.files import read_json, read_json_lines, write_json
from training.causes import advice
from training.processes.cores import use_cores_as_devices
from training.processes.group import EndedElsewhere, Group, Outcome, record
from training.processes.hosts import Membership, from_arguments, from_environment
from training.spec import RunSpec

# Into a file, a line of progress this often.
PLAIN_SECONDS = 30.0


class StopSignal:
    """Remembers SIGTERM and SIGINT, so that the loop can save; asking again while it saves changes nothing."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.request)

    def request(self, *_: object) -> None:
        self.requested = True

    def __call__(self) -> bool:
        return self.requested


def pin_to_cores(count: int) -> None:
    """Use `count` of the CPU cores that this process may use: as many threads, whose number decides the last bits.

    Where there are more, processes that start after each other take different ones.

    Raises:
      BadInput: `count` is not between 1 and the cores that this process may use.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(cores):
        raise BadInput(
            f"--cores={count}: must be between 1 and the {len(cores)} cores that this process may use"
        )
    first = os.getpid() % len(cores)
    os.sched_setaffinity(0, {cores[(first + index) % len(cores)] for index in range(count)})


def create_run(directory: Path, text: str) -> None:
    """Write spec.json where a run starts on a machine that knows nothing of its sweep.

    Raises:
      BadInput: the text is no RunSpec, the directory does not carry its name, or holds another spec.
    """
    from training.records import write_spec

    try:
        spec = from_json(RunSpec, json.loads(text))
    except ValueError as error:
        raise BadInput(f"--spec={text[:80]}: {error}") from None
    if directory.absolute().name != spec.run_id:
        raise BadInput(f"{directory}: must be named {spec.run_id}, as the run of --spec is")
    write_spec(directory, spec)


def configure_jax(cache_root: Path) -> None:
    """Keep compiled programs on disk under `cache_root`, one folder per processor type and JAX version."""
    import jax

    # By its own path, not a link's: JAX's keys hold the path, so under another name nothing would be found.
    folder = (cache_root / "xla").resolve() / f"jax-{jax.__version__}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def execute(
    directory: Path, execution: Any, lock_patience_seconds: float = 0.0, group: Group | None = None
) -> Outcome:
    """Train the run of `directory` from where it stands; a finished run is left untouched.

    Every way to end is an Outcome: errors are written to error.txt, never raised. The processes of `group` end alike.
    """
    group = group or Group()
    outcome = _attempt(directory, execution, lock_patience_seconds, group)
    return group.leave(directory, outcome)


def _attempt(directory: Path, execution: Any, lock_patience_seconds: float, group: Group) -> Outcome:
    from training.records import RunIsLocked, run_lock

    try:
        if not directory.is_dir():
            raise BadInput(f"{directory}: no such run directory")
        with run_lock(directory, lock_patience_seconds) if group.is_leader else contextlib.nullcontext():
            group.decide("locked", lambda: True)
            return train_locked(directory, execution, group)
    except BadInput as error:
        return Outcome(EXIT_BAD_INPUT, str(error))
    except RunIsLocked as error:
        return Outcome(EXIT_STOPPED, str(error))
    except OSError as error:
        return _disk_outcome(directory, error)
    except EndedElsewhere as ended:
        return ended.outcome


def train_locked(directory: Path, execution: Any, group: Group) -> Outcome:
    """`execute` for the holder of the run's lock: error.txt says what failed."""
    if group.is_leader:
        (directory / "error.txt").unlink(missing_ok=True)
    outcome = _guarded(directory, execution, group)
    if group.is_leader:
        with contextlib.suppress(OSError):  # a full disk: the outcome's message still reaches the user
            record(directory, outcome)
    return outcome


def _guarded(directory: Path, execution: Any, group: Group) -> Outcome:
    """Train, and put every way to end into an Outcome."""
    from training.loop import Diverged, Stopped

    try:
        _train(directory, execution, group)
    except EndedElsewhere as ended:
        return ended.outcome
    except (BadInput, Diverged, Stopped, KeyboardInterrupt, OSError) as error:
        return outcome_of(directory, error)
    except Exception as error:  # noqa: BLE001  a run fails alone: the worker goes on with the next one
        try:
            group.look_elsewhere()
        except EndedElsewhere as ended:
            return ended.outcome
        return outcome_of(directory, error)
    return Outcome(EXIT_COMPLETE, together=True)


def outcome_of(directory: Path, error: BaseException) -> Outcome:
    """How a run ends whose training raised `error`."""
    from training.loop import Diverged, Stopped
    from training.records import RunIsLocked

    if isinstance(error, BadInput):
        return Outcome(EXIT_BAD_INPUT, str(error))
    if isinstance(error, Diverged):
        return Outcome(EXIT_FAILED, str(error))
    if isinstance(error, Stopped | RunIsLocked | KeyboardInterrupt):
        return Outcome(EXIT_STOPPED, str(error), together=isinstance(error, Stopped))
    if isinstance(error, OSError):
        return dataclasses.replace(_disk_outcome(directory, error), detail=_detail(error))
    said = advice(error) or f"{type(error).__name__}: {_first_line(error)}"
    return Outcome(EXIT_FAILED, f"{said} (see {directory / 'error.txt'})", _detail(error))


def _disk_outcome(directory: Path, error: OSError) -> Outcome:
    more = advice(error)
    return Outcome(EXIT_FAILED, f"{directory}: {error}" + (f"; {more}" if more else ""))


def _detail(error: BaseException) -> str:
    return f"{''.join(traceback.format_exception(error))}\n{advice(error) or ''}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]


@functools.lru_cache(maxsize=2)
def _open_data(config: Any, cache_root: Path, batch_sequences: int) -> tuple[Any, Any]:
    from data.cache import open_or_build
    from training.evaluate.loss import held_out

    cache = open_or_build(config, cache_root)
    return cache, held_out(cache, config, batch_sequences)


def _train(directory: Path, execution: Any, group: Group) -> None:
    import jax

    from training.processes.mesh import choose_mesh
    from training.records import read_spec

    spec = read_spec(directory)
    group.same("spec.json", spec.run_id)
    if group.decide("complete", (directory / "result.json").exists):
        read_json(directory / "result.json")
        return
    started = time.monotonic()
    mesh = choose_mesh(execution.mesh, spec)
    group.same("mesh", " x ".join(map(str, mesh.shape.values())))
    with jax.set_mesh(mesh):
        run = open_run(spec, directory, execution, mesh, group)
        try:
            run.train()
        finally:
            run.close()
    if group.is_leader:
        write_result(directory, spec, run, time.monotonic() - started)


def open_run(spec: RunSpec, directory: Path, execution: Any, mesh: Any, group: Group, pack: int = 0) -> Any:
    """Begin an attempt: its data opened, env.json and ledger.json written, its state on the devices of `mesh`.

    Args:
      pack: runs that are trained together as one program; 0 for a run alone.

    Returns:
      A `training.loop.Run`; close it. Call this inside `jax.set_mesh(mesh)`.
    """
    from data.skills import stream_fingerprint
    from training.loop import Run
    from training.prepare import check_vocabulary
    from training.records import git_commit, peak_flops, start_attempt

    sequences = evaluation_sequences(spec, mesh)
    cache, slice_ = group.leader_first("data", lambda: _open_data(spec.data, execution.cache_root, sequences))
    check_vocabulary(spec, cache)
    corpus = {
        "name": spec.data.corpus,
        "fingerprint": cache.fingerprint,
        "corpus_fingerprint": cache.corpus_fingerprint,
        "vocabulary": cache.vocabulary,
        "skills": stream_fingerprint(spec.data.skills, spec.data.skill_tokens),
    }
    group.same("corpus fingerprint", f"{corpus['fingerprint']} {corpus['skills']}".strip())
    attempt = group.decide("attempt", lambda: start_attempt(directory, corpus, mesh, git_commit(), pack))
    peak = peak_flops(mesh.devices.flat[0].device_kind)
    run = Run(spec, directory, cache, slice_, mesh, attempt, execution, peak)
    if group.is_leader:
        write_json(directory / "ledger.json", run.ledger)
    return run


def write_result(directory: Path, spec: RunSpec, run: Any, wall_seconds: float) -> None:
    """result.json of a run that has trained to its end: the mark of a complete run."""
    write_json(directory / "result.json", _result(directory, spec, run, wall_seconds))


def evaluation_sequences(spec: RunSpec, mesh: Any) -> int:
    """Sequences of one evaluation batch: about 16,384 tokens, so that logits stay small, in whole shards."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    sequences = min(16_384, spec.data.validation_tokens) // spec.data.sequence_length
    return max(1, sequences // shards) * shards


def _result(directory: Path, spec: RunSpec, run: Any, wall_seconds: float) -> dict[str, Any]:
    """The content of result.json, from the logs on disk: they are what a reader of the run will see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a torn line of an earlier attempt was reported where it happened
        metrics = {row["tokens"]: row for row in read_json_lines(directory / "metrics.jsonl")}
        evals = {
            row["name"]: row["value"]
            for row in read_json_lines(directory / "evals.jsonl")
            if row["tokens"] == spec.tokens
        }
    tail = [row["loss"] for tokens, row in metrics.items() if tokens > 0.95 * spec.tokens]
    totals = {name: value * spec.tokens for name, value in run.ledger["flops_per_token"].items()}
    return {
        "run": spec.run_id,
        "role": "trunk" if spec.is_trunk else "branch" if spec.parent else "run",
        "tokens": spec.tokens,
        "trained_tokens": spec.trained_tokens,
        "steps": spec.steps,
        "train_loss": sum(tail) / len(tail),
        "evals": evals,
        "params": run.ledger["params"],
        "flops": totals,
        "wall_seconds": round(wall_seconds, 3),
        "train_seconds": round(run.clock.training, 3),
        "compile_seconds": round(run.clock.compiling, 3),
        "tokens_per_second": round(spec.trained_tokens / run.clock.training, 1),
        "attempts": run.attempt,
    }


def add_execution_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that a process has which trains one run or a pack of them."""
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), help="corpora, token caches, compiled programs"
    )
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="least time between checkpoints")
    parser.add_argument(
        "--cores", type=int, help="use this many CPU cores (default: all that this process may use)"
    )
    parser.add_argument(
        "--lock-patience-seconds",
        type=float,
        default=0.0,
        help="how long to wait for another process that trains the same, before ending with 75",
    )


def add_membership_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that make several processes one run."""
    group = parser.add_argument_group(
        "several processes", "each is started with the same arguments but its index"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-index", type=int, metavar="I", help="which of them this is, from 0")
    group.add_argument(
        "--distributed", action="store_true", help="take the three from Slurm (a task of srun) or a TPU host"
    )
    group.add_argument(
        "--join-seconds", type=float, default=300.0, help="how long they wait for each other (default: 300)"
    )


def membership_of(options: argparse.Namespace) -> Membership | None:
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


def main(arguments: list[str] | None = None) -> int:
    """Command line of one run."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="runs/<sweep>/<run_id>, holding spec.json")
    add_execution_arguments(parser)
    parser.add_argument("--mesh", default="", help="devices by axis: data=2,fsdp=2,tensor=1 (default: by rule)")
    parser.add_argument(
        "--profile", action="store_true", help="trace five steps into RUN/profile, for ui.perfetto.dev"
    )
    parser.add_argument("--spec", help="the RunSpec as JSON: creates the run directory where there is none")
    add_membership_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = StopSignal()
    stop.install()
    with exit_on_bad_input():
        if options.spec is not None:
            create_run(options.directory, options.spec)
        if options.cores is not None:
            pin_to_cores(options.cores)
        membership = membership_of(options)
    configure_jax(options.cache)
    group = Group()
    if membership is None or membership.count == 1:
        use_cores_as_devices()
    else:
        from training.processes.distributed import join

        with exit_on_bad_input():
            group = join(membership, options.directory, options.join_seconds)
    from training.loop import Execution

    terminal = sys.stderr.isatty()
    shown = time.monotonic()

    def report(tokens: int, loss: float, rate: float) -> None:
        nonlocal shown
        if not group.is_leader:
            return
        if not terminal and time.monotonic() - shown < PLAIN_SECONDS:
            return
        shown = time.monotonic()
        line = f"{tokens:,} tokens  loss {loss:.4f}  {rate:,.0f} tokens/s"
        sys.stderr.write(f"\r{line}   " if terminal else f"{line}\n")
        sys.stderr.flush()

    outcome = execute(
        options.directory,
        Execution(
            cache_root=options.cache,
            checkpoint_seconds=options.checkpoint_seconds,
            mesh=options.mesh,
            profile=options.profile,
            stop_requested=stop,
            report=report,
        ),
        options.lock_patience_seconds,
        group,
    )
    if outcome.message:
        newline = "\n" if terminal else ""
        sys.stderr.write(f"{newline}{'error' if outcome.status in (1, 2) else 'note'}: {outcome.message}\n")
    return group.exit(outcome.status)


if __name__ == "__main__":
    sys.exit(main())
