"""Reading a task definition in a process of its own, which may take so much time and memory and no more.

A definition comes from elsewhere, and its templates are programs: whatever one does, a launcher or a worker gets its
problems or one line.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import BadInput
from core.paths import PROJECT
from data.tasks.protocol import Item

MOST_SECONDS = 30  # of processor time; 10,000 documents take about 2
MOST_BYTES = 4 * 2**30


def within_limits(module: str, path: Path) -> list[Item]:
    """The problems that `python -m module path` prints.

    Raises:
      BadInput: what it refuses, or that it took too much.
    """
    command = [sys.executable, "-m", module, os.path.abspath(path)]
    done = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise BadInput(
            f"task lm-eval:{path}: reading it took more than {MOST_SECONDS} seconds or {MOST_BYTES >> 30} GiB"
        ) from None
    if isinstance(answer, str):
        raise BadInput(answer)
    return [
        Item(prompt, target, tuple(wrong), delimiter=delimiter) for prompt, target, wrong, delimiter in answer
    ]


def serve(read: Callable[[Path], Sequence[Item]], path: Path) -> None:
    """Print the problems of a definition, or why there are none, as JSON."""
    for kind, most in ((resource.RLIMIT_CPU, MOST_SECONDS), (resource.RLIMIT_AS, MOST_BYTES)):
        with contextlib.suppress(ValueError, OSError):  # a lower limit is there already
            resource.setrlimit(kind, (most, most))
    try:
        answer: object = [[item.prompt, item.target, item.distractors, item.delimiter] for item in read(path)]
    except BadInput as error:
        answer = str(error)
    except (MemoryError, RecursionError) as error:
        answer = f"task lm-eval:{path}: too large or too deep to be read ({type(error).__name__})"
    sys.stdout.write(json.dumps(answer))
