"""What a report reads of a table of one's own."""

import dataclasses
from pathlib import Path

from analysis.fit.checks import with_derived
from analysis.logs.cells import advice
from analysis.logs.read import read_table
from analysis.logs.table import OPTIONAL, Table, TableReading
from core.errors import BadInput

NEEDED = ("params", "tokens")
OTHERS = ("params_total", "params_non_embedding")


def columns_of_report(path: Path, reading: TableReading) -> Table:
    """The table with params, tokens and loss; D = FLOPs / 6N where tokens are missing.

    Raises:
      BadInput: it cannot be read, or one of them is missing.
    """
    optional = (*NEEDED, *OPTIONAL, *OTHERS)
    asked = dataclasses.replace(reading, spare=frozenset(optional) - {*NEEDED, "weight", *reading.best_of})
    table = read_table(path, ("loss",), optional, reading=asked)
    columns, derived = with_derived(NEEDED, table.columns)
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        flops = "flops" in columns and len(missing) == len(NEEDED)
        alone = (
            "; of FLOPs alone python -m analysis.fit TABLE --law power_flops_floor fits a law" if flops else ""
        )
        raise BadInput(
            f"{path}: a report needs the column {', '.join(missing)}; it has {', '.join(table.header)}"
            f"{alone or advice(missing, table.header)}"
        )
    return dataclasses.replace(table, columns=columns, warnings=(*table.warnings, *derived))
