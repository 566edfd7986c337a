"""Few-shot mapping: the rule is nowhere but in the examples of the prompt (Brown et al. 2020, arXiv 2005.14165,
for the setting; Garg et al. 2022, arXiv 2208.01066, for functions learned in context)."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import MAXIMUM_SHOTS, Item, Task, knob

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mapping(Task):
    """`map c>f,x>a,k>n`: each letter moves on by the same hidden number of places; `shots` examples show which.

    With 0 shots the shift cannot be known.
    """

    shots: int = knob(3, 0, MAXIMUM_SHOTS)
    shifts: int = knob(25, 1, 25)
    family: ClassVar[str] = "mapping"

    @property
    def guess(self) -> float:
        """One shift of `shifts`."""
        return 1.0 / self.shifts

    def with_shots(self, item: Item, chance: random.Random) -> Item:
        """The examples are part of the problem."""
        return item

    def draw(self, chance: random.Random) -> Item:
        shift = chance.randrange(1, self.shifts + 1)

        def moved(letter: str, by: int) -> str:
            return ALPHABET[(ALPHABET.index(letter) + by) % 26]

        *shown, asked = chance.sample(ALPHABET, min(25, self.shots) + 1)
        shown += [chance.choice(shown) for _ in range(self.shots - len(shown))]
        wrong = [by for by in range(1, 26) if by != shift]
        return Item(
            "map " + "".join(f"{letter}>{moved(letter, shift)}," for letter in shown) + f"{asked}>",
            f"{moved(asked, shift)}\n",
            tuple(f"{moved(asked, by)}\n" for by in chance.sample(wrong, 3)),
        )
