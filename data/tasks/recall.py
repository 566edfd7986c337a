"""Associative recall: look up the value of a key among pairs just read.

Solved by an induction circuit, which needs two layers: one layer can only prefer values that stand in the
context (Olsson et al. 2022, arXiv 2209.11895; the task is that of Ba et al. 2016, arXiv 1610.06258, and of
Arora et al. 2023, arXiv 2312.04927, where all pairs are asked for).
"""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob

KEYS = "abcdefghijklmnopqrstuvwxyz012345"
VALUES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ6789!#"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssociativeRecall(Task):
    """`dKaRzB?zB`: different keys with different values, then a key; its value is asked for.

    A training document asks for all keys in another order, so that most of its text teaches recall; a held-out
    problem asks for one.
    """

    pairs: int = knob(8, 2, 24)
    family: ClassVar[str] = "associative-recall"

    @property
    def guess(self) -> float:
        """Any value of the context: what a model without recall can reach."""
        return 1.0 / self.pairs

    def key(self, item: Item) -> str:
        """The pairs, whichever of them is asked for."""
        return item.prompt.partition("?")[0]

    def draw(self, chance: random.Random) -> Item:
        keys, values = chance.sample(KEYS, self.pairs), chance.sample(VALUES, self.pairs)
        order = chance.sample(range(self.pairs), self.pairs)
        asked, *later = order
        pairs = "".join(key + value for key, value in zip(keys, values, strict=True))
        wrong = [value for value in values if value != values[asked]]
        return Item(
            prompt=f"{pairs}?{keys[asked]}",
            target=values[asked],
            distractors=tuple(chance.sample(wrong, min(7, len(wrong)))),
            rest="".join(keys[index] + values[index] for index in later),
        )
