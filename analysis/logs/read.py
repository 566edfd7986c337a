"""Anything that a fit takes as a table: a file of numbers, or the directory of a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.logs.load import load_sweep
from analysis.logs.table import OPTIONAL, REQUIRED, Table, table_of_file
from core.errors import BadInput


def read_table(
    path: str | os.PathLike,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    rename: Mapping[str, str] | None = None,
) -> Table:
    """Read a table and refuse whatever a fit could not stand on.

    Args:
      path: a .csv or .tsv file with a header, a JSON-lines file (either may be gzipped), or a sweep's directory.
      required: columns that must be there, at least two rows of them.
      optional: columns that are taken where they are there.
      rename: name in the file -> name here, e.g. {"val_loss": "loss"}.

    Raises:
      BadInput: nothing readable there, a missing column, a cell that is no finite number, or a value that is
        not positive where only a positive one has a meaning. The message names row (from 1, header not
        counted), column and value.
    """
    path = Path(path)
    if not path.is_dir():
        return table_of_file(path, required, optional, rename)
    if rename:
        raise BadInput(f"{path}: columns of a sweep cannot be renamed")
    return load_sweep(path).table(required, optional)
