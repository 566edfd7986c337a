"""Paths as people type them, and files that are read whole."""

import os
import stat
from pathlib import Path

from core.errors import BadInput

PROJECT = Path(__file__).resolve().parent.parent


def expanded(text: str, key: str) -> Path:
    """The path with `~` replaced by the home that it stands for.

    Args:
      key: what the message begins with, such as data.corpus='text:~/x'.

    Raises:
      BadInput: nobody knows that home, or no file can be named so.
    """
    if "\0" in text:
        raise BadInput(f"{key}: no file can have a NUL in its name")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadInput(f"{ascii(key)[1:-1]}: a name that is not UTF-8; rename the file")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        home = text.partition("/")[0]
        raise BadInput(f"{key}: the home folder {home} is not known here; give the whole path") from None


def absolute(text: str, key: str) -> str:
    """The path from the root on, as it is seen from the current folder. Links stay, for they may be moved on purpose.

    Raises:
      BadInput: as `expanded`, or the current folder was deleted.
    """
    path = expanded(text, key)
    try:
        # Only the system knows what is above a link.
        return os.fspath(path.resolve() if ".." in path.parts else path.absolute())
    except FileNotFoundError:
        raise BadInput(f"{key}: the current folder was deleted; give the whole path") from None


def read_regular(path: Path, most: int) -> bytes:
    """All bytes of a file that is a file: a device or a pipe would give bytes without end, or none for ever.

    Raises:
      OSError: it cannot be opened, is no regular file, or holds more than `most` bytes. `strerror` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(0, "is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is no regular file but a device or a pipe")
        payload = file.read(most + 1)  # files of /proc have no length
    if len(payload) > most:
        raise OSError(0, f"holds more than {most:,} bytes")
    return payload
