"""Tables whose cells are values: JSON lines, JSON arrays and columns, parquet."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import json_lines

Columns = dict[str, list[Any]]


def from_json(path: Path, text: str) -> tuple[Columns, int, int | None]:
    """Columns, rows, and the number of a last line that a write cut short.

    Read are one object a line; an array of objects, or of arrays under a row of names; an object of columns, each an
    array or an object by row, as pandas writes them.

    Raises:
      BadInput: any other JSON.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith("["):
            raise BadInput(f"{path}: not JSON; an array of objects, or one object a line is read") from None
        return _from_lines(path, text)
    if isinstance(whole, dict) and not any(isinstance(value, dict | list) for value in whole.values()):
        return _from_lines(path, json.dumps(whole))
    columns = _from_whole(path, whole)
    return columns, len(next(iter(columns.values()), [])), None


def _from_lines(path: Path, text: str) -> tuple[Columns, int, int | None]:
    lines = list(json_lines(text.split("\n")))
    torn_line = lines.pop().number if lines[-1].error and len(lines) > 1 else None
    rows: list[dict[str, Any]] = []
    for line in lines:
        if not isinstance(line.value, dict):
            what = "JSON" if line.error else "a JSON object"
            raise BadInput(f"{path}: line {line.number} is not {what}; one object a line is read")
        rows.append(line.value)
    return _columns_of(rows), len(rows), torn_line


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _from_whole(path: Path, value: Any) -> Columns:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        names = value.get("columns")
        value = [names, *value["data"]] if isinstance(names, list) else value["data"]  # pandas: split, table
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return _columns_of(value)
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        header, *rows = value
        if all(isinstance(name, str) for name in header) and all(len(row) == len(header) for row in rows):
            return {name: [row[place] for row in rows] for place, name in enumerate(header)}
    if isinstance(value, dict) and value:
        columns = list(value.values())
        if (
            all(isinstance(column, list) for column in columns)
            and len({len(column) for column in columns}) == 1
        ):
            return value
        if all(isinstance(column, dict) for column in columns):
            index = dict.fromkeys(row for column in columns for row in column)
            return {name: [column.get(row) for row in index] for name, column in value.items()}
        nested = [
            entry
            for entry in columns
            if isinstance(entry, list) and all(isinstance(row, dict) for row in entry)
        ]
        if len(nested) == 1 and nested[0]:
            return _columns_of(nested[0])
    raise BadInput(
        f"{path}: no table; JSON is read as an array of objects, one object a line, or an object of columns"
    )


def from_parquet(path: Path, payload: bytes) -> tuple[Columns, int, frozenset[str]]:
    """Columns, rows, and names that appear more than once. A column of a kind that Python has not is left out."""
    # 0.2 s, only for a file of this kind
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(payload))
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path}: damaged parquet file ({' '.join(str(error).split())[:120]})") from None
    columns: Columns = {}
    for place, name in enumerate(table.column_names):
        if name not in columns:
            try:
                columns[name] = table.column(place).to_pylist()
            except (pyarrow.ArrowException, ValueError, OverflowError):
                columns[name] = [None] * table.num_rows
    return columns, table.num_rows, frozenset(n for n in columns if table.column_names.count(n) > 1)
