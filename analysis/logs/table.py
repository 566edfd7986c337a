"""Tables that fits read: one format for a file of numbers and a sweep's directory.

Whatever the source, a `Table` holds finite float64 columns under the project's names (`params`, `tokens`,
`loss`, `flops`, ...), the hash of what was read, and what a careful reader should be warned of.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.logs.cells import Cells, read_cells
from analysis.logs.settings import best_rows, setting_warning
from analysis.logs.spelled import COUNTS, Spelled, said, spelled
from analysis.logs.suspicions import suspicions
from core.errors import BadInput

REQUIRED = ("params", "tokens", "loss")
OPTIONAL = ("flops", "unique_tokens", "run", "seed", "weight")
TEXT = frozenset({"run"})
POSITIVE = frozenset({"params", "tokens", "loss", "flops", "unique_tokens", "width", "depth", "learning_rate"})
NOT_NEGATIVE = frozenset({"weight"})
NAMED_ROWS = 8  # of those left out, how many a warning names


@dataclasses.dataclass(frozen=True)
class TableReading:
    """How a file is to be read.

    Attributes:
      rename: name here -> header in the file.
      drop_missing: leave out rows in which a column that is needed says nothing.
      best_of: of the rows that are equal in these columns, keep the one of the lowest loss.
      signed: columns that may be zero or negative though they usually cannot.
      labels: columns that are read as text.
      spare: columns that are left out, with a warning, where they cannot be read.
    """

    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    drop_missing: bool = False
    best_of: tuple[str, ...] = ()
    signed: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    spare: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """What a result file keeps, so that a later command reads the same table alike."""
        kept: dict[str, Any] = {"columns": dict(self.rename)}
        kept |= {"drop_missing": True} if self.drop_missing else {}
        return kept | ({"best_of": list(self.best_of)} if self.best_of else {})

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "TableReading":
        """What `to_json` wrote into a result file; nothing where it wrote nothing."""
        columns, best_of = stored.get("columns"), stored.get("best_of")
        return cls(
            rename={str(k): str(v) for k, v in columns.items()} if isinstance(columns, Mapping) else {},
            drop_missing=stored.get("drop_missing") is True,
            best_of=tuple(map(str, best_of)) if isinstance(best_of, list) else (),
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, and where they came from.

    Attributes:
      columns: float64 arrays, finite; `run`, where there is one, an array of str. Only the columns asked for.
      path: the source as the caller named it.
      sha256: of the file's bytes; of a sweep, see `analysis.logs.load.Sweep.sha256`.
      rows: the length of every column.
      warnings: one line each, for the reader of a fit.
      row_numbers: of each row, its number in the file from 1, the header not counted; None for a sweep.
      header: all columns that the source has.
    """

    columns: dict[str, np.ndarray]
    path: str
    sha256: str
    rows: int
    warnings: tuple[str, ...] = ()
    row_numbers: np.ndarray | None = None
    header: tuple[str, ...] = ()

    def only(self, kept: np.ndarray) -> "Table":
        """The rows for which `kept` is true."""
        columns = {name: values[kept] for name, values in self.columns.items()}
        numbers = None if self.row_numbers is None else self.row_numbers[kept]
        return dataclasses.replace(self, columns=columns, rows=int(np.sum(kept)), row_numbers=numbers)

    def row_number(self, row: int) -> int:
        """What a message calls a row, given from 0."""
        return row + 1 if self.row_numbers is None else int(self.row_numbers[row])

    def source(self) -> dict[str, str | int]:
        """The `input` entry of every result file."""
        return {"path": self.path, "sha256": self.sha256, "rows": self.rows}


