"""Arithmetic modulo p, the task on which grokking was first seen (Power et al. 2022, arXiv 2201.02177)."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularArithmetic(Task):
    """`31+45%97=76`: one operation modulo `modulus`."""

    modulus: int = knob(97, 11, 9973)
    operation: str = option("add", "subtract", "multiply")
    family: ClassVar[str] = "modular-arithmetic"

    @property
    def guess(self) -> float:
        """Every residue is as likely as another, but for products, where 0 has 2p - 1 of p^2 cases (p prime)."""
        if self.operation == "multiply":
            return (2 * self.modulus - 1) / self.modulus**2
        return 1.0 / self.modulus

    def draw(self, chance: random.Random) -> Item:
        left, right = chance.randrange(self.modulus), chance.randrange(self.modulus)
        sign, value = {
            "add": ("+", left + right),
            "subtract": ("-", left - right),
            "multiply": ("*", left * right),
        }[self.operation]
        answer = value % self.modulus
        wrong: list[int] = []
        while len(wrong) < 3:
            other = chance.randrange(self.modulus)
            if other != answer and other not in wrong:
                wrong.append(other)
        return Item(
            f"{left}{sign}{right}%{self.modulus}=", f"{answer}\n", tuple(f"{number}\n" for number in wrong)
        )
