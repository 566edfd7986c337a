"""The texts of one file as bytes, before any is judged: plain text, rows with a field of text, packed or not."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any, cast

from core.errors import BadInput
from core.files import json_lines
from data.textfiles.find import TextFile

CHUNK = 2**20
_BREAKS = {
    "p",
    "br",
    "div",
    "li",
    "tr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "pre",
    "section",
    "article",
    "title",
}
_UNREAD = ("script", "style", "template")
# What a packed file that is cut or is none raises, beside OSError.
_UNPACKING = (EOFError, zlib.error, lzma.LZMAError)


class NoText(Exception):
    """A file of rows without the field: no text to refuse a folder for, where the file is one of many."""


def texts_of(file: TextFile, field: str) -> Iterator[Iterator[bytes]]:
    """Each text of the file in chunks, which concatenate to it.

    Raises:
      BadInput: the file is damaged or a row has no text; the message names the file, and the row where there is one.
      NoText: a .json, .csv or .tsv file that has no such field at all.
    """
    with _faults(file):
        if file.kind == ".parquet":
            for payload in _parquet_rows(file.path, field):
                yield iter([payload])
            return
        with _opened(file) as stream:
            if file.kind in (".html", ".htm"):
                yield iter([_html_text(stream.read())])
            elif file.kind in _ROW_READERS:
                for payload in _ROW_READERS[file.kind](stream, file.path, field):
                    yield iter([payload])
            else:
                yield _chunks(file, stream)


def _chunks(file: TextFile, stream: IO[bytes]) -> Iterator[bytes]:
    with _faults(file):
        while chunk := stream.read(CHUNK):
            yield chunk


@contextlib.contextmanager
def _faults(file: TextFile) -> Iterator[None]:
    """What a disk or a packing says is wrong, in one line that names the file."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"data.corpus: {file.path} cannot be read ({_reason(error)})") from None
    except _UNPACKING as error:
        raise BadInput(f"data.corpus: {file.path} cannot be unpacked as {file.packed} ({error})") from None


def _opened(file: TextFile) -> IO[bytes]:
    if file.packed == ".gz":
        return cast(IO[bytes], gzip.open(file.path))
    if file.packed == ".bz2":
        return bz2.open(file.path)
    if file.packed == ".xz":
        return lzma.open(file.path)
    if file.packed == ".zst":
        import pyarrow  # 0.3 s to import, and few corpora are packed so

        return io.BufferedReader(pyarrow.input_stream(str(file.path), compression="zstd"), CHUNK)
    return file.path.open("rb")


def _json_rows(stream: IO[bytes], path: Path, field: str) -> Iterator[bytes]:
    for number, row, error in json_lines(stream):
        if error:
            raise BadInput(f"data.corpus: {path} line {number} is not JSON ({error})")
        yield _text_in(row, field, f"{path} line {number}")


def _json(stream: IO[bytes], path: Path, field: str) -> Iterator[bytes]:
    """One value: a row, or a list of rows or texts; or, as some write it, one row a line."""
    payload = stream.read()
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        lines = list(json_lines(io.BytesIO(payload)))
        if len(lines) < 2 or lines[0].error or not isinstance(lines[0].value, dict):
            raise BadInput(f"data.corpus: {path} is not JSON ({error})") from None
        if field not in lines[0].value:
            raise NoText(_held(lines[0].value)) from None
        yield from _json_rows(io.BytesIO(payload), path, field)
        return
    rows = value if isinstance(value, list) else [value]
    if not any(isinstance(row, str) or (isinstance(row, dict) and field in row) for row in rows):
        raise NoText(_held(rows[0]) if rows else "an empty list")
    for number, row in enumerate(rows):
        yield _encoded(row) if isinstance(row, str) else _text_in(row, field, f"{path} row {number}")


