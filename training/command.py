"""What `python -m training.run` and `python -m training.pack` have in common."""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from core import stop
from core.bounds import Allowed
from core.codec import from_json
from core.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, BadInput
from training.execution import Execution, Report
from training.processes.group import Outcome
from training.processes.start import pin_to_cores
from training.records import write_spec
from training.spec import RunSpec

# Into a file, a line of progress this often.
PLAIN_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of both."""

    cache: Path = Path("cache")
    """corpora, token caches, compiled programs"""
    checkpoint_seconds: Annotated[float, Allowed(1e-3, 1e9)] = 60.0
    """least time between checkpoints"""
    cores: Annotated[int | None, Allowed(1, 10_000)] = None
    """use this many CPU cores (default: all that this process may use)"""
    lock_patience_seconds: Annotated[float, Allowed(0, 1e9)] = 0.0
    """how long to wait for another process that trains the same, before ending with 75"""

    def prepare(self) -> None:
        """Set this process up as far as that goes without JAX."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        if self.cores is not None:
            pin_to_cores(self.cores)

    def execution(self, stop_requested: Callable[[], bool], report: Report) -> Execution:
        """How runs execute under these flags."""
        return Execution(
            cache_root=self.cache,
            checkpoint_seconds=self.checkpoint_seconds,
            lock_patience_seconds=self.lock_patience_seconds,
            stop_requested=stop_requested,
            report=report,
        )


def create_run(directory: Path, text: str) -> None:
    """Write spec.json where a run starts on a machine that knows nothing of its sweep.

    Raises:
      BadInput: the text is no RunSpec, the directory does not carry its name, or holds another spec.
    """
    try:
        spec = from_json(RunSpec, json.loads(text))
    except ValueError as error:
        raise BadInput(f"--spec={text[:80]}: {error}") from None
    if directory.absolute().name != spec.run_id:
        raise BadInput(f"{directory}: must be named {spec.run_id}, as the run of --spec is")
    write_spec(directory, spec)


class Screen:
    """Progress and ends of runs on standard error.

    Args:
      rewrites: show progress on one line that is written over, as often as there is any; else a line now and then.
      names: say of which run each line is.
    """

    def __init__(self, *, rewrites: bool, names: bool):
        self._rewrites, self._names = rewrites, names
        self._shown = time.monotonic()

    def progress(self, directory: Path, tokens: int, loss: float, rate: float) -> None:
        if self._rewrites or time.monotonic() - self._shown >= PLAIN_SECONDS:
            self._shown = time.monotonic()
            line = f"{self._name(directory)}{tokens:,} tokens  loss {loss:.4f}  {rate:,.0f} tokens/s"
            self._write(f"\r{line}   " if self._rewrites else f"{line}\n")

    def end(self, outcomes: Mapping[Path, Outcome]) -> None:
        """Say how runs ended, and with which command those go on that can."""
        start = "\n" if self._rewrites else ""
        for directory, outcome in outcomes.items():
            if outcome.message:
                word = "error" if outcome.status in (EXIT_FAILED, EXIT_BAD_INPUT) else "note"
                self._write(f"{start}{word}: {self._name(directory)}{outcome.message}\n")
        left = sum(outcome.status == EXIT_STOPPED for outcome in outcomes.values())
        if left:
            count = f"{left} of {len(outcomes)} runs are left; " if self._names else ""
            self._write(f"{count}to go on: {stop.this_command()}\n")

    def _name(self, directory: Path) -> str:
        return f"{directory.name}: " if self._names else ""

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
