"""Which settings a sweep varied, and the value of each in every run.

The rule is that of analysis/logs/groups.py: what a law of size and data does not know and what does not follow from the
size. What splits runs into groups there is a setting here.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.logs.groups import SettingsGroup, text_of, trees_of
from analysis.logs.load_run import Run
from analysis.logs.short_names import last_parts
from core.numbers import finite, number

BY_RULE = "by the rule"


@dataclasses.dataclass(frozen=True)
class PlacedRun:
    """A run and its value of every setting that varied, as text by dotted key."""

    run: Run
    values: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting that a sweep varied.

    Attributes:
      key: dotted name of the field.
      values: as text: of numbers the smallest first, otherwise as runs have them.
      numeric: whether every run has a number there.
      short: the fewest last parts of `key` that tell it from the other settings.
    """

    key: str
    values: tuple[str, ...]
    numeric: bool
    short: str


@dataclasses.dataclass(frozen=True)
class Varied:
    """The settings of a sweep, and its runs; a run that lies on two rules (of learning rates, say) comes twice.

    `trees` are specifications by dotted key, by run.
    """

    settings: tuple[Setting, ...]
    placed: tuple[PlacedRun, ...]
    trees: Mapping[str, Mapping[str, Any]]

    def number_of(self, run: Run, key: str) -> float | None:
        """The value in a run's specification where it is a number."""
        return finite(self.trees[run.run].get(key))


def varied(groups: Sequence[SettingsGroup]) -> Varied:
    """The settings by which the runs of a sweep make `groups` (analysis.logs.groups.groups_of)."""
    runs = list({run.run: run for group in groups for run in group.runs}.values())
    trees = trees_of(runs)
    keys = list(dict.fromkeys(key for group in groups for key in group.settings))
    words: dict[str, dict[int, str]] = {key: {} for key in keys}
    for place, group in enumerate(groups):
        for key in keys:
            words[key][place] = group.settings.get(key) or _unsplit(group, key, trees)
    placed = tuple(
        PlacedRun(run, {key: words[key][place] for key in keys})
        for place, group in enumerate(groups)
        for run in group.runs
    )
    shorts = last_parts(keys)
    return Varied(tuple(_setting(key, shorts[key], placed, trees) for key in keys), placed, trees)


def _unsplit(group: SettingsGroup, key: str, trees: Mapping[str, Mapping[str, Any]]) -> str:
    """What a group has where only others were split by `key`."""
    texts = {_written(trees[run.run].get(key)) for run in group.runs}
    return texts.pop() if len(texts) == 1 else BY_RULE


def _written(value: Any) -> str:
    known = finite(value)
    return number(known, 6) if isinstance(value, float) and known is not None else text_of(value) or "none"


def _setting(
    key: str, short: str, placed: Sequence[PlacedRun], trees: Mapping[str, Mapping[str, Any]]
) -> Setting:
    numbers: dict[str, list[float | None]] = {}
    for one in placed:
        numbers.setdefault(one.values[key], []).append(finite(trees[one.run.run].get(key)))
    known = {value: [one for one in found if one is not None] for value, found in numbers.items()}
    numeric = all(len(known[value]) == len(numbers[value]) for value in numbers)
    order = (
        sorted(known, key=lambda value: (sum(known[value]) / len(known[value]), value))
        if numeric
        else list(known)
    )
    return Setting(key, tuple(order), numeric, short)


def columns_of(keys: Iterable[str], runs: Sequence[Run]) -> dict[str, list[str]]:
    """What tables say of each of `runs`: its own values of the fields that varied, by dotted key."""
    trees = trees_of(runs)
    return {key: [text_of(trees[run.run].get(key)) for run in runs] for key in keys}
