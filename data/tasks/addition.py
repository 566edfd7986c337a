"""Addition of k-digit numbers, written plainly, answer reversed, or step by step.

Reversing the answer lets each digit depend on what was written before; writing the carries makes the steps
explicit (Lee et al. 2023, arXiv 2307.03381). The difference between the forms is what the steps are worth.
"""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, wrong_numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition(Task):
    """`128+367=495`: two numbers of exactly `digits` digits."""

    digits: int = knob(3, 1, 12)
    family: ClassVar[str] = "addition"

    @property
    def guess(self) -> float:
        """A sum is one of 2 x 9 x 10^(k-1) values or so; the commonest is right 1 time in 9 x 10^(k-1)."""
        return 1.0 / (9 * 10 ** (self.digits - 1) if self.digits > 1 else 10)

    def numbers(self, chance: random.Random) -> tuple[int, int]:
        """Two numbers of `digits` digits."""
        least = 10 ** (self.digits - 1) if self.digits > 1 else 0
        return chance.randrange(least, 10**self.digits), chance.randrange(least, 10**self.digits)

    def answer(self, left: int, right: int, total: int) -> str:
        """What is written after the equals sign, `total` standing where the sum goes."""
        return f"{total}\n"

    def draw(self, chance: random.Random) -> Item:
        left, right = self.numbers(chance)
        total = left + right
        wrong = wrong_numbers(total, chance)
        return Item(
            f"{self.mark}{left}+{right}=",
            self.answer(left, right, total),
            tuple(self.answer(left, right, number) for number in wrong),
        )

    @property
    def mark(self) -> str:
        """What tells the forms of writing apart at the head of a prompt."""
        return ""


class ReversedAddition(Addition):
    """`r128+367=594`: the answer from its last digit to its first."""

    family: ClassVar[str] = "addition-reversed"

    @property
    def mark(self) -> str:
        return "r"

    def answer(self, left: int, right: int, total: int) -> str:
        return f"{str(total)[::-1]}\n"


class ScratchpadAddition(Addition):
    """`s128+367=8+7+0=15;2+6+1=09;1+3+0=04;495`: each column with its carry, then the answer.

    The target is the whole calculation: an exact match is a right calculation, not a lucky last line.
    """

    family: ClassVar[str] = "addition-scratchpad"

    @property
    def mark(self) -> str:
        return "s"

    def answer(self, left: int, right: int, total: int) -> str:
        carry, steps = 0, []
        for upper, lower in zip(reversed(str(left)), reversed(str(right)), strict=True):
            column = int(upper) + int(lower) + carry
            steps.append(f"{upper}+{lower}+{carry}={column:02}")
            carry = column // 10
        return ";".join([*steps, f"{total}\n"])
