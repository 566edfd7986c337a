"""Names and paths that a command line, a spec or a site file gives."""

import unicodedata
from pathlib import Path

from core.errors import BadInput
from core.reading import shown

MOST_NAME_BYTES = 200  # of 255 that file systems take: temporary files add to it
MOST_PATH_BYTES = 4000  # of 4,096 that Linux takes
# Control characters, ends of lines and paragraphs: they break every list of one a line, and a terminal obeys them.
UNPRINTED = ("Cc", "Zl", "Zp")


def is_one_line(text: str) -> bool:
    """Whether a text can stand in a line: no line ends, no NUL, nothing that a terminal obeys."""
    return not any(unicodedata.category(letter) in UNPRINTED for letter in text)


def plain_name(flag: str, name: str) -> str:
    """The name of one folder: never a path, an option or hidden, and the same for every file system.

    Raises:
      BadInput: it is another text; `flag` is where it was given.
    """
    if (
        not name
        or name != name.strip()
        or name[0] in ".-~"
        or "/" in name
        or "\\" in name
        or not is_one_line(name)
        or len(name.encode("utf-8", "surrogateescape")) > MOST_NAME_BYTES
    ):
        raise BadInput(
            f"{flag}={shown(name)}: must be a plain folder name: no path, no blank at its ends, no dot, dash or tilde "
            f"first, at most {MOST_NAME_BYTES} bytes"
        )
    return name


def path(text: str) -> Path:
    """A path as a flag gives it.

    Raises:
      ValueError: no file system can hold it, or it cannot be shown in a line.
    """
    longest = max(len(part.encode("utf-8", "surrogateescape")) for part in text.split("/"))
    if not text or not is_one_line(text):
        raise ValueError(f"{shown(text)}: must be a path, without line ends or NUL")
    if longest > 255 or len(text.encode("utf-8", "surrogateescape")) > MOST_PATH_BYTES:
        raise ValueError(f"{shown(text)}: must be a path of names of at most 255 bytes")
    try:
        Path(text).resolve()
    except (OSError, RuntimeError):
        raise ValueError(f"{shown(text)}: must be a path without a loop of links") from None
    return Path(text)
