"""Files that survive a kill: whole-file writes are atomic, JSON lines are appended whole.

No write follows a link at the file's own name, and the user's umask decides who may read what is written.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from core import disk
from core.errors import BadInput
from core.reading import LINE_BYTES, LOG_BYTES, Unreadable, opened, parse_json, printable, read_bytes

NOT_A_FILE: Final = "is a link or no regular file, which is not written to; remove it"


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """Write `content` to a temporary name beside `path`, flush it to disk, and rename it into place.

    A link at `path` is replaced, never followed.

    Raises:
      BadInput: there is a device, a folder or a pipe of that name, which the file would take the place of.
    """
    if _is_no_place(path):
        raise BadInput(f"{path}: cannot be written (it is there, and no regular file)")
    with disk.named(path, instead=True):  # not its temporary name
        payload = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        _write_atomic(Path(path), payload)


def _is_no_place(path: str | os.PathLike) -> bool:
    """/dev/stdout is a link too, and whoever may write there would lose it."""
    if os.path.islink(path):
        return os.path.dirname(os.path.abspath(path)) == "/dev"
    return os.path.exists(path) and not os.path.isfile(path)


def _write_atomic(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def open_own(path: str | os.PathLike, flags: int) -> int:
    """A descriptor of a regular file; with O_CREAT made where there is none, and nothing of it is changed.

    Raises:
      BadInput: it is a link, a FIFO, a device or a folder; nothing was followed and nothing waited for.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise BadInput(f"{path}: {NOT_A_FILE}") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path}: {NOT_A_FILE}")
    return descriptor


def open_lock(path: str | os.PathLike) -> IO[bytes]:
    """A file to be locked, made where there is none. Its content is left alone; one that may only be read will do.

    Raises BadInput as `open_own`.
    """
    try:
        return os.fdopen(open_own(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
    except PermissionError:
        return os.fdopen(open_own(path, os.O_RDONLY), "rb", buffering=0)


def append_to(path: str | os.PathLike) -> IO[bytes]:
    """A log that grows at its end, made where there is none. Raises BadInput as `open_own`."""
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab", buffering=0)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinities are refused (ValueError): JSON has none."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def canonical_sha256(value: dict[str, Any], leave_out: str) -> str:
    """SHA-256 of the canonical JSON of all entries but one, which may hold this very hash: an edited file shows."""
    rest = {key: entry for key, entry in value.items() if key != leave_out}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: str | os.PathLike) -> Any:
    """Parse one JSON file.

    Raises:
      BadInput: the file is missing, unreadable or not JSON; the message names it.
    """
    try:
        return parse_json(read_bytes(path))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(path, f"not readable as JSON ({printable(str(error))})") from None


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Parse one JSON file that holds an object.

    Raises:
      BadInput: as `read_json`, or the file holds another value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise Unreadable(path, f"holds no object but {type(value).__name__}")
    return value


def sync_tree(folder: Path) -> None:
    """Every file under a folder, and every name, reach the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    """The names in a folder reach the disk; where a file system cannot do that, they do so later."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class JsonLines:
    """An append-only JSON-lines file; each row reaches the file in one write.

    A last line torn by a kill is closed with a newline before the first row of the next attempt, so that
    the torn line spoils nothing but itself.

    Raises BadInput as `open_own`; os.devnull takes rows that nobody wants.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        is_new, flags = not self.path.exists(), os.O_RDWR | os.O_APPEND
        self._descriptor: int | None = (
            os.open(os.devnull, flags)
            if self.path == Path(os.devnull)
            else open_own(self.path, flags | os.O_CREAT)
        )
        if is_new:
            _sync_folder(self.path.parent)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def append(self, row: dict[str, Any]) -> None:
        """Append one row. Raises OSError where the disk does not take the whole row."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        payload = (json.dumps(row, allow_nan=True) + "\n").encode()
        with disk.named(self.path):
            written = os.write(self._descriptor, payload)
            if written != len(payload):  # the next write would say why
                raise OSError(errno.ENOSPC, f"only {written} of {len(payload)} bytes written (disk full?)")

    def sync(self) -> None:
        """Flush all rows to disk: they are there after a power cut, before whatever is written next."""
        if self._descriptor is not None and stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            with disk.named(self.path):
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Flush to disk and close."""
        try:
            self.sync()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class JsonLine(NamedTuple):
    """One line of a JSON-lines file.

    Attributes:
      number: of the line, from 1.
      value: what it holds; None where it is no JSON.
      error: why it is no JSON, empty where it is.
    """

    number: int
    value: Any
    error: str


def json_lines(lines: Iterable[bytes | str]) -> Iterator[JsonLine]:
    """Every line that is not blank. What a line that is no JSON means is the caller's to say."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed = JsonLine(number, parse_json(line), "")
        except ValueError as error:
            parsed = JsonLine(number, None, str(error))
        yield parsed


def whole_rows(lines: Iterable[bytes | str]) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects among the lines, and how many other lines there are: torn ones, the mark of a kill."""
    values = [line.value for line in json_lines(lines)]
    rows = [value for value in values if isinstance(value, dict)]
    return rows, len(values) - len(rows)


def read_rows(path: str | os.PathLike) -> tuple[list[dict[str, Any]], int]:
    """`whole_rows` of a file; none where there is no file.

    Raises:
      BadInput: it cannot be read; the message names it.
    """
    try:
        with opened(path, LOG_BYTES) as file:
            return whole_rows(lines_of(file))
    except FileNotFoundError:
        return [], 0


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; one that is longer than any we write comes in pieces, which are no JSON."""
    while line := file.readline(LINE_BYTES):
        yield line


def read_json_lines(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file, none where there is no file; a torn line is left out with a warning."""
    try:
        with opened(path, LOG_BYTES) as file:
            for line in json_lines(lines_of(file)):
                if isinstance(line.value, dict):
                    yield line.value
                else:
                    warnings.warn(f"{path}: line {line.number} is torn and was left out", stacklevel=2)
    except FileNotFoundError:
        return
