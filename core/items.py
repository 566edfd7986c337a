"""task_items.jsonl: what every item of a task scored, so that two runs can be compared item by item.

An item is a problem of a task, a document of lm-evaluation-harness, or a sequence of held-out text.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from core.numbers import finite

KEYS = ("task", "fingerprint", "tokens", "attempt")


@dataclasses.dataclass(frozen=True)
class ItemColumns:
    """One row: all items of a task at one token count.

    Attributes:
      task: its name; `core.records.HELD_OUT_TEXT` for held-out text.
      fingerprint: SHA-256 over the items; runs are compared item by item only where it is the same.
      columns: by metric one number an item, None where an item has no such score.
    """

    task: str
    fingerprint: str
    columns: Mapping[str, list[float | None]]

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(next(iter(self.columns.values()), []))


def items_at(rows: Iterable[Mapping[str, Any]], tokens: object) -> dict[str, ItemColumns]:
    """The items that were scored last at a token count, by task. Rows that hold something else are left out."""
    found: dict[str, ItemColumns] = {}
    for row in rows:
        task, fingerprint = row.get("task"), row.get("fingerprint")
        lists = {key: value for key, value in row.items() if key not in KEYS and isinstance(value, list)}
        lengths = {len(value) for value in lists.values()}
        if row.get("tokens") != tokens or not isinstance(task, str) or not isinstance(fingerprint, str):
            continue
        if len(lengths) == 1 and lengths != {0}:
            columns = {key: [finite(value) for value in own] for key, own in lists.items()}
            found[task] = ItemColumns(task, fingerprint, columns)
    return found
