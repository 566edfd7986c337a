"""A long-lived worker: trains the run directories named on standard input, one after the other.

Standard input holds one JSON object a line: {"run": "runs/<sweep>/<run_id>"}, or {"pack": [...]} for several that are
trained as one program and each end with an event of their own. Standard output answers in JSON lines:
{"event": "ready"}, {"event": "progress", "run", "tokens", "loss", "tokens_per_second"}, {"event": "note", "message"}
for the user, and {"event": "end", "run", "status", "message"}. When standard input closes while a run trains (the
launcher is gone), the run is saved and the worker ends with 75. Compiled programs stay in memory from run to run.
"""

import dataclasses
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tyro.conf import FlagCreatePairsOff

from core import stop, voice
from core.cli import parse
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_STOPPED, BadInput, exit_on_bad_input
from training.execution import Execution
from training.processes.cores import use_cores_as_devices
from training.processes.group import Outcome
from training.processes.start import configure_jax

LOCK_PATIENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line of a worker."""

    cache: Path = Path("cache")
    """corpora, token caches, compiled programs"""
    checkpoint_seconds: float = 60.0
    """least time between checkpoints"""
    mesh: str = ""
    """devices by axis: data=2,fsdp=2 (default: the rule)"""
    cores: str = ""
    """pin to these CPU cores, as 0,1; as many threads"""
    folder: Path | None = None
    """where relative paths of a specification start (default: here)"""
    profile: FlagCreatePairsOff[bool] = False
    """trace five steps of every run"""


class Events:
    """The lines of standard output, which nothing else may write to: what libraries print goes to standard error.

    Where nobody reads them any more, the launcher is gone, and this worker stops.
    """

    def __init__(self) -> None:
        self._lines: IO[str] = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **event: str | int | float) -> None:
        try:
            self._lines.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop.request("the end of the launcher")

    def progress(self, run: Path, tokens: int, loss: float, rate: float) -> None:
        self.send(event="progress", run=str(run), tokens=tokens, loss=loss, tokens_per_second=rate)


class Notes(logging.Handler):
    """Our own warnings, sent to whoever reads the events; those of libraries stay on standard error."""

    def __init__(self, events: Events):
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.send(event="note", message=record.getMessage())


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends or a signal asks to stop."""
    with exit_on_bad_input():
        words = sys.argv[1:] if arguments is None else arguments
        return serve(parse(Arguments, words, "python -m training.worker"))


def serve(options: Arguments) -> int:
    """Train what standard input names; returns the exit status."""
    if options.folder is not None:
        os.chdir(options.folder)
    if options.cores:
        try:
            os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
        except (ValueError, OSError, OverflowError):
            raise BadInput(f"--cores={options.cores}: must be cores of this machine, as 0,1") from None
    voice.give_back()
    events = Events()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for room in ("training", "data", "model"):
        logging.getLogger(room).addHandler(Notes(events))
    configure_jax(options.cache)
    use_cores_as_devices()
    execution = Execution(
        cache_root=options.cache,
        checkpoint_seconds=options.checkpoint_seconds,
        mesh=options.mesh,
        profile=options.profile,
        lock_patience_seconds=LOCK_PATIENCE_SECONDS,
        stop_requested=stop.requested,
        report=events.progress,
    )
    orders: queue.Queue[list[Path] | None] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders, stop.request), daemon=True).start()
    events.send(event="ready")
    while not stop.requested():
        try:
            runs = orders.get(timeout=0.2)
        except queue.Empty:
            continue
        if runs is None:
            break
        for run, outcome in train(runs, execution).items():
            events.send(event="end", run=str(run), status=outcome.status, message=outcome.message)
    return EXIT_STOPPED if stop.requested() else EXIT_COMPLETE


def train(runs: Sequence[Path], execution: Execution) -> dict[Path, Outcome]:
    """How each run ended; several are a pack."""
    from training.execute import execute  # here: JAX has as many threads as there are cores by then

    try:
        return execute(runs, execution)
    except BadInput as error:
        return dict.fromkeys(runs, Outcome(EXIT_BAD_INPUT, str(error)))


def _read_orders(orders: queue.Queue[list[Path] | None], ask_to_stop: Callable[[str], None]) -> None:
    for line in sys.stdin:
        if line.strip():
            order = json.loads(line)
            orders.put([Path(run) for run in order.get("pack") or [order["run"]]])
    orders.put(None)
    ask_to_stop("the end of the launcher")


if __name__ == "__main__":
    sys.exit(main())
