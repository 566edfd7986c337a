"""A user's own task: a file of JSON lines, each {"prompt": text, "target": text, "choices": [text, ...]}.

`choices` may be left out; where it is there it holds the target, and the others are the wrong answers.
"""

import dataclasses
import functools
import io
import random
from pathlib import Path
from typing import ClassVar

from core.errors import BadInput
from core.files import JsonLine, json_lines
from core.paths import expanded, read_regular
from data.tasks.protocol import Item, Task, check_texts

MOST_BYTES = 2**30
KEYS = ("prompt", "target", "choices")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserTask(Task):
    """The problems of one file, in its order; all of them are held out.

    Attributes:
      path: the file of JSON lines.
    """

    path: str = ""
    family: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        self._rows  # noqa: B018  read now: a malformed file is refused before anything is trained

    @property
    def name(self) -> str:
        return f"file:{self.path}"

    @functools.cached_property
    def _rows(self) -> tuple[Item, ...]:
        return tuple(read_items(expanded(self.path, f"task {self.name}")))

    @property
    def guess(self) -> float:
        """One in the number of choices, on average; 0 where a problem has none."""
        return sum(1 / (1 + len(row.distractors)) for row in self._rows if row.distractors) / len(self._rows)

    def draw(self, chance: random.Random) -> Item:
        return chance.choice(self._rows)

    def items(self, count: int, seed: int = 0) -> list[Item]:
        """The first `count` problems of the file, or all of them where it has fewer."""
        if count < 1:
            raise BadInput(f"task {self.name}: {count} items: must be at least 1")
        return list(self._rows[:count])


def read_items(path: Path) -> list[Item]:
    """The problems of a file of JSON lines.

    Raises:
      BadInput: the file is missing or empty, or a line is no problem; the message names the line.
    """
    try:
        # Lines end at newlines only: texts may hold the other separators of Unicode.
        lines = io.BytesIO(read_regular(path, MOST_BYTES))
    except OSError as error:
        raise BadInput(f"task file:{path}: {error.strerror}; must be a file of JSON lines") from None
    items = [_item(line, f"task file:{path} line {line.number}") for line in json_lines(lines)]
    if not items:
        raise BadInput(
            f"task file:{path}: holds no problem; one JSON object a line with keys {', '.join(KEYS)}"
        )
    return items


def _item(line: JsonLine, where: str) -> Item:
    row = line.value
    if line.error:
        raise BadInput(f"{where}: not JSON ({line.error})")
    if not isinstance(row, dict):
        raise BadInput(f"{where}: must be an object with keys {', '.join(KEYS)}")
    for key in row:
        if key not in KEYS:
            raise BadInput(f"{where}: unknown key {key!r}: allowed are {', '.join(KEYS)}")
    for key in ("prompt", "target"):
        if not isinstance(row.get(key), str):
            raise BadInput(f"{where}: {key}={row.get(key)!r}: must be text")
    if not row["target"]:
        raise BadInput(f"{where}: target='': must not be empty")
    choices = row.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
        raise BadInput(f"{where}: choices={choices!r}: must be a list of texts, none of them empty")
    if choices and row["target"] not in choices:
        raise BadInput(f"{where}: choices={choices!r}: must hold the target {row['target']!r}")
    if len(set(choices)) != len(choices):
        raise BadInput(f"{where}: choices={choices!r}: must differ from one another")
    item = Item(row["prompt"], row["target"], tuple(choice for choice in choices if choice != row["target"]))
    check_texts(item, where)
    return item
