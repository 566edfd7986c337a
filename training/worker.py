"""A long-lived worker: trains the run directories named on standard input, one after the other.

Standard input holds one JSON object a line: {"run": "runs/<sweep>/<run_id>"}, or {"pack": [...]} for several that are
trained as one program and each end with an event of their own. Standard output answers in JSON lines:
{"event": "ready"}, {"event": "progress", "run", "tokens", "loss", "tokens_per_second"} and
{"event": "end", "run", "status", "message"}. When standard input closes while a run trains (the launcher is
gone), the run is saved and the worker ends with 75. Compiled programs stay in memory from run to run.
"""

import argparse
import dataclasses
import functools
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.errors import EXIT_COMPLETE, EXIT_STOPPED, BadInput
from training.processes.cores import use_cores_as_devices
from training.processes.group import Outcome
from training.run import StopSignal, configure_jax, execute, outcome_of

LOCK_PATIENCE_SECONDS = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input ends or a signal asks to stop."""
    parser = argparse.ArgumentParser(prog="python -m training.worker")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0)
    parser.add_argument("--mesh", default="", help="devices by axis: data=2,fsdp=2 (default: the rule)")
    parser.add_argument("--cores", default="", help="pin to these CPU cores, as 0,1; as many threads")
    parser.add_argument("--profile", action="store_true", help="trace five steps of every run")
    options = parser.parse_args(arguments)
    if options.cores:
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    # Libraries may print; only events may reach the launcher.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    stop = StopSignal()
    stop.install()
    configure_jax(options.cache)
    use_cores_as_devices()
    from training.loop import Execution

    def send(**event: Any) -> None:
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop.request()

    orders: queue.Queue[list[Path] | None] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders, stop), daemon=True).start()
    send(event="ready")
    while not stop():
        try:
            runs = orders.get(timeout=0.2)
        except queue.Empty:
            continue
        if runs is None:
            break
        execution = Execution(
            cache_root=options.cache,
            checkpoint_seconds=options.checkpoint_seconds,
            mesh=options.mesh,
            profile=options.profile,
            stop_requested=stop,
        )
        for run, outcome in train(runs, execution, functools.partial(_report, send)).items():
            send(event="end", run=str(run), status=outcome.status, message=outcome.message)
    return EXIT_STOPPED if stop() else EXIT_COMPLETE


def train(runs: Sequence[Path], execution: Any, report: Callable[..., None]) -> dict[Path, Outcome]:
    """How each run ended: one alone, several as a pack."""
    if len(runs) == 1:
        execution = dataclasses.replace(execution, report=functools.partial(report, runs[0]))
        return {runs[0]: execute(runs[0], execution, LOCK_PATIENCE_SECONDS)}
    from training.pack import execute_pack

    try:
        return execute_pack(runs, execution, LOCK_PATIENCE_SECONDS, report)
    except BadInput as error:
        return {run: outcome_of(run, error) for run in runs}


def _report(send: Callable[..., None], run: Path, tokens: int, loss: float, rate: float) -> None:
    send(event="progress", run=str(run), tokens=tokens, loss=loss, tokens_per_second=rate)


def _read_orders(orders: queue.Queue[list[Path] | None], stop: StopSignal) -> None:
    for line in sys.stdin:
        if line.strip():
            order = json.loads(line)
            orders.put([Path(run) for run in order.get("pack") or [order["run"]]])
    orders.put(None)
    stop.request()


if __name__ == "__main__":
    sys.exit(main())