def table_of_file(
    path: Path,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    reading: TableReading = TableReading(),
) -> Table:
    """Read a file of numbers. Errors are those of `analysis.logs.read.read_table`."""
    cells = read_cells(path).renamed(reading.rename)
    found = cells.columns
    also = [name for name in optional if name in REQUIRED and name not in found]
    cells.refuse_missing([name for name in (*required, *reading.best_of) if name not in found], also)
    if cells.rows < 2:
        raise _too_few(path, cells.rows)
    wanted = [*required, *(name for name in optional if name in found and name not in required)]
    wanted += [name for name in reading.best_of if name not in wanted]
    doubled = [name for name in wanted if name in cells.repeated and name not in reading.spare]
    if doubled:
        raise BadInput(f"{path}: column {', '.join(doubled)} appears more than once, with different cells")
    labels = TEXT | reading.labels
    read = spelled({name: found[name] for name in wanted if name not in labels}, COUNTS, cells.separator)
    # What only groups rows may be text.
    labels |= {
        name for name in reading.best_of if name not in required and name in read and read[name].wrong.any()
    }
    numbers = [name for name in wanted if name not in labels]
    kept, warnings = _kept_rows(
        cells, {name: read[name] for name in numbers if name not in reading.spare}, reading
    )
    columns: dict[str, np.ndarray] = {}
    for name in wanted:
        if name in labels:
            texts = ["" if cell is None else str(cell).strip() for cell in found[name]]
            columns[name] = np.array(texts, dtype=np.str_)[kept]
            continue
        try:
            _refuse_cells(path, name, found[name], read[name], kept)
            check_values(str(path), name, read[name].values[kept], name in reading.signed, kept + 1)
        except BadInput as error:
            if name not in reading.spare:
                raise
            if not read[name].nothing[kept].all():
                warnings.append(f"column {name} was left out: {str(error).removeprefix(f'{path}: ')}")
            continue
        columns[name] = read[name].values[kept]
    if reading.best_of:
        best, said_of_it = best_rows(columns, reading.best_of, required)
        columns, kept = {name: values[best] for name, values in columns.items()}, kept[best]
        warnings.append(said_of_it)
    elif "loss" in columns:
        warnings += setting_warning(columns, {name: [found[name][row] for row in kept] for name in found})
    if kept.size < 2:
        raise _too_few(path, kept.size)
    torn = f"line {cells.torn_line} is torn (a write was cut short) and was left out"
    return Table(
        columns=columns,
        path=str(path),
        sha256=cells.sha256,
        rows=kept.size,
        warnings=(*([torn] if cells.torn_line else []), *warnings, *suspicions(columns)),
        row_numbers=kept + 1,
        header=tuple(found),
    )


def _too_few(path: Path, rows: int) -> BadInput:
    return BadInput(f"{path}: {'only one row' if rows else 'no rows'}; at least 2 are needed")


def _kept_rows(
    cells: Cells, read: Mapping[str, Spelled], reading: TableReading
) -> tuple[np.ndarray, list[str]]:
    """Which rows are taken, from 0, and what is said of the others."""
    absent = np.zeros(cells.rows, bool)
    if reading.drop_missing:
        absent = np.any([column.nothing for column in read.values()], axis=0) | absent
    left_out = np.flatnonzero(absent)
    if not left_out.size:
        return np.arange(cells.rows), []
    named = []
    for row in left_out[:NAMED_ROWS]:
        name = next(name for name, column in read.items() if column.nothing[row])
        named.append(f"row {row + 1}: {name} {_cell(cells.columns[name][row])}")
    more = f"; and {left_out.size - NAMED_ROWS} more" if left_out.size > NAMED_ROWS else ""
    return np.flatnonzero(~absent), [
        f"{left_out.size} of {cells.rows} rows left out by --drop-missing ({'; '.join(named)}{more})"
    ]


def _cell(cell: object) -> str:
    return "is empty" if cell is None or not str(cell).strip() else f"is {str(cell).strip()[:40]}"


def _refuse_cells(path: Path, name: str, cells: Sequence[Any], read: Spelled, kept: np.ndarray) -> None:
    """Raise BadInput at the first of the rows `kept` that is no number."""
    if read.unclear is not None:
        raise BadInput(
            f"{path}: row {read.unclear + 1}, column {name}: {str(cells[read.unclear])!r} may be a decimal comma or "
            "thousands; write it with a point, or without a comma"
        )
    bad = kept[np.isnan(read.values[kept])]
    if not bad.size:
        return
    row = int(bad[0])
    advice = ""
    if read.nothing[row]:
        advice = "; --drop-missing leaves such rows out"
    elif name in COUNTS:
        advice = "; read are 10000000, 1e7, 10,000,000, 10M"
    raise BadInput(f"{path}: row {row + 1}, column {name}: {said(cells[row])}{advice}")


def constant_columns(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` whose values are all the same, so that no law's exponent in them can be told."""
    return tuple(name for name in names if name in columns and np.unique(columns[name]).size <= 1)


def check_values(
    where: str, name: str, values: np.ndarray, signed: bool = False, numbers: np.ndarray | None = None
) -> None:
    """Refuse (BadInput) an infinity anywhere, and zero or less where `name` can only be positive.

    Args:
      signed: take values of either sign, whatever the column usually holds.
      numbers: of the rows, for the message; 1, 2, 3, ... if not given.
    """
    nowhere = np.zeros(values.shape, bool)
    for wrong, what in (
        (~np.isfinite(values), "is not finite; --drop-missing leaves such rows out"),
        ((values <= 0) if name in POSITIVE and not signed else nowhere, "must be positive"),
        ((values < 0) if name in NOT_NEGATIVE else nowhere, "must not be negative"),
    ):
        rows = np.flatnonzero(wrong)
        if rows.size:
            row = int(rows[0] + 1 if numbers is None else numbers[rows[0]])
            advice = "; analysis.fit takes a loss of either sign with --space linear" if name == "loss" else ""
            what += advice if what == "must be positive" else ""
            raise BadInput(f"{where}: row {row}, column {name}: {values[rows[0]]:g} {what}")
    if name == "weight" and not values.any():
        raise BadInput(f"{where}: column weight is zero in every row")
