"""Induction and copying of random strings: what was read once can be written again (Olsson et al. 2022, arXiv
2209.11895, section "definition of induction heads")."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, letters, permuted

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Induction(Task):
    """`fGk2QzfGk` then `2`: a random string, its beginning again, and the character that comes next.

    No two characters of a string are equal, so that the last one alone decides the next. Strings have between half
    of `length` and `length` characters: with one length, looking a fixed number of places back would do.
    """

    length: int = knob(16, 4, 60)
    family: ClassVar[str] = "induction"

    @property
    def guess(self) -> float:
        """Any character of the string but the last one read: on average over the lengths."""
        lengths = range(self.length // 2, self.length + 1)
        return sum(1 / (length - 1) for length in lengths) / len(lengths)

    def key(self, item: Item) -> str:
        """The string, wherever its repetition stops."""
        return item.document[: len(item.document) // 2]

    def draw(self, chance: random.Random) -> Item:
        length = chance.randrange(self.length // 2, self.length + 1)
        word = "".join(chance.sample(ALPHABET, length))
        cut = chance.randrange(1, length)
        wrong = word.replace(word[cut], "").replace(word[cut - 1], "") or ALPHABET.replace(word[cut], "")
        return Item(
            word + word[:cut],
            word[cut],
            tuple(chance.sample(wrong, min(7, len(wrong)))),
            rest=word[cut + 1 :],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(Task):
    """`copy qzkfa>qzkfa`: random lower-case letters, written again whole."""

    length: int = knob(8, 2, 60)
    family: ClassVar[str] = "copying"

    @property
    def guess(self) -> float:
        """Every letter guessed."""
        return 26.0**-self.length

    def draw(self, chance: random.Random) -> Item:
        word = letters(chance, self.length, "abcdefghijklmnopqrstuvwxyz")
        return Item(f"copy {word}>", f"{word}\n", tuple(f"{other}\n" for other in permuted(word, chance)))
