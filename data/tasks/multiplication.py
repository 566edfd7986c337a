"""Multiplication of k-digit numbers, at once or through partial products."""

import collections
import dataclasses
import functools
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, wrong_numbers


@functools.cache
def commonest_product(digits: int) -> float:
    """The share of pairs of `digits`-digit numbers that have the commonest product."""
    numbers = range(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
    counts = collections.Counter(left * right for left in numbers for right in numbers)
    return counts.most_common(1)[0][1] / len(numbers) ** 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiplication(Task):
    """`23*47=1081`: two numbers of exactly `digits` digits."""

    digits: int = knob(2, 1, 8)
    family: ClassVar[str] = "multiplication"

    @property
    def guess(self) -> float:
        """Frequency of the commonest product, counted up to 3 digits (16 of 8,100 products of 2 digits are alike), and
        above that a tenth of it for each digit, an overestimate."""
        counted = min(self.digits, 3)
        return commonest_product(counted) * 10.0 ** (counted - self.digits)

    def answer(self, left: int, right: int, product: int) -> str:
        """What is written after the equals sign."""
        return f"{product}\n"

    def draw(self, chance: random.Random) -> Item:
        least = 10 ** (self.digits - 1) if self.digits > 1 else 0
        left, right = (chance.randrange(least, 10**self.digits) for _ in range(2))
        mark = "s" if self.family.endswith("scratchpad") else ""
        return Item(
            f"{mark}{left}*{right}=",
            self.answer(left, right, left * right),
            tuple(self.answer(left, right, number) for number in wrong_numbers(left * right, chance)),
        )


class ScratchpadMultiplication(Multiplication):
    """`s23*47=7*23=161;40*23=920;1081`: one partial product a digit, then the sum."""

    family: ClassVar[str] = "multiplication-scratchpad"

    def answer(self, left: int, right: int, product: int) -> str:
        parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(right)))]
        return ";".join([*(f"{part}*{left}={part * left}" for part in parts), f"{product}\n"])