def _table_rows(stream: IO[bytes], path: Path, field: str) -> Iterator[bytes]:
    csv.field_size_limit(sys.maxsize)  # of the process; a text may be longer than the 128 KiB of its default
    with io.TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
        tabs = path.name.lower().partition(".tsv")[1]
        reader = csv.DictReader(lines, delimiter="\t" if tabs else ",", strict=True)
        try:
            names = list(reader.fieldnames or [])
            if field not in names:
                raise NoText(", ".join(map(repr, names)) or "nothing")
            if names.count(field) > 1:
                raise BadInput(f"data.corpus: {path} has {names.count(field)} columns {field!r}; must be one")
            for row in reader:
                yield _encoded(row[field] or "")
        except UnicodeDecodeError:
            raise BadInput(f"data.corpus: {path} after line {reader.line_num} is not UTF-8") from None
        except csv.Error as error:
            raise BadInput(f"data.corpus: {path} line {reader.line_num} is not CSV ({error})") from None


_ROW_READERS = {
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".json": _json,
    ".csv": _table_rows,
    ".tsv": _table_rows,
}


def _text_in(row: Any, field: str, where: str) -> bytes:
    """The text of a row; null is an empty one, as in parquet."""
    value = row.get(field, 0) if isinstance(row, dict) else 0
    if value is None:
        return b""
    if not isinstance(value, str):
        raise BadInput(f'data.corpus: {where} has no string under the key "{field}" (it has: {_held(row)})')
    return _encoded(value)


def _encoded(text: str) -> bytes:
    """An escaped lone surrogate is legal JSON and no text: its bytes are dropped as not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _held(row: Any) -> str:
    said = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
    return said if len(said) <= 200 else f"{said[:200]}..."


def _parquet_rows(path: Path, field: str) -> Iterator[bytes]:
    import pyarrow  # 0.3 s to import, and few corpora are parquet
    import pyarrow.parquet

    is_kind = pyarrow.types
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if names.count(field) != 1:
                has = f'{names.count(field)} columns "{field}"' if field in names else f'no column "{field}"'
                raise BadInput(f"data.corpus: {path} has {has} (it has: {', '.join(names)}); must be one")
            kind = table.schema_arrow.field(field).type
            held = kind.value_type if is_kind.is_dictionary(kind) else kind
            is_text = is_kind.is_string(held) or is_kind.is_large_string(held) or is_kind.is_string_view(held)
            is_bytes = is_kind.is_binary(held) or is_kind.is_large_binary(held) or is_kind.is_binary_view(held)
            if not (is_text or is_bytes or is_kind.is_null(held)):
                raise BadInput(
                    f'data.corpus: {path} has a column "{field}" of type {kind}; must be string or binary'
                )
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=[field]):
                column = batch.column(0)
                for value in column.dictionary_decode() if is_kind.is_dictionary(kind) else column:
                    payload = value.as_buffer().to_pybytes() if value.is_valid else b""
                    if is_text:
                        _check_string(payload, f"{path} row {number}")
                    yield payload
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise BadInput(f"data.corpus: {path} is not readable as parquet ({error})") from None


def _check_string(payload: bytes, where: str) -> None:
    """Parquet promises that a string is UTF-8: bytes that are not are damage, and not a document to leave out."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"data.corpus: {where} is not UTF-8 ({error.reason}), in a column of strings") from None


class _Words(HTMLParser):
    """Text between the tags, with line ends where a page has them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unread: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _UNREAD:
            self._unread.append(tag)
        elif tag in _BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._unread and tag == self._unread[-1]:
            self._unread.pop()
        elif tag in _BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.parts.append(data)


def _html_text(payload: bytes) -> bytes:
    """The words of a page without its tags and scripts; bytes that are not UTF-8 as they are, to be dropped as such."""
    try:
        page = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        return payload
    words = _Words()
    words.feed(page)
    words.close()
    lines = [" ".join(line.split()) for line in "".join(words.parts).split("\n")]
    return "\n".join(line for line in lines if line).encode() + b"\n"


def _reason(error: OSError) -> str:
    return "no permission" if isinstance(error, PermissionError) else error.strerror or str(error)
