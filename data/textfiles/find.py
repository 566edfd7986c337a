"""The files of a user's folder that hold text, each once, and those that are not read."""

import dataclasses
import os
import stat
from pathlib import Path

from core.errors import BadInput
from data.documents import NAMED, SkippedFiles

TEXTS = (".txt", ".text", ".md", ".markdown", ".html", ".htm")
ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".bz2", ".xz", ".zst")
ALLOWED = ".txt, .md, .html, .jsonl, .json, .csv, .tsv, .parquet, and all but the last packed as .gz, .bz2, .xz or .zst"


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file and how it is read.

    Attributes:
      kind: its ending in small letters, that of its packing left out: .jsonl of B.JSONL.gz.
      packed: the ending of its packing; empty for none.
    """

    path: Path
    kind: str
    packed: str = ""


@dataclasses.dataclass
class Found:
    """What is at or below a path.

    Attributes:
      files: in the order of their names.
      skipped: those of other kinds, by their ending.
    """

    files: list[TextFile] = dataclasses.field(default_factory=list)
    skipped: dict[str, SkippedFiles] = dataclasses.field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        record = self.skipped.setdefault(reason, {"files": 0, "first": []})
        record["files"] += 1
        if len(record["first"]) < NAMED:
            record["first"].append(name)


def text_file(path: Path) -> TextFile | None:
    """How a file is read, by its name; None for another kind."""
    *_, inner, last = ("", "", *(ending.lower() for ending in path.suffixes))
    if last in PACKED:
        return TextFile(path, inner, last) if inner in TEXTS + ROWS and inner != ".parquet" else None
    return TextFile(path, last) if last in TEXTS + ROWS else None


def find(path: Path, given: str) -> Found:
    """The files of the known kinds at or below `path`. Links are followed; hidden files and folders are not read.

    Args:
      given: what a message begins with.

    Raises:
      BadInput: no such path, a file of another kind, no file of the known kinds, a link to nothing, a name that is
        not UTF-8, something that is no regular file under a known name, or a folder that may not be read.
    """
    status = _status(path, given, missing="no such file or folder; give a file or a folder of them")
    if not stat.S_ISDIR(status.st_mode):
        file = text_file(path)
        if file is None:
            raise BadInput(f"{given}: a {path.suffix or 'nameless'} file; must be {ALLOWED}")
        _check_regular(path, status, given)
        return Found([file])
    found = Found()
    _walk(path, path, given, found, {(status.st_dev, status.st_ino)})
    if not found.files:
        raise BadInput(f"{given}: no file in this folder that is {ALLOWED}{said(found.skipped, '; it has ')}")
    found.files.sort(key=lambda file: file.path)
    return found


def said(skipped: dict[str, SkippedFiles], before: str = "") -> str:
    """`2 .pdf (a.pdf, b.pdf), 1 hidden (.git/)`; empty where there are none."""
    parts = []
    for reason, record in sorted(skipped.items()):
        more = ", ..." if record["files"] > len(record["first"]) else ""
        parts.append(f"{record['files']:,} {reason} ({', '.join(record['first'])}{more})")
    return before + ", ".join(parts) if parts else ""


def _walk(folder: Path, top: Path, given: str, found: Found, seen: set[tuple[int, int]]) -> None:
    """Args: seen: device and number of every file and folder so far: links may lead to one twice, or in circles."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        raise BadInput(f"{given}: {folder}: cannot be read ({error.strerror})") from None
    for entry in names:
        path = Path(entry.path)
        name = os.fsencode(path.relative_to(top).as_posix()).decode("utf-8", "backslashreplace")
        if entry.name.startswith("."):
            found.skip("hidden", name)
            continue
        status = _status(path, f"{given}: {ascii(name)[1:-1]}", missing="a link to nothing")
        file = text_file(path)
        is_folder = stat.S_ISDIR(status.st_mode)
        if (is_folder or file) and "\\x" in name and not _is_utf8(path):
            raise BadInput(f"{given}: the name {ascii(name)[1:-1]} is not UTF-8; rename it")
        if is_folder or file:
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        if is_folder:
            _walk(path, top, given, found, seen)
        elif file:
            _check_regular(path, status, given)
            found.files.append(file)
        else:
            found.skip("".join(path.suffixes[-1:]).lower() or "without an ending", name)


def _status(path: Path, given: str, missing: str) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise BadInput(f"{given}: {missing}") from None
    except OSError as error:
        raise BadInput(f"{given}: cannot be read ({error.strerror})") from None


def _check_regular(path: Path, status: os.stat_result, given: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{given}: {path.name} is no regular file but a device or a pipe")


def _is_utf8(path: Path) -> bool:
    try:
        return bool(os.fspath(path).encode())
    except UnicodeEncodeError:
        return False
