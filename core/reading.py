"""Files that may hold anything: only regular ones are read, never waited for, up to a size; JSON up to a depth."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from core.errors import BadInput

RECORD_BYTES = 1 << 26  # of a JSON file: ten thousand attempts, or the draws of a fit
LOG_BYTES = 1 << 30  # of a JSON-lines file: five million steps
PART = 1 << 16  # of one read
LINE_BYTES = 1 << 26  # of one of its lines
DEPTH = 64  # of JSON: what we write is 6 deep, and whoever walks a tree calls itself for each level
SHOWN = 120  # characters of a value in a message

# What stands in the place of a file, in the order of the questions.
KINDS = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "is a FIFO, not a file"),
    (stat.S_ISSOCK, "is a socket, not a file"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
)


class Unreadable(BadInput):
    """A file that is there and cannot be read; `why` says why without its name."""

    def __init__(self, path: str | os.PathLike, why: str):
        super().__init__(f"{path}: {why}")
        self.why = why


def _open(path: str | os.PathLike, most: int) -> int:
    """A descriptor of a regular file of at most this size."""
    try:
        # Without waiting for whoever writes into a FIFO, and without becoming the owner of a terminal.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        raise Unreadable(path, _refusal(path, error)) from None
    found = os.fstat(descriptor)
    why = ""
    if not stat.S_ISREG(found.st_mode):
        why = f"cannot be read ({_kind(found.st_mode)})"
    elif found.st_size > most:
        why = f"cannot be read (has {found.st_size:,} bytes; at most {most:,} are read)"
    if why:
        os.close(descriptor)
        raise Unreadable(path, why)
    return descriptor


@contextlib.contextmanager
def opened(path: str | os.PathLike, most: int) -> Iterator[IO[bytes]]:
    """A regular file, open to be read. A FIFO is not waited for, and a device is not read.

    Raises:
      FileNotFoundError: there is none, or it is a link to nothing.
      Unreadable: it is no regular file, larger than `most` bytes, or the system refuses it.
    """
    with os.fdopen(_open(path, most), "rb") as file:
        try:
            yield file
        except OSError as error:
            raise Unreadable(path, f"cannot be read ({error.strerror})") from None


def read_bytes(path: str | os.PathLike, most: int = RECORD_BYTES) -> bytes:
    """The bytes of a regular file. Raises as `opened`."""
    # Three calls of the system: a third of the time of a file object, which adds up over 60,000 files.
    descriptor = _open(path, most)
    try:
        return b"".join(iter(lambda: os.read(descriptor, PART), b""))
    except OSError as error:
        raise Unreadable(path, f"cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)


def odd_file(folder: Path, data: str = "") -> str:
    """What lies in a folder, at any depth, and is no file that can be read: for libraries that would wait for it, or
    take as much memory as it has bytes. Empty where all is well.

    Args:
      data: folders of this name hold what is read in parts, of any size.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            most = 1 << 62 if os.path.basename(place) == data else LOG_BYTES
            try:
                os.close(_open(path, most))
            except FileNotFoundError:
                return f"{path}: is a link to nothing"
            except Unreadable as error:
                return str(error)
    return ""


def _kind(mode: int) -> str:
    return next((name for is_kind, name in KINDS if is_kind(mode)), "is no regular file")


def _refusal(path: str | os.PathLike, error: OSError | ValueError) -> str:
    """A socket cannot even be opened, and the system's word for it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return f"cannot be read ({_kind(mode)})"
    return f"cannot be read ({error.strerror if isinstance(error, OSError) else error})"


def parse_json(payload: bytes | str) -> Any:
    """What a JSON text holds.

    Raises:
      ValueError: it is no JSON, or lists and objects lie in each other more than DEPTH deep.
    """
    try:
        value = json.loads(payload)
    except RecursionError:
        raise ValueError(f"more than {DEPTH} lists and objects in each other") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 at byte {error.start}") from None
    if isinstance(value, list | dict) and _openings(payload) > DEPTH and _is_deep(value):
        raise ValueError(f"more than {DEPTH} lists and objects in each other")
    return value


def _openings(payload: bytes | str) -> int:
    """At least as many as the levels of the tree: where these are few, it need not be walked."""
    if isinstance(payload, str):
        return payload.count("[") + payload.count("{")
    return payload.count(b"[") + payload.count(b"{")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def shown(value: object) -> str:
    """A value in a message: on one line, without what a terminal would obey, not longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def printable(text: str, most: int = 300) -> str:
    """A text from a file on one line: what is no character of a text is written as its escape."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def path_exists(path: Path) -> bool:
    """Whether anything has this name, a link to nothing or to itself among it; False where that cannot be asked."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True
