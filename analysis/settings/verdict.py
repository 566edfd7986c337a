"""What the losses of a setting's values come to, in words: which value is best, by how much, and where.

A value is called best where its interval against the next one excludes zero. The best depends on the size where two
cells prefer different values and both are told apart there (intervals for all cells at once, by Bonferroni).
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from analysis.logs.short_names import short_values
from analysis.settings.effects import LEVEL, POOLED, Difference, Effects
from analysis.settings.matched import MatchedRuns, Matching
from analysis.settings.varied import Setting
from core.numbers import percent, short_count

ONE_SEED = "every run has one seed, so no interval can be given"
COUNTED = ("no", "one", "both", "all three", "all four", "all five")
MOST_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What to say.

    Attributes:
      best: the value of the lowest mean loss over all cells. next: the one after it.
      kind: best, depends, equal, or single where no seed was repeated; partly where the best is not told from the next.
      sentence: the answer, one sentence.
      warnings: what a careful reader must know.
    """

    best: str
    next: str
    kind: str
    sentence: str
    warnings: tuple[str, ...]


def verdict_of(setting: Setting, matching: Matching, effects: Effects, metric: str) -> Verdict:
    """Of a setting with at least two values in at least one cell."""
    order = sorted(effects.values, key=lambda value: effects.mean_V[effects.values.index(value)])
    best, second = order[0], order[1]
    lowest = [effects.values[place] for place in effects.means_CV.argmin(axis=1)]
    shown = dict(zip(setting.values, short_values(setting.values), strict=True))
    say = _Words(setting, matching, effects, shown, lowest)
    reversal = None if effects.pooling is None else _reversal(effects, lowest)
    if effects.pooling is None:
        kind, sentence = "single", say.single(best, second, metric)
    elif reversal is not None:
        kind, sentence = "depends", say.depends(*reversal)
    elif effects.difference(best, second).told:
        kind, sentence = "best", say.clearly(best, second)
    elif any(effects.difference(best, other).told for other in order[1:]):
        kind, sentence = "partly", say.partly(order)
    else:
        kind, sentence = "equal", say.equal(order)
    warnings = [] if kind == "equal" else _at_an_edge(setting, effects, lowest, shown)
    warnings += _unequal(setting, matching)
    return Verdict(best, second, kind, sentence, tuple(warnings))


@dataclasses.dataclass(frozen=True)
class _Words:
    """The sentences about one setting."""

    setting: Setting
    matching: Matching
    effects: Effects
    shown: dict[str, str]
    lowest: Sequence[str]

    def clearly(self, best: str, second: str) -> str:
        gains = _gained(self.effects.difference(best, second))
        others = len(self.effects.values) - 2
        worst = max(
            self.effects.values, key=lambda value: self.effects.mean_V[self.effects.values.index(value)]
        )
        more = (
            f" and {_gained(self.effects.difference(best, worst))} over {self.shown[worst]}, the worst"
            if others
            else ""
        )
        return (
            f"{self.named(best)} is best {self.where(best)}: it gains {gains} over {self.shown[second]}"
            f"{', the next best,' if others else ''}{more} ({LEVEL:.0%} {'intervals' if others else 'interval'}"
            f"{self.averaged()})."
        )

    def partly(self, order: Sequence[str]) -> str:
        best = order[0]
        differences = {value: self.effects.difference(best, value) for value in order[1:]}
        near = [value for value in order[1:] if not differences[value].told]
        far = [value for value in order[1:] if differences[value].told]
        most = max(_most(differences[value]) for value in near)
        told = ", ".join(
            f"{_gained(differences[value])} over {self.shown[value]}" for value in far[:MOST_NAMED]
        )
        return (
            f"{self.named(best)} has the lowest loss {self.where(best)}, and {self.listed(near)} "
            f"{'is' if len(near) == 1 else 'are'} not told apart from it (at most {percent(most)} apart); it gains "
            f"{told} ({LEVEL:.0%} intervals{self.averaged()})."
        )

    def equal(self, order: Sequence[str]) -> str:
        pairs = [self.effects.difference(one, other) for one, other in itertools.combinations(order, 2)]
        most = max(map(_most, pairs))
        return (
            f"No difference in loss is seen between {self.setting.key} {self.listed(order, most=6)} "
            f"{self.everywhere()}: at most {percent(most)} ({LEVEL:.0%} interval{self.averaged()})."
        )

    def depends(self, one: tuple[int, Difference], other: tuple[int, Difference]) -> str:
        parts = []
        for (cell, difference), rival in ((one, other), (other, one)):
            best, loser = self.lowest[cell], self.lowest[rival[0]]
            parts.append(
                f"{self.shown[best]} {self.at(cell)} (it gains {_gained(difference)} over {self.shown[loser]})"
            )
        return f"The best {self.setting.key} depends on {self.axis(one[0], other[0])}: {' and '.join(parts)}."

    def single(self, best: str, second: str, metric: str) -> str:
        shares = [
            -math.expm1(means[self.effects.values.index(best)] - means[self.effects.values.index(second)])
            for means in self.effects.means_CV
        ]
        low, high = min(shares), max(shares)
        by = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}, by size,"
        return (
            f"{self.named(best)} has the lowest {metric} {self.where(best)}, {by} below {self.shown[second]}"
            f"{', the next' if len(self.effects.values) > 2 else ''}; {ONE_SEED}."
        )

    def named(self, value: str) -> str:
        return f"{self.setting.key} {self.shown[value]}"

    def listed(self, values: Sequence[str], most: int = MOST_NAMED) -> str:
        names = [self.shown[value] for value in values[:most]]
        if len(values) > most:
            return f"{', '.join(names)} and {len(values) - most} more"
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

    def where(self, best: str) -> str:
        """At how many of the cells a value has the lowest mean."""
        hits, cells = sum(value == best for value in self.lowest), len(self.lowest)
        if cells == 1:
            return self.at(0)
        if hits == cells:
            return f"at {COUNTED[cells] if cells < len(COUNTED) else f'all {cells}'} {self.kinds()}"
        return f"on average over {cells} {self.kinds()} (at {hits} of them by itself)"

    def everywhere(self) -> str:
        cells = len(self.lowest)
        return self.at(0) if cells == 1 else f"over {cells} {self.kinds()}"

    def averaged(self) -> str:
        return ", mean over them" if len(self.lowest) > 1 else ""

    def kinds(self) -> str:
        return kinds_of(self.matching.cells)

    def at(self, cell: int) -> str:
        return f"at {cell_label(self.matching.cells, cell)}"

    def axis(self, one: int, other: int) -> str:
        """What differs between two cells."""
        first, second = self.matching.cells[one], self.matching.cells[other]
        rest = [key for key in first.rest if first.rest[key] != second.rest.get(key)]
        size = [] if _about(first.params, second.params) else ["size"]
        data = [] if _about(first.tokens, second.tokens) else ["data size"]
        return " and ".join([*size, *data, *rest]) or "the size"


