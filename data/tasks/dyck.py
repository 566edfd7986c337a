"""Dyck-k: close all open brackets in the right order (Srivastava et al. 2022, arXiv 2206.04615, task
dyck_languages)."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob

BRACKETS = ("()", "[]", "{}", "<>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dyck(Task):
    """`dyck ([]{()<}[` then `]>)`: `depth` brackets of `kinds` kinds stay open, closed pairs lie between them."""

    kinds: int = knob(3, 1, len(BRACKETS))
    depth: int = knob(4, 1, 24)
    length: int = knob(16, 2, 100)
    family: ClassVar[str] = "dyck"

    @property
    def guess(self) -> float:
        """Each closing bracket guessed among the kinds."""
        return float(self.kinds) ** -self.depth

    def draw(self, chance: random.Random) -> Item:
        # Open and closed pairs are spread over the word: at each place either an open bracket that stays, or a pair.
        stay = [chance.choice(BRACKETS[: self.kinds]) for _ in range(self.depth)]
        pairs = max(0, self.length - self.depth) // 2
        places = [True] * self.depth + [False] * pairs
        chance.shuffle(places)
        opened = iter(stay)
        word = "".join(next(opened)[0] if place else chance.choice(BRACKETS[: self.kinds]) for place in places)
        closing = [pair[1] for pair in reversed(stay)]
        return Item(f"dyck {word} ", "".join(closing) + "\n", self._wrong(closing, chance))

    def _wrong(self, closing: list[str], chance: random.Random) -> tuple[str, ...]:
        """One bracket of the answer replaced by another kind."""
        found: list[str] = []
        kinds = [pair[1] for pair in BRACKETS[: self.kinds]]
        for _ in range(60):
            place = chance.randrange(len(closing))
            others = [kind for kind in kinds if kind != closing[place]]
            if not others:
                return (
                    ("".join(closing[:-1]) or closing[0] * 2) + "\n",
                    "".join(closing) + closing[-1] + "\n",
                )[:1]
            slip = "".join([*closing[:place], chance.choice(others), *closing[place + 1 :]]) + "\n"
            if slip not in found:
                found.append(slip)
            if len(found) == 3:
                break
        return tuple(found)
