"""ListOps: evaluate nested operations on digits (Nangia and Bowman 2018, arXiv 1804.06028)."""

import dataclasses
import random
import statistics
from collections.abc import Callable
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob

OPERATIONS: dict[str, Callable[[list[int]], int]] = {
    "MAX": max,
    "MIN": min,
    "MED": lambda digits: int(statistics.median(digits)),
    "SUM": lambda digits: sum(digits) % 10,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListOps(Task):
    """`[MAX 2 [MIN 9 4] 0]=4`: operations nested to `depth`, each on up to `arguments` digits or lists.

    MED is the median, rounded down; SUM is modulo 10.
    """

    depth: int = knob(2, 1, 5)
    arguments: int = knob(3, 2, 5)
    family: ClassVar[str] = "listops"

    @property
    def guess(self) -> float:
        """One digit of ten; MAX and MIN make 9 and 0 a little likelier."""
        return 0.1

    def draw(self, chance: random.Random) -> Item:
        text, value = self._expression(self.depth, chance)
        wrong = chance.sample([digit for digit in range(10) if digit != value], 3)
        return Item(f"{text}=", str(value), tuple(map(str, wrong)))

    def _expression(self, depth: int, chance: random.Random) -> tuple[str, int]:
        if depth == 0:
            digit = chance.randrange(10)
            return str(digit), digit
        operation = chance.choice(list(OPERATIONS))
        count = chance.randrange(2, self.arguments + 1)
        nested = chance.randrange(count)  # one argument goes to full depth, the others may be digits
        parts = [
            self._expression(depth - 1 if index == nested else chance.randrange(depth), chance)
            for index in range(count)
        ]
        value = OPERATIONS[operation]([number for _, number in parts])
        return f"[{operation} {' '.join(text for text, _ in parts)}]", value
