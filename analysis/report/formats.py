"""Result files as text, the same bytes each time: CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with its header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def json_text(value: Mapping[str, object]) -> str:
    """A JSON object; NaN has no place in it."""
    return json.dumps(value, indent=1, allow_nan=False, default=_number_of) + "\n"


def _number_of(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a result file")
