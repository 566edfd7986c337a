"""The cells of a table as they were written: CSV, TSV or JSON lines, each of them gzipped or not."""

import csv
import dataclasses
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import json_lines

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")


@dataclasses.dataclass(frozen=True)
class Cells:
    """A table before anything in it is judged.

    Attributes:
      columns: by name, of equal length: text of a CSV, values of JSON lines; None where a row has no such cell.
      rows: the length of every column; a blank line is no row.
      sha256: of the file's bytes.
      numbers_are_text: whether a number is text, as in a CSV; in JSON, text is no number.
      short_row: the first row of a CSV with fewer cells than the header, from 1; None where there is none.
      torn_line: the number of a last line of JSON that a write cut short, and that is left out.
    """

    columns: dict[str, list[Any]]
    rows: int
    sha256: str
    numbers_are_text: bool
    short_row: int | None = None
    torn_line: int | None = None

    def records(self) -> Iterator[dict[str, Any]]:
        """Row by row, by column."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))


def read_cells(path: Path) -> Cells:
    """Read a file with a header, or with a JSON object a line.

    Raises:
      BadInput: no file, no text, no table; the message names the file, and the line or row where there is one.
    """
    payload = _read_bytes(path)
    text = _text(path, _unzipped(path, payload))
    sha256 = hashlib.sha256(payload).hexdigest()
    name = path.name.removesuffix(".gz")
    if name.endswith(JSON_ENDINGS) or text.lstrip().startswith(("{", "[")):
        return _from_json_lines(path, text, sha256)
    return _from_csv(path, text, sha256)


def _read_bytes(path: Path) -> bytes:
    try:
        payload = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file or directory") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if not payload:
        raise BadInput(f"{path}: the file is empty")
    return payload


def _unzipped(path: Path, payload: bytes) -> bytes:
    if not payload.startswith(b"\x1f\x8b"):
        return payload
    try:
        return gzip.decompress(payload)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged gzip file ({error})") from None


def _text(path: Path, payload: bytes) -> str:
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a table (not UTF-8 text); a CSV or JSON lines are read") from None
    if "\x00" in text:
        raise BadInput(f"{path}: not a table (binary); a CSV or JSON lines are read")
    if not text.strip():
        raise BadInput(f"{path}: the file is empty")
    return text


def _from_csv(path: Path, text: str, sha256: str) -> Cells:
    lines = text.lstrip("\r\n")
    first = lines.split("\n", 1)[0]
    separator = "\t" if "\t" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=separator, strict=True)
    try:
        header, *rows = [row for row in reader if any(row)] or [[]]
    except csv.Error as error:
        raise BadInput(f"{path}: not a table; read as CSV, line {reader.line_num}: {error}") from None
    header = [name.strip() for name in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise BadInput(f"{path}: column {', '.join(repeated)} appears more than once")
    width = len(header)
    short_row = None
    for number, row in enumerate(rows, start=1):
        if len(row) > width:
            raise BadInput(f"{path}: not a table; row {number} has {len(row)} cells, the header {width}")
        if len(row) < width:
            short_row = short_row or number
            row.extend([None] * (width - len(row)))  # type: ignore[list-item]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    return Cells(columns, len(rows), sha256, True, short_row=short_row)


def _from_json_lines(path: Path, text: str, sha256: str) -> Cells:
    if text.lstrip().startswith("["):
        raise BadInput(f"{path}: a JSON array; write one object a line instead")
    lines = list(json_lines(text.split("\n")))
    torn_line = lines.pop().number if lines[-1].error and len(lines) > 1 else None
    rows: list[dict[str, Any]] = []
    for line in lines:
        if not isinstance(line.value, dict):
            what = "JSON" if line.error else "a JSON object"
            raise BadInput(f"{path}: line {line.number} is not {what}; one object a line is read")
        rows.append(line.value)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Cells(columns, len(rows), sha256, False, torn_line=torn_line)
