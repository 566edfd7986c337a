"""Which runs have changed since they were last looked at: what has not is not read again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from core.rundir import ENVIRONMENT, ERROR, EVALUATIONS, METRICS, RESULT, SPEC
from launchers.status import RunStatus, run_status
from training.records import is_locked

WATCHED = (SPEC, ENVIRONMENT, METRICS, EVALUATIONS, RESULT, ERROR)

Found = TypeVar("Found")
Signature = tuple[object, ...]  # of a run: it differs where its files do


def signature_of(path: Path) -> Signature:
    """Of a run directory, without reading a file."""
    return tuple(_of_file(f"{path}/{name}") for name in WATCHED)


def _of_file(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class WhereChanged(Generic[Found]):
    """A function of a run directory that is only called again where the run's files have changed."""

    def __init__(self, of_run: Callable[[Path], Found]):
        self._of_run = of_run
        self._known: dict[Path, tuple[Signature, Found]] = {}

    def __call__(self, path: Path, *also: object) -> Found:
        """Args: also: what else the result hangs on."""
        signature = (*signature_of(path), *also)
        if path not in self._known or self._known[path][0] != signature:
            self._known[path] = signature, self._of_run(path)
        return self._known[path][1]


class RunStatuses:
    """`run_status`, where a run has changed; whether a process holds an incomplete one is asked each time."""

    def __init__(self) -> None:
        self._read = WhereChanged(run_status)

    def __call__(self, path: Path) -> RunStatus:
        return self._read(path, os.path.exists(path / RESULT) or _is_held(path))


def _is_held(path: Path) -> bool:
    try:
        return is_locked(path)
    except OSError:
        return False