def kinds_of(cells: Sequence[MatchedRuns]) -> str:
    """What cells are, in the plural."""
    if any(cell.rest != cells[0].rest for cell in cells):
        return "places"
    sizes = any(not _about(cell.params, cells[0].params) for cell in cells)
    data = any(not _about(cell.tokens, cells[0].tokens) for cell in cells)
    if sizes and data:
        return (
            "pairs of size and data size"
            if len({round(cell.params) for cell in cells}) < len(cells)
            else "sizes"
        )
    return "data sizes" if data else "sizes"


def cell_label(cells: Sequence[MatchedRuns], place: int) -> str:
    """What tells a cell from the others: parameters, tokens where these differ, and other settings."""
    cell = cells[place]
    parts = [f"{short_count(cell.params)} parameters"]
    if len(cells) == 1 or any(not _about(cell.tokens, one.tokens) for one in cells):
        parts.append(f"{short_count(cell.tokens)} tokens")
    parts += [
        f"{key.rpartition('.')[2]} {value}"
        for key, value in cell.rest.items()
        if any(one.rest.get(key) != value for one in cells)
    ]
    return ", ".join(parts)


def noise_words(effects: Effects) -> str:
    """Where intervals come from."""
    fewest, most = effects.seeds
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    if effects.pooling is None:
        return f"No interval is given: {ONE_SEED}. More seeds would give one."
    found = effects.deviation()
    about = "" if found is None else f" ({percent(found[0])} of the loss, {found[1]:.0f} degrees of freedom)"
    how = (
        "Differences are taken between runs of one seed, which start alike and read the same text in the same order."
        if effects.paired
        else "Seeds are not shared between values, so runs are not paired."
    )
    many = (
        " They hold for all pairs of values at once (Tukey's range), since the best is chosen after looking."
        if len(effects.values) > 2
        else ""
    )
    pooled = POOLED[effects.pooling]
    few = f" Noise is {pooled}{', since seeds are few' if effects.pooling else ''}{about}."
    return f"{how} Intervals are Student's at {LEVEL:.0%} from {seeds} seeds a value and size.{many}{few}"


def _reversal(
    effects: Effects, lowest: Sequence[str]
) -> tuple[tuple[int, Difference], tuple[int, Difference]] | None:
    """The two cells that prefer different values most clearly, each with its difference; None where no two do."""
    level = 1 - (1 - LEVEL) / max(1, len(lowest))
    found = []
    for one, other in itertools.combinations(range(len(lowest)), 2):
        if lowest[one] == lowest[other]:
            continue
        first = effects.difference(lowest[one], lowest[other], [one], level)
        second = effects.difference(lowest[other], lowest[one], [other], level)
        if first.told and second.told:
            found.append((max(first.mean, second.mean), (one, first), (other, second)))
    if not found:
        return None
    return min(found, key=lambda pair: pair[0])[1:]


def _at_an_edge(setting: Setting, effects: Effects, lowest: Sequence[str], shown: dict[str, str]) -> list[str]:
    """That the grid of a number does not hold its best."""
    if not setting.numeric:
        return []
    found = []
    for value, which in ((effects.values[0], "smallest"), (effects.values[-1], "largest")):
        hits = sum(one == value for one in lowest)
        if hits:
            where = (
                ""
                if hits == len(lowest)
                else f" at {hits} of {len(lowest)} {'cells' if len(lowest) > 1 else ''}"
            )
            found.append(
                f"the best {setting.key}{where.rstrip()} is {shown[value]}, the {which} value that was tried: the grid "
                "does not hold the best"
            )
    return found


def _unequal(setting: Setting, matching: Matching) -> list[str]:
    """That values are not compared at equal cost."""
    if not matching.spread:
        return []
    said = " and ".join(f"{words} by up to {percent(share)}" for words, share in matching.spread)
    return [
        f"values of {setting.key} are compared at equal {matching.equal}, and differ in {said}: part of the difference "
        "in loss is theirs"
    ]


def _gained(difference: Difference) -> str:
    low, high = difference.gain or (math.nan, math.nan)
    return f"{percent(low)} to {percent(high)}"


def _most(difference: Difference) -> float:
    low, high = difference.interval or (math.nan, math.nan)
    return max(math.expm1(abs(low)), math.expm1(abs(high)))


def _about(one: float, other: float) -> bool:
    return abs(math.log(one / other)) < 0.02
