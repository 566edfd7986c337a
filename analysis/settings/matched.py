"""Runs that are equal in everything but one setting: in size, data size, distinct text and all other settings.

Equal size is the same parameters (within 2%), or the same width and depth where the setting itself changes the count;
equal data size is the same tokens, or the same FLOPs where the runs were planned so. Of these the one that sets most
runs beside each other is taken, and said.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.logs.groups import FREE, OF_SIZE, SAME_SIZE
from analysis.logs.load_run import Run, at, number
from analysis.settings.varied import PlacedRun, Setting, Varied

SAME_FLOPS = 1.05
FEWEST_TOGETHER = 2
MOST_APART = 1.05  # numbers that follow from rounding to whole batches are no settings

# What may be equal: words, and the two keys of a run.
EQUAL = (
    ("parameters and tokens", "params", "tokens"),
    ("width, depth and tokens", "shape", "tokens"),
    ("width, depth and training FLOPs", "shape", "flops"),
    ("parameters and training FLOPs", "params", "flops"),
)
AXES = FREE & {"data.unique_tokens"}


@dataclasses.dataclass(frozen=True)
class MatchedRuns:
    """Runs that differ in one setting.

    Attributes:
      params, tokens, flops: geometric means over its runs.
      rest: the values of the other settings, by dotted key.
      losses: nats per token (or bits per byte) by value and seed; means over runs of one seed.
      x: the setting as a number, by value; empty where it is none.
      runs: names by value.
    """

    params: float
    tokens: float
    flops: float
    rest: Mapping[str, str]
    losses: Mapping[str, Mapping[int, float]]
    x: Mapping[str, float]
    runs: Mapping[str, tuple[str, ...]]

    def mean(self, value: str) -> float:
        """Geometric mean loss over seeds."""
        return float(np.exp(np.mean(np.log(list(self.losses[value].values())))))

    @property
    def best(self) -> str:
        """The value of the lowest mean loss."""
        return min(self.losses, key=self.mean)

    def only(self, values: Sequence[str]) -> "MatchedRuns":
        """Of these values."""
        return dataclasses.replace(self, losses={value: self.losses[value] for value in values})


@dataclasses.dataclass(frozen=True)
class Matching:
    """What can be compared.

    Attributes:
      cells: by size and data size; each has all `values`.
      values: of the setting, in its order; values that share no size with the others are in `apart`.
      equal: what runs of a cell share, in words.
      tuned: settings at whose best value each value is taken ("each at its best learning rate").
      spread: by how much parameters or FLOPs of matched runs differ at most, 0.3 for 30%; what differs, in words.
      along: fields that vary with the setting.
    """

    cells: tuple[MatchedRuns, ...]
    values: tuple[str, ...]
    apart: tuple[str, ...]
    equal: str
    tuned: tuple[str, ...] = ()
    spread: tuple[tuple[str, float], ...] = ()
    along: tuple[str, ...] = ()


def matching_of(settings: Varied, setting: Setting, loss: Callable[[Run], float | None]) -> Matching:
    """The cells in which runs differ in `setting` alone.

    A category is compared at the best value of numbers that were varied with it, as optimizers are at their best
    learning rates; a number at each value of the other settings.
    """
    placed = [one for one in settings.placed if loss(one.run) is not None]
    others = [one for one in settings.settings if one.key != setting.key]
    tuned = [] if setting.numeric else [one.key for one in others if one.numeric]
    found = _best_matching(settings, setting, placed, [one.key for one in others], tuned, loss)
    if found.apart and others and not tuned and all(one.numeric for one in others):
        again = _best_matching(settings, setting, placed, [], [one.key for one in others], loss)
        if len(again.apart) < len(found.apart):
            return again
    return found


def _best_matching(
    settings: Varied,
    setting: Setting,
    placed: Sequence[PlacedRun],
    others: Sequence[str],
    tuned: Sequence[str],
    loss: Callable[[Run], float | None],
) -> Matching:
    ways = [_matching(settings, setting, placed, others, tuned, loss, way) for way in EQUAL]
    return max(ways, key=lambda one: _together(one.cells) * len(one.values))


def _together(cells: Sequence[MatchedRuns]) -> int:
    return sum(len(one.losses) for one in cells)


def _matching(
    settings: Varied,
    setting: Setting,
    placed: Sequence[PlacedRun],
    others: Sequence[str],
    tuned: Sequence[str],
    loss: Callable[[Run], float | None],
    way: tuple[str, str, str],
) -> Matching:
    words, by_size, by_data = way
    sizes, data = _key_of(placed, by_size), _key_of(placed, by_data)
    cells: dict[tuple, dict[str, list[PlacedRun]]] = {}
    for one in placed:
        rest = tuple((key, one.values[key]) for key in others if key not in tuned)
        axes = tuple(str(settings.trees[one.run.run].get(key)) for key in sorted(AXES))
        key = (sizes[one.run.run], data[one.run.run], axes, rest)
        cells.setdefault(key, {}).setdefault(one.values[setting.key], []).append(one)
    chosen = [
        {value: _at_best(runs, tuned, loss) for value, runs in _of_one_value(by_value).items()}
        for by_value in cells.values()
    ]
    values = _shared_values(chosen, setting.values)
    kept = [
        {value: cell[value] for value in values} for cell in chosen if values and set(values) <= cell.keys()
    ]
    made = [_cell(settings, setting, cell, others, tuned, loss) for cell in kept]
    made.sort(key=lambda one: (one.params, one.tokens, sorted(one.rest.items())))
    return Matching(
        cells=tuple(made),
        values=values,
        apart=tuple(value for value in setting.values if value not in values),
        equal=words,
        tuned=tuple(tuned),
        spread=_spread(kept),
        along=_along(settings, setting, kept, [*others, *tuned]),
    )


def _key_of(placed: Sequence[PlacedRun], what: str) -> dict[str, object]:
    """What runs that count as equal share, by run."""
    runs = {one.run.run: one.run for one in placed}
    if what == "shape":
        return {
            name: tuple(number(at(run.spec, "model", key)) for key in ("width", "depth"))
            for name, run in runs.items()
        }
    read: dict[str, Callable[[Run], float | None]] = {
        "params": lambda run: run.count(),
        "tokens": lambda run: run.tokens,
        "flops": lambda run: run.flops(),
    }
    within = SAME_FLOPS if what == "flops" else SAME_SIZE
    found: dict[str, object] = {}
    start, place = 0.0, -1
    for name, value in sorted(
        ((name, read[what](run) or 0.0) for name, run in runs.items()), key=lambda one: one[1]
    ):
        if place < 0 or value > start * within:
            start, place = value, place + 1
        found[name] = place
    return found


def _of_one_value(by_value: Mapping[str, Sequence[PlacedRun]]) -> dict[str, list[PlacedRun]]:
    """Without runs that lie on two rules: they would be compared with themselves."""
    values: dict[str, set[str]] = {}
    for value, members in by_value.items():
        for one in members:
            values.setdefault(one.run.run, set()).add(value)
    found = {
        value: [one for one in members if len(values[one.run.run]) == 1] for value, members in by_value.items()
    }
    return {value: members for value, members in found.items() if members}


def _at_best(
    runs: Sequence[PlacedRun], tuned: Sequence[str], loss: Callable[[Run], float | None]
) -> list[PlacedRun]:
    """Those at the values of the `tuned` settings that have the lowest mean loss."""
    if not tuned:
        return list(runs)
    by_rest: dict[tuple[str, ...], list[PlacedRun]] = {}
    for one in runs:
        by_rest.setdefault(tuple(one.values[key] for key in tuned), []).append(one)
    # Of all repeats: one lucky seed of a value that has no others is no better value.
    most = max(len(members) for members in by_rest.values())
    full = [members for members in by_rest.values() if len(members) == most]
    return min(full, key=lambda members: float(np.mean([math.log(loss(one.run) or 1.0) for one in members])))


def _shared_values(cells: Sequence[Mapping[str, object]], order: Sequence[str]) -> tuple[str, ...]:
    """The values that most cells have together: many cells with few values count like few with many."""
    sets = {frozenset(cell) for cell in cells if len(cell) >= FEWEST_TOGETHER}
    sets |= {
        one & other
        for one, other in itertools.combinations(sorted(sets, key=sorted)[:60], 2)
        if len(one & other) > 1
    }
    if not sets:
        return ()

    def weight(chosen: frozenset[str]) -> tuple[int, int, list[int]]:
        count = sum(chosen <= cell.keys() for cell in cells)
        return (
            (len(chosen) - 1) * count,
            len(chosen),
            [-order.index(value) for value in sorted(chosen, key=order.index)],
        )

    best = max(sets, key=weight)
    return tuple(value for value in order if value in best)


def _cell(
    settings: Varied,
    setting: Setting,
    cell: Mapping[str, Sequence[PlacedRun]],
    others: Sequence[str],
    tuned: Sequence[str],
    loss: Callable[[Run], float | None],
) -> MatchedRuns:
    every = [one for members in cell.values() for one in members]

    def middle(read: Callable[[Run], float | None]) -> float:
        return float(np.exp(np.mean([math.log(read(one.run) or 1.0) for one in every])))

    losses: dict[str, dict[int, float]] = {}
    for value, members in cell.items():
        by_seed: dict[int, list[float]] = {}
        for one in members:
            by_seed.setdefault(int(number(one.run.spec.get("seed")) or 0), []).append(
                math.log(loss(one.run) or 1.0)
            )
        losses[value] = {seed: float(np.exp(np.mean(logs))) for seed, logs in sorted(by_seed.items())}
    x = {}
    if setting.numeric:
        for value, members in cell.items():
            x[value] = float(np.mean([settings.number_of(one.run, setting.key) or 0.0 for one in members]))
    return MatchedRuns(
        params=middle(lambda run: run.count()),
        tokens=middle(lambda run: run.tokens),
        flops=middle(lambda run: run.flops()),
        rest={key: every[0].values[key] for key in others if key not in tuned},
        losses=losses,
        x=x,
        runs={value: tuple(one.run.run for one in members) for value, members in cell.items()},
    )


def _spread(cells: Sequence[Mapping[str, Sequence[PlacedRun]]]) -> tuple[tuple[str, float], ...]:
    """By how much parameters, tokens and FLOPs differ within a cell, where by more than counts as equal."""
    found = []
    for words, read, within in (
        ("parameters", lambda run: run.count(), SAME_SIZE),
        ("tokens", lambda run: run.tokens, SAME_SIZE),
        ("training FLOPs", lambda run: run.flops(), SAME_FLOPS),
    ):
        ratios = []
        for cell in cells:
            values = [value for members in cell.values() for one in members if (value := read(one.run))]
            ratios += [max(values) / min(values)] if values else []
        if ratios and max(ratios) > within:
            found.append((words, max(ratios) - 1))
    return tuple(found)


def _along(
    settings: Varied,
    setting: Setting,
    cells: Sequence[Mapping[str, Sequence[PlacedRun]]],
    others: Sequence[str],
) -> tuple[str, ...]:
    """Fields that differ where the setting does, and only there."""
    known = {setting.key, *others, *FREE}
    keys = dict.fromkeys(key for tree in settings.trees.values() for key in tree if key not in known)
    found = []
    for key in keys:
        if key in OF_SIZE and setting.key not in OF_SIZE:
            continue
        differs, alone = False, True
        for cell in cells:
            texts = {
                value: {_rough(settings.trees[one.run.run].get(key)) for one in members}
                for value, members in cell.items()
            }
            alone = alone and all(len(own) == 1 for own in texts.values())
            differs = differs or _apart(set().union(*texts.values()))
        if differs and alone:
            found.append(key)
    return tuple(found)


def _rough(value: object) -> object:
    return str(value) if isinstance(value, list | dict) else value


def _apart(values: set[object]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or not numbers:
        return len(values) > 1
    return max(numbers) > min(numbers) * MOST_APART
