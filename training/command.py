"""What the commands that train have in common: flags, and the creation of run directories."""

import dataclasses
import json
import logging
from pathlib import Path

from core.codec import from_json
from core.errors import EXIT_BAD_INPUT, EXIT_FAILED, BadInput
from training.records import write_spec
from training.spec import RunSpec

# Into a file, a line of progress this often.
PLAIN_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of a process that trains."""

    cache: Path = Path("cache")
    """corpora, token caches, compiled programs"""
    checkpoint_seconds: float = 60.0
    """least time between checkpoints"""
    cores: int | None = None
    """use this many CPU cores (default: all that this process may use)"""
    lock_patience_seconds: float = 0.0
    """how long to wait for another process that trains the same, before ending with 75"""


def log_warnings() -> None:
    """Warnings of libraries and of ours as plain lines on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


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


def label(status: int) -> str:
    """The word before the message of an outcome."""
    return "error" if status in (EXIT_FAILED, EXIT_BAD_INPUT) else "note"
