"""The logs of a sweep, each file read once: what a report says comes from the very bytes that its hash is of."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from core.errors import BadInput
from core.rundir import ERROR, FORECAST, FORECAST_TABLE, METRICS, REPORT, SPEC, RunDirectory

ENDINGS = (".json", ".jsonl")
ALSO = (ERROR, f"{FORECAST}/{FORECAST_TABLE}")
DRAWN_RUNS = 500  # beyond this, curves along training are drawn for a spread of runs only
PART = 1 << 16  # bytes of one read

Read = Callable[[str, str], bytes | None]  # the bytes of a file by the names of its folder and its own, or None


@dataclasses.dataclass(frozen=True)
class Logs:
    """All logs of a sweep.

    Attributes:
      path: the sweep's directory.
      folders: {folder: {file: bytes}}, both by name. Of METRICS, by far the largest, only what a report draws is kept;
        None stands for the others.
      sha256: over the names and bytes of all of them: every JSON and JSON-lines file of every folder but the report's,
        and ALSO.
    """

    path: Path
    folders: Mapping[str, Mapping[str, bytes | None]]
    sha256: str

    def read(self, folder: str, name: str) -> bytes | None:
        """The bytes of a log, or None where there is none. A `Read`.

        Raises:
          ValueError: the log is there, and only its hash was kept.
        """
        files = self.folders.get(folder, {})
        payload = files.get(name)
        if payload is None and name in files:
            raise ValueError(f"{self.path}/{folder}/{name}: read for its hash only")
        return payload


def reader(path: Path) -> Read:
    """Reads files of the sweep at `path` as they are asked for."""

    def read(folder: str, name: str) -> bytes | None:
        try:
            return _bytes_of(f"{path}/{folder}/{name}")
        except (FileNotFoundError, IsADirectoryError):
            return None

    return read


def read_logs(path: str | os.PathLike) -> Logs:
    """Read every log of the sweep at `path` once.

    Raises:
      BadInput: no directory of a sweep, or a log that cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    folders: dict[str, dict[str, bytes | None]] = {}
    try:
        names = {folder: _logs_in(path, folder) for folder in folders_of(path) if folder != REPORT}
        drawn = set(spread([folder for folder, files in names.items() if SPEC in files]))
        for folder, files in names.items():
            kept = folders[folder] = {}
            for name in files:
                payload = _bytes_of(f"{path}/{folder}/{name}")
                digest.update(f"{folder}/{name} {len(payload)}\n".encode("utf-8", "surrogateescape"))
                digest.update(payload)
                kept[name] = payload if name != METRICS or folder in drawn else None
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    return Logs(path, folders, digest.hexdigest())


def folders_of(path: Path) -> list[str]:
    """Names of the directories in a sweep's, sorted.

    Raises:
      BadInput: no such directory, or it is one run's.
    """
    if not path.is_dir():
        raise BadInput(f"{path}: no such directory of a sweep")
    if RunDirectory(path).is_run():
        raise BadInput(f"{path}: this is the directory of one run; give the sweep's, {path.parent}")
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def spread(names: Sequence[str]) -> Sequence[str]:
    """Of the names of all runs, at most DRAWN_RUNS of them, evenly."""
    return names[:: max(1, -(-len(names) // DRAWN_RUNS))]


def _logs_in(path: Path, folder: str) -> list[str]:
    with os.scandir(path / folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if (entry.name.endswith(ENDINGS) or entry.name in ALSO or f"{folder}/{entry.name}" in ALSO)
            and entry.is_file()
        )


def _bytes_of(path: str) -> bytes:
    # A small file is open, read, close: a third of what pathlib takes for it, which adds up over 60,000 files.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(_parts(descriptor))
    finally:
        os.close(descriptor)


def _parts(descriptor: int) -> Iterator[bytes]:
    while part := os.read(descriptor, PART):
        yield part
