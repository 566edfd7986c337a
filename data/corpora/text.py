"""text:PATH: the user's own text, .txt files, .jsonl rows with a "text" key, .parquet files with a "text" column.

Read as a stream, so that a corpus need not fit in memory. A text longer than 16 KiB is cut at line ends into
documents of about that length (a book or a corpus in one file would otherwise be one document, in one split).
"""

import collections
import os
from collections.abc import Iterator
from pathlib import Path

from core.errors import BadInput
from core.files import json_lines
from data.documents import Document, decode, digest, drop_duplicates, split_of
from data.source import Source, build

FORM = "text:PATH"
DOMAINS = ("all",)

SUFFIXES = (".txt", ".jsonl", ".parquet")
HELD_OUT_PERCENT = 5.0  # a user's corpus is small more often than large; 5% each way still fills an evaluation
CUT_BYTES = 16 * 1024


class TextSource:
    """The documents of a file or folder; every iteration reads it again and counts `dropped` anew.

    Raises:
      BadInput: on construction where the path is missing or holds no file of the known kinds; while read
        where a row has no text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin = f"text:{path}"
        self.files = text_files(path)
        self.dropped: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[Document]:
        self.dropped = collections.Counter()
        return drop_duplicates(self._documents(), self.dropped)

    def _documents(self) -> Iterator[Document]:
        for file in self.files:
            name = file.relative_to(self.path).as_posix() if self.path.is_dir() else file.name
            for number, payload in enumerate(_payloads(file)):
                for part in cut(payload, CUT_BYTES):
                    text, reason = decode(part, maximum_bytes=None)
                    if reason:
                        self.dropped[reason] += 1
                        continue
                    identity = digest(part)
                    split = split_of(identity, HELD_OUT_PERCENT)
                    yield Document(text, "text", f"{name}#{number}", split, identity.hex())


def text_files(path: Path) -> list[Path]:
    """The files of the known kinds at or below `path`, sorted by name; hidden files and folders are passed over.

    Raises:
      BadInput: no such path, a file of another kind, or a folder without any of the known kinds.
    """
    allowed = ", ".join(SUFFIXES)
    if not path.exists():
        raise BadInput(
            f"data.corpus='text:{path}': no such file or folder; give a {allowed} file or a folder of them"
        )
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise BadInput(f"data.corpus='text:{path}': a {path.suffix or 'nameless'} file; must be {allowed}")
        return [path]
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if not found:
        raise BadInput(f"data.corpus='text:{path}': no {allowed} file in this folder")
    return sorted(found)


def signature(rest: str, domain: str) -> list[str]:
    """Each file's name, length and time of change."""
    lines = []
    for file in text_files(_path(rest)):
        status = file.stat()
        lines.append(f"{file} {status.st_size} {status.st_mtime_ns}")
    return lines


def locate(rest: str, domain: str, folder: Path, workers: int | None) -> Source:
    """The documents as a data set, built where it is not in `folder`; read as a stream by one process."""
    return build(folder, "text", lambda: TextSource(_path(rest)), description=f"documents of {rest}")


def _path(rest: str) -> Path:
    return Path(rest).expanduser().resolve()


def cut(payload: bytes, length: int) -> Iterator[bytes]:
    """Cut `payload` into parts of at most 2 `length` bytes, after the first line end beyond `length`.

    Parts concatenate to the payload. Where a line is longer than `length`, the cut falls between two
    UTF-8 characters.
    """
    start = 0
    while len(payload) - start > 2 * length:
        line_end = payload.find(b"\n", start + length, start + 2 * length)
        end = line_end + 1 if line_end >= 0 else start + 2 * length
        while end > start + length and line_end < 0 and payload[end] & 0xC0 == 0x80:
            end -= 1
        yield payload[start:end]
        start = end
    if start < len(payload) or not payload:
        yield payload[start:]


def _payloads(file: Path) -> Iterator[bytes]:
    """The texts of one file as bytes, before any is judged."""
    try:
        if file.suffix == ".txt":
            yield file.read_bytes()
        elif file.suffix == ".jsonl":
            yield from _json_rows(file)
        else:
            yield from _parquet_rows(file)
    except PermissionError:
        raise BadInput(f"data.corpus: {file} cannot be read (no permission)") from None


def _json_rows(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        for number, row, error in json_lines(lines):
            if error:
                raise BadInput(f"data.corpus: {file} line {number} is not JSON ({error})")
            value = row.get("text") if isinstance(row, dict) else None
            if not isinstance(value, str):
                held = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
                raise BadInput(
                    f'data.corpus: {file} line {number} has no string under the key "text" (it has: {held})'
                )
            # An escaped lone surrogate is legal JSON and no text: its bytes are dropped as not UTF-8.
            yield value.encode("utf-8", "surrogatepass")


def _parquet_rows(file: Path) -> Iterator[bytes]:
    import pyarrow  # 0.3 s to import, and few corpora are parquet
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if "text" not in names:
                raise BadInput(f'data.corpus: {file} has no column "text" (it has: {", ".join(names)})')
            kind = table.schema_arrow.field("text").type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise BadInput(f'data.corpus: {file} has a column "text" of type {kind}; must be string')
            for batch in table.iter_batches(batch_size=1024, columns=["text"]):
                for value in batch.column(0):
                    yield (value.as_py() or "").encode()
    except pyarrow.ArrowException as error:
        raise BadInput(f"data.corpus: {file} is not readable as parquet ({error})") from None
