"""The cells of a table as they were written: separated text, JSON or parquet, each of them gzipped or not."""

import codecs
import dataclasses
import gzip
import hashlib
import stat
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis.logs.objects import from_json, from_parquet
from analysis.logs.separated import all_numbers, separated
from core.errors import BadInput

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
READ = "CSV, TSV, JSON or parquet is read"
PARQUET = b"PAR1"
# What people take for a table, by its first bytes.
OTHER_FORMS = {
    b"PK\x03\x04": "a workbook of Excel or OpenDocument, or another zip archive; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel; save the sheet as CSV",
    b"BZh": "compressed with bzip2; decompress it (gzip is read)",
    b"\xfd7zXZ": "compressed with xz; decompress it (gzip is read)",
    b"(\xb5/\xfd": "compressed with zstd; decompress it (gzip is read)",
    b"ARROW1": f"an Arrow or Feather file; write it as parquet or CSV ({READ})",
}
# Longer marks first: the one of UTF-32 begins like the one of UTF-16.
ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
CONTROLS = frozenset(map(chr, range(32))) - frozenset("\t\n\r\f")
# What others call our columns, for the advice where one is missing.
ALIASES = {
    "params": "n parameters num_params n_params nparams model_size size",
    "tokens": "d n_tokens num_tokens train_tokens training_tokens tokens_seen",
    "loss": "l val_loss valid_loss validation_loss eval_loss test_loss final_loss train_loss cross_entropy nll",
    "flops": "c compute train_flops total_flops",
    "task": "name benchmark task_name",
    "scale": "params n n_params num_params parameters model_size size flops compute",
    "n": "items num_items n_items count total samples num_samples questions",
    "correct": "num_correct n_correct hits",
    "chance": "random baseline random_baseline random_chance",
    "learning_rate": "lr peak_lr max_lr",
}


@dataclasses.dataclass(frozen=True)
class Cells:
    """A table before anything in it is judged.

    Attributes:
      path: of the file.
      columns: by name, of equal length: text of a CSV, values of JSON and parquet; None where a row has no such cell.
      rows: the length of every column; blank lines and comments are no rows.
      sha256: of the file's bytes.
      separator: of a CSV's cells; "" where cells are values.
      repeated: names that several columns with different cells have.
      torn_line: the number of a last line of JSON that a write cut short, and that is left out.
    """

    path: Path
    columns: dict[str, list[Any]]
    rows: int
    sha256: str
    separator: str = ""
    repeated: frozenset[str] = frozenset()
    torn_line: int | None = None

    def renamed(self, rename: Mapping[str, str]) -> "Cells":
        """With the column `header` called `name` for each {name: header}.

        Raises:
          BadInput: no such column.
        """
        for name, header in rename.items():
            if header not in self.columns:
                raise BadInput(f"{self.path}: no column {header} to read as {name}; it has {self._present()}")
        if not rename:
            return self
        # The column that the caller chose wins over one that happens to have the name already.
        moved = set(rename.values()) | set(rename)
        kept = {name: values for name, values in self.columns.items() if name not in moved}
        repeated = {name for name in self.repeated if name not in moved}
        repeated |= {name for name, header in rename.items() if header in self.repeated}
        chosen = {name: self.columns[header] for name, header in rename.items()}
        return dataclasses.replace(self, columns={**chosen, **kept}, repeated=frozenset(repeated))

    def refuse_missing(self, names: list[str], also: Iterable[str] = ()) -> None:
        """Raise BadInput where there is one of `names`: columns that are needed and not there.

        Args:
          also: columns that would serve, for the advice.
        """
        if not names:
            return
        self.refuse_headless(names)
        told = advice((*names, *also), self.columns)
        raise BadInput(f"{self.path}: no column {', '.join(names)}; it has {self._present()}{told}")

    def refuse_headless(self, names: Iterable[str]) -> None:
        """Raise BadInput where the first row is numbers, and so does not name columns, `names` among them."""
        if all_numbers(list(map(str, self.columns))):
            raise BadInput(
                f"{self.path}: the first row is numbers ({self._present()}); a line above it must name the columns, "
                f"{', '.join(names)} among them"
            )

    def _present(self) -> str:
        return ", ".join(list(self.columns)[:20]) + (", ..." if len(self.columns) > 20 else "") or "none"


def advice(names: Iterable[str], present: Iterable[str]) -> str:
    """How columns that are missing may be read from others that are there."""
    others = [name for name in present if name not in ALIASES]
    by_lower = {name.lower().replace(" ", "_").replace("-", "_"): name for name in reversed(others)}
    flags = []
    for name in names:
        near = [by_lower[alias] for alias in (name, *ALIASES.get(name, "").split()) if alias in by_lower]
        flags += [f"--column {name}={_quoted(near[0])}"] if near else []
    return f"; {' '.join(flags)}" if flags else "; --column NAME=HEADER reads HEADER as NAME"


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def read_cells(path: Path) -> Cells:
    """Read a file with a header, or of JSON or parquet.

    Raises:
      BadInput: no file, no text, no table; the message names the file, and the line or row where there is one.
    """
    payload = _read_bytes(path)
    sha256 = hashlib.sha256(payload).hexdigest()
    payload = _unzipped(path, payload)
    if payload.startswith(PARQUET):
        columns, rows, repeated = from_parquet(path, payload)
        return Cells(path, columns, rows, sha256, repeated=repeated)
    text = _text(path, payload)
    if path.name.lower().removesuffix(".gz").endswith(JSON_ENDINGS) or text.lstrip().startswith(("{", "[")):
        columns, rows, torn_line = from_json(path, text)
        return Cells(path, columns, rows, sha256, torn_line=torn_line)
    header, lines, separator = separated(path, text)
    cells = list(map(list, zip(*lines, strict=True))) if lines else [[] for _ in header]
    # A column without a name cannot be asked for: an index, or what follows a last separator.
    named = [(name, column) for name, column in zip(header, cells, strict=True) if name]
    columns = {name: column for name, column in reversed(named)}
    columns = {name: columns[name] for name, _ in named}
    repeated = frozenset(name for name, column in named if column != columns[name])
    return Cells(path, columns, len(lines), sha256, separator, repeated)


def _read_bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{path}: not a regular file; a file or a sweep's directory is read")
        payload = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file or directory") from None
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
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
    for start, what in OTHER_FORMS.items():
        if payload.startswith(start):
            raise BadInput(f"{path}: not a table as text: {what}")
    encoding = next((name for mark, name in ENCODINGS if payload.startswith(mark)), _unmarked(payload))
    try:
        text = payload.decode(encoding)
    except UnicodeDecodeError:
        # Names and notes of another encoding are no reason to refuse numbers: every byte is some Latin-1 letter.
        text = payload.decode("latin-1")
        if encoding != "utf-8" or CONTROLS & set(text):
            raise BadInput(f"{path}: not a table (not UTF-8 text); {READ}") from None
    if "\x00" in text:
        raise BadInput(f"{path}: not a table (binary); {READ}")
    if not text.strip():
        raise BadInput(f"{path}: the file is empty")
    if text.lstrip()[:14].lower().startswith(("<!doctype", "<html", "<?xml")):
        raise BadInput(f"{path}: a web page or XML, not a table; {READ}")
    return text


def _unmarked(payload: bytes) -> str:
    """The encoding of text without a mark: every other byte of digits in UTF-16 is zero."""
    for name, zeros in (("utf-16-le", payload[1:64:2]), ("utf-16-be", payload[0:64:2])):
        if len(payload) % 2 == 0 and not any(zeros):
            return name
    return "utf-8"
