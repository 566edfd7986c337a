"""Result files as text, the same bytes each time: CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with its header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def json_text(value: Mapping[str, object]) -> str:
    """A JSON object."""
    return json.dumps(_known(value), indent=1, allow_nan=False, default=_number_of) + "\n"


def _known(value: Any) -> Any:
    """A number that is not known is null: JSON has no other word for it."""
    if isinstance(value, Mapping):
        return {key: _known(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_known(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number_of(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a result file")
