"""Multitask sparse parity: many parities in one stream, each of its own few bits (Michaud et al. 2023, arXiv
2303.13506, section 3).

A control letter names the parity; how often each comes in training falls as a power of its rank, so that larger
models and longer training learn more of them, one quantum at a time.
"""

import dataclasses
import functools
import random
from typing import ClassVar

from core.errors import BadInput
from data.tasks.protocol import Item, Task, generator, knob

CONTROLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
EXPONENT = 1.4  # of the frequencies: alpha + 1 with the paper's alpha = 0.4


@functools.lru_cache(maxsize=64)
def subsets(parities: int, bits: int, size: int) -> tuple[tuple[int, ...], ...]:
    """The positions that each parity reads: fixed, the same for every model."""
    chance = generator("parity subsets", parities, bits, size)
    return tuple(tuple(sorted(chance.sample(range(bits), size))) for _ in range(parities))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseParity(Task):
    """`parity C 0110100101=1`: the parity named C of its `size` positions among `bits`."""

    parities: int = knob(16, 1, len(CONTROLS))
    bits: int = knob(24, 4, 96)
    size: int = knob(3, 1, 8)
    family: ClassVar[str] = "sparse-parity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size > self.bits:
            raise BadInput(f"task {self.family}: size={self.size}: must be at most bits={self.bits}")

    @property
    def guess(self) -> float:
        """Even or odd."""
        return 0.5

    def draw(self, chance: random.Random) -> Item:
        return self._problem(chance.randrange(self.parities), chance)

    def draw_training(self, chance: random.Random) -> Item:
        ranks = range(self.parities)
        return self._problem(chance.choices(ranks, [(rank + 1) ** -EXPONENT for rank in ranks])[0], chance)

    def _problem(self, which: int, chance: random.Random) -> Item:
        word = chance.choices((0, 1), k=self.bits)
        positions = subsets(self.parities, self.bits, self.size)[which]
        parity = sum(word[position] for position in positions) % 2
        target, other = f"{parity}\n", f"{1 - parity}\n"
        prompt = f"parity {CONTROLS[which]} {''.join(map(str, word))}="
        return Item(prompt, target, (other,))


class ScratchpadSparseParity(SparseParity):
    """`parity-steps C 0110100101=011:0`: the bits of the parity are written out first, then their parity."""

    family: ClassVar[str] = "sparse-parity-scratchpad"

    def _problem(self, which: int, chance: random.Random) -> Item:
        plain = super()._problem(which, chance)
        head, _, word = plain.prompt.rstrip("=").rpartition(" ")
        positions = subsets(self.parities, self.bits, self.size)[which]
        shown = "".join(word[position] for position in positions)
        return Item(
            f"{head.replace('parity', 'parity-steps')} {word}=",
            f"{shown}:{plain.target}",
            tuple(f"{shown}:{other}" for other in plain.distractors),
        )
