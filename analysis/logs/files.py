"""The logs of a sweep, each file read once: what a report says comes from the very bytes that its hash is of."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core.errors import BadInput
from core.reading import LOG_BYTES, RECORD_BYTES, Unreadable, read_bytes
from core.rundir import (
    ENVIRONMENT,
    ERROR,
    EVALUATIONS,
    FORECAST,
    FORECAST_TABLE,
    LEDGER,
    METRICS,
    REPORT,
    RESULT,
    SPEC,
    SWEEP,
    TASK_ITEMS,
    TASKS,
    RunDirectory,
)

ENDINGS = (".json", ".jsonl")
ALSO = (ERROR, f"{FORECAST}/{FORECAST_TABLE}")
OF_A_RUN = (SPEC, ENVIRONMENT, LEDGER, METRICS, EVALUATIONS, TASKS, TASK_ITEMS, RESULT, ERROR)
DRAWN_RUNS = 500  # beyond this, curves along training are drawn for a spread of runs only

# The bytes of a file by the names of its folder and its own, None where there is none; raises Unreadable.
Read = Callable[[str, str], bytes | None]


@dataclasses.dataclass(frozen=True)
class Logs:
    """All logs of a sweep.

    Attributes:
      path: the sweep's directory.
      folders: {folder: {file: bytes}}, both by name. Of METRICS, by far the largest, only what a report draws is kept;
        None stands for the others, and an `Unreadable` for a file that is there and cannot be read.
      sha256: over the names and bytes of all of them: every JSON and JSON-lines file of every folder but the report's,
        ALSO and sweep.json.
      sweep: sweep.json in the same way.
    """

    path: Path
    folders: Mapping[str, Mapping[str, bytes | Unreadable | None]]
    sha256: str
    sweep: bytes | Unreadable | None = None

    def read(self, folder: str, name: str) -> bytes | None:
        """The bytes of a log, or None where there is none. A `Read`.

        Raises:
          Unreadable: it is there and cannot be read.
          ValueError: it is there, and only its hash was kept.
        """
        files = self.folders.get(folder, {})
        payload = files.get(name)
        if isinstance(payload, Unreadable):
            raise payload
        if payload is None and name in files:
            raise ValueError(f"{self.path}/{folder}/{name}: read for its hash only")
        return payload

    def drawn(self, folder: str) -> bool:
        """Whether the metrics of a run are drawn, if it has any."""
        files = self.folders.get(folder, {})
        return METRICS not in files or files[METRICS] is not None


def reader(path: Path) -> Read:
    """Reads files of the sweep at `path` as they are asked for."""

    def read(folder: str, name: str) -> bytes | None:
        try:
            return _bytes_of(f"{path}/{folder}/{name}")
        except FileNotFoundError:
            return None

    return read


def read_logs(path: str | os.PathLike) -> Logs:
    """Read every log of the sweep at `path` once.

    Raises:
      BadInput: no directory of a sweep, or it cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    folders: dict[str, dict[str, bytes | Unreadable | None]] = {}
    try:
        names = {folder: _logs_in(path, folder) for folder in folders_of(path) if folder != REPORT}
        drawn = set(spread([folder for folder in names if RunDirectory(path / folder).is_run()]))
        for folder, files in names.items():
            kept = folders[folder] = {}
            for name in files:
                try:
                    payload = _bytes_of(f"{path}/{folder}/{name}")
                except FileNotFoundError:  # a link to nothing
                    continue
                except Unreadable as error:
                    digest.update(f"{folder}/{name} {error.why}\n".encode("utf-8", "surrogateescape"))
                    kept[name] = error
                    continue
                digest.update(f"{folder}/{name} {len(payload)}\n".encode("utf-8", "surrogateescape"))
                digest.update(payload)
                kept[name] = payload if name != METRICS or folder in drawn else None
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    sweep = sweep_payload(path)
    if sweep is not None:
        digest.update(f"{SWEEP} ".encode() + (sweep if isinstance(sweep, bytes) else sweep.why.encode()))
    return Logs(path, folders, digest.hexdigest(), sweep)


def sweep_payload(path: Path) -> bytes | Unreadable | None:
    """The bytes of sweep.json; None where there is none, and why it cannot be read where it cannot."""
    try:
        return read_bytes(path / SWEEP)
    except FileNotFoundError:
        return None
    except Unreadable as error:
        return error


def folders_of(path: Path) -> list[str]:
    """Names of the directories in a sweep's, sorted.

    Raises:
      BadInput: no such directory, it cannot be listed, or it is one run's.
    """
    if RunDirectory(path).is_run():
        raise BadInput(f"{path}: this is the directory of one run; give the sweep's, {path.parent}")
    try:
        names = sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: no such directory of a sweep") from None
    return [name for name in names if os.path.isdir(path / name)]


def spread(names: Sequence[str]) -> Sequence[str]:
    """Of the names of all runs, at most DRAWN_RUNS of them, evenly."""
    return names[:: max(1, -(-len(names) // DRAWN_RUNS))]


def _logs_in(path: Path, folder: str) -> list[str]:
    """Files, and what stands in the place of a file of a run: that counts as one that cannot be read."""
    try:
        names = os.listdir(path / folder)
    except OSError:
        return []
    wanted = (name for name in names if name.endswith(ENDINGS) or name in ALSO or f"{folder}/{name}" in ALSO)
    return sorted(name for name in wanted if name in OF_A_RUN or os.path.isfile(path / folder / name))


def _bytes_of(path: str) -> bytes:
    return read_bytes(path, LOG_BYTES if path.endswith(".jsonl") else RECORD_BYTES)
