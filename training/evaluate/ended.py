"""How a command ends that scores runs: what could not be scored is said, and its exit status."""

import sys
from collections.abc import Mapping

from core import voice
from core.errors import EXIT_COMPLETE, EXIT_FAILED


def say(line: str) -> None:
    """One line of progress, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def end(done: str, incomplete: int, failed: Mapping[str, str]) -> int:
    """Say what was done; returns the exit status, 1 where a complete run could not be scored.

    Args:
      done: what was scored and what was there.
      incomplete: runs that are not trained to their end. failed: causes by run.
    """
    say(f"{done}, {incomplete} runs not complete, {len(failed)} failed")
    for run, cause in failed.items():
        sys.stderr.write(f"error: {run}: {cause}\n")
    if not failed:
        return EXIT_COMPLETE
    voice.failed()
    return EXIT_FAILED
