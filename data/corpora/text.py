"""text:PATH: the user's own text, a file or a folder of files.

.txt, .md and .html files are texts; .jsonl, .json, .csv, .tsv and .parquet files hold rows with a field "text", or
another one that text:PATH?field=NAME names. All but parquet may be packed (data/textfiles/). Read as a stream, so that
a corpus need not fit in memory. A text longer than 16 KiB is cut at line ends into documents of about that length (a
book or a corpus in one file would otherwise be one document, in one split).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from core.errors import BadInput
from core.paths import absolute, expanded
from data.documents import LeftOut, Texts
from data.source import Source, build
from data.textfiles.find import Found, find
from data.textfiles.read import NoText, texts_of

FORM = "text:PATH"
DOMAINS = ("all",)

FIELD = "text"
CUT_BYTES = 16 * 1024


class TextSource(Texts):
    """The documents of a file or folder.

    Args:
      field: of rows, the one that is the text.

    Raises:
      BadInput: on construction where the path is missing or holds no file of the known kinds; while read
        where a row has no text.
    """

    def __init__(self, path: Path, field: str = FIELD) -> None:
        super().__init__(f"text:{path}")
        self.path, self.field = path, field
        self.found = find(path, f"data.corpus='text:{path}'")
        self._without: dict[str, str] = {}  # files of rows that have no such field, and their ending

    @property
    def left_out(self) -> LeftOut:
        skipped = Found(skipped={reason: {**record} for reason, record in self.found.skipped.items()})
        for name, kind in self._without.items():
            skipped.skip(f'{kind} without "{self.field}"', name)
        return {"dropped_first": self.dropped_first, "skipped_files": skipped.skipped}

    def payloads(self) -> Iterator[tuple[str, bytes]]:
        for file in self.found.files:
            name = file.path.relative_to(self.path).as_posix() if self.path.is_dir() else file.path.name
            try:
                for number, text in enumerate(texts_of(file, self.field)):
                    for part in cut(text, CUT_BYTES):
                        yield f"{name}#{number}", part
            except NoText as error:
                if len(self.found.files) == 1:
                    raise BadInput(
                        f'data.corpus: {file.path} has no field "{self.field}" (it has: {error}); another one is '
                        "named by text:PATH?field=NAME"
                    ) from None
                self._without[name] = file.kind


def signature(rest: str, domain: str) -> list[str]:
    """Each file's name, length and time of change."""
    path, field = _path(rest)
    lines = [f"field {field}"] if field != FIELD else []
    for file in find(path, f"data.corpus='text:{path}'").files:
        status = file.path.stat()
        lines.append(f"{file.path} {status.st_size} {status.st_mtime_ns}")
    return lines


def locate(rest: str, domain: str, folder: Path, workers: int | None) -> Source:
    """The documents as a data set, built where it is not in `folder`; read as a stream by one process."""
    return build(folder, "text", lambda: TextSource(*_path(rest)), description=f"documents of {rest}")


def located(rest: str) -> str:
    """The same corpus, its path from the root on."""
    path, mark, field = rest.partition("?field=")
    return absolute(path, f"data.corpus='text:{rest}'") + mark + field


def _path(rest: str) -> tuple[Path, str]:
    """The path, and the field that is the text."""
    given = f"data.corpus='text:{rest}'"
    path, mark, field = rest.partition("?field=")
    if mark and not field:
        raise BadInput(f"{given}: must name the field that is the text, as in text:PATH?field=body")
    return expanded(path, given).resolve(), field or FIELD


def cut(chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
    """Cut a text into parts of at most 2 `length` bytes, after the first line end beyond `length`.

    Parts concatenate to the text, however it comes in chunks. Where a line is longer than `length`, the cut falls
    between two UTF-8 characters.
    """
    held, anything = b"", False
    for chunk in chunks:
        held, start = held + chunk, 0
        while len(held) - start > 2 * length:
            line_end = held.find(b"\n", start + length, start + 2 * length)
            end = line_end + 1 if line_end >= 0 else start + 2 * length
            while end > start + length and line_end < 0 and held[end] & 0xC0 == 0x80:
                end -= 1
            yield held[start:end]
            start, anything = end, True
        held = held[start:]
    if held or not anything:
        yield held
