"""Anything that a fit takes as a table: a file of numbers, or the directory of a sweep."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.table import OPTIONAL, REQUIRED, Table, TableReading, table_of_file
from core.errors import BadInput

FEWEST_FRESH = 5  # rows below which leaving out repeated text leaves nothing to look at


Source = str | os.PathLike | SweepLogs  # of a table; runs that are read already are not read again


def source_of(path: str | os.PathLike) -> Source:
    """What `settings_of` and `read_table` take, where both are called: of a sweep's directory its logs, read once.

    Raises:
      BadInput: a directory that is no sweep.
    """
    return load_sweep(path) if os.path.isdir(path) else path


def read_table(
    path: Source,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    rename: Mapping[str, str] | None = None,
    reading: TableReading = TableReading(),  # noqa: B008 (frozen)
    group: int = 0,
) -> Table:
    """Read a table and refuse whatever a fit could not stand on.

    Args:
      path: a file with a header (CSV or another separator), of JSON or parquet (either may be gzipped), or a sweep's
        directory or logs.
      required: columns that must be there, at least two rows of them.
      optional: columns that are taken where they are there.
      rename: name in the file -> name here, e.g. {"val_loss": "loss"}; added to those of `reading`.
      reading: what else is done with a file's rows and columns.
      group: of a sweep, which of its groups of equal settings (`settings_of`); no law may take several.

    Raises:
      BadInput: nothing readable there, a missing column, a cell that is no finite number, or a value that is
        not positive where only a positive one has a meaning. The message names row (from 1, header not
        counted), column and value.
    """
    renamed = {**reading.rename, **{name: header for header, name in (rename or {}).items()}}
    if not isinstance(path, SweepLogs) and not os.path.isdir(path):
        return table_of_file(Path(path), required, optional, dataclasses.replace(reading, rename=renamed))
    if reading.best_of:
        where = path.path if isinstance(path, SweepLogs) else path
        raise BadInput(f"{where}: --best-of is for tables; runs of a sweep are split by their settings")
    sweep = path if isinstance(path, SweepLogs) else load_sweep(path)
    return sweep.table(required, optional, group=group, rename=renamed)


def settings_of(path: Source) -> list[str]:
    """Labels of the groups of equal settings that a sweep's runs make, the largest first; [""] of a file or one group.

    Raises:
      BadInput: a directory that is no sweep.
    """
    source = path if isinstance(path, SweepLogs) else source_of(path)
    if not isinstance(source, SweepLogs):
        return [""]
    groups = source.groups
    return [group.label for group in groups] if len(groups) > 1 else [""]


def fresh_rows(table: Table) -> Table:
    """The rows that read no token twice, for a law of fresh text; with a warning where there are others.

    Where too few are left, all stay, and the warning says that.
    """
    if "unique_tokens" not in table.columns or "tokens" not in table.columns:
        return table
    fresh = table.columns["unique_tokens"] >= table.columns["tokens"]
    if fresh.all():
        return table
    epochs = float((table.columns["tokens"] / table.columns["unique_tokens"]).max())
    said = (
        f"{int((~fresh).sum())} of {table.rows} rows read their text more than once, up to {epochs:.3g} times"
    )
    if fresh.sum() < FEWEST_FRESH:
        said += f": taken all the same, since only {int(fresh.sum())} rows are left without them; no law of fresh text"
        return dataclasses.replace(table, warnings=(said, *table.warnings))
    said += ": left out, since a law of fresh text takes at most one epoch"
    return dataclasses.replace(table.only(fresh), warnings=(said, *table.warnings))
