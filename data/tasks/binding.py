"""k-hop variable binding: follow assignments from name to name to a value, at once or step by step."""

import dataclasses
import itertools
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob

NAMES = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariableBinding(Task):
    """`a=4;k=7;c=a;z=k;c?4`: chains of `hops` assignments, shuffled but each name bound before it is used.

    `hops=0` asks for a name bound to a value itself.
    """

    hops: int = knob(1, 0, 5)
    chains: int = knob(3, 2, 4)
    family: ClassVar[str] = "variable-binding"

    @property
    def guess(self) -> float:
        """Any of the values in the context."""
        return 1.0 / self.chains

    def draw(self, chance: random.Random) -> Item:
        names = chance.sample(NAMES, self.chains * (self.hops + 1))
        values = chance.sample("0123456789", self.chains)
        chains = [names[index :: self.chains] for index in range(self.chains)]
        waiting = [
            [
                f"{chain[0]}={value}",
                *(f"{after}={before}" for before, after in itertools.pairwise(chain)),
            ]
            for chain, value in zip(chains, values, strict=True)
        ]
        lines: list[str] = []
        while any(waiting):
            lines.append(chance.choice([chain for chain in waiting if chain]).pop(0))
        asked = chance.randrange(self.chains)
        return Item(
            f"{self.mark}{';'.join(lines)};{chains[asked][-1]}?",
            self.answer(chains[asked], values[asked]),
            tuple(self.answer(chains[asked], value) for value in values if value != values[asked]),
        )

    @property
    def mark(self) -> str:
        """What tells the forms apart at the head of a prompt."""
        return ""

    def answer(self, chain: list[str], value: str) -> str:
        """What is written after the question mark."""
        return f"{value}\n"


class ScratchpadVariableBinding(VariableBinding):
    """`:a=4;k=7;c=a;z=k;c?a=4`: every name on the way back is written, then the value."""

    family: ClassVar[str] = "variable-binding-scratchpad"

    @property
    def mark(self) -> str:
        return ":"

    def answer(self, chain: list[str], value: str) -> str:
        return "=".join([*reversed(chain[:-1]), f"{value}\n"])
