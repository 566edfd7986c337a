"""Anything that a fit takes as a table: a file of numbers, or the directory of a sweep."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.logs.load import load_sweep
from analysis.logs.table import OPTIONAL, REQUIRED, Reading, Table, table_of_file
from core.errors import BadInput


def read_table(
    path: str | os.PathLike,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    rename: Mapping[str, str] | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Table:
    """Read a table and refuse whatever a fit could not stand on.

    Args:
      path: a file with a header (CSV or another separator), of JSON or parquet (either may be gzipped), or a sweep's
        directory.
      required: columns that must be there, at least two rows of them.
      optional: columns that are taken where they are there.
      rename: name in the file -> name here, e.g. {"val_loss": "loss"}; added to those of `reading`.
      reading: what else is done with a file's rows and columns.

    Raises:
      BadInput: nothing readable there, a missing column, a cell that is no finite number, or a value that is
        not positive where only a positive one has a meaning. The message names row (from 1, header not
        counted), column and value.
    """
    path = Path(path)
    renamed = {**reading.rename, **{name: header for header, name in (rename or {}).items()}}
    if not path.is_dir():
        return table_of_file(path, required, optional, dataclasses.replace(reading, rename=renamed))
    if reading.best_of:
        raise BadInput(f"{path}: --best-of is for tables; the report of a sweep keeps its settings apart")
    return load_sweep(path).table(required, optional, rename=renamed)
