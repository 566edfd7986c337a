"""Sorting, reversing, counting letters: short algorithms on random strings."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, letters, permuted

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sorting(Task):
    """`sort qzkfa>afkqz`: different letters in alphabetical order."""

    length: int = knob(6, 2, 26)
    family: ClassVar[str] = "sorting"

    @property
    def guess(self) -> float:
        """Any order of the letters."""
        product = 1
        for number in range(2, self.length + 1):
            product *= number
        return 1.0 / product

    def draw(self, chance: random.Random) -> Item:
        word = chance.sample(ALPHABET, self.length)
        answer = "".join(sorted(word))
        return Item(
            f"sort {''.join(word)}>", f"{answer}\n", tuple(f"{other}\n" for other in permuted(answer, chance))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reversal(Task):
    """`reverse qzkfa>afkzq`: random letters from the last to the first."""

    length: int = knob(6, 2, 60)
    family: ClassVar[str] = "reversal"

    @property
    def guess(self) -> float:
        """Every letter guessed."""
        return 26.0**-self.length

    def draw(self, chance: random.Random) -> Item:
        word = letters(chance, self.length, ALPHABET)
        answer = word[::-1]
        return Item(
            f"reverse {word}>", f"{answer}\n", tuple(f"{other}\n" for other in permuted(answer, chance))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Task):
    """`count a in bacabd=2`: how often a letter stands in a string of `length` of four kinds of letters."""

    length: int = knob(12, 4, 90)
    family: ClassVar[str] = "counting"

    @property
    def guess(self) -> float:
        """The commonest count: any count up to half the length is as likely as another."""
        return 1.0 / (self.length // 2 + 1)

    def draw(self, chance: random.Random) -> Item:
        asked, *others = chance.sample(ALPHABET, 4)
        most = self.length // 2
        count = chance.randrange(most + 1)
        word = [asked] * count + chance.choices(others, k=self.length - count)
        chance.shuffle(word)
        wrong = [number for number in range(most + 1) if number != count]
        return Item(
            f"{self.mark} {asked} in {''.join(word)}=",
            self.answer(word, asked, count),
            tuple(self.answer(word, asked, number) for number in chance.sample(wrong, min(3, len(wrong)))),
        )

    @property
    def mark(self) -> str:
        """The first word of a prompt."""
        return "count"

    def answer(self, word: list[str], asked: str, count: int) -> str:
        """What is written after the equals sign."""
        return f"{count}\n"


class ScratchpadCounting(Counting):
    """`tally a in bacabd=-a-a--:2`: the string again with all other letters struck out, then the count."""

    family: ClassVar[str] = "counting-scratchpad"
    length: int = knob(12, 4, 60)

    @property
    def mark(self) -> str:
        return "tally"

    def answer(self, word: list[str], asked: str, count: int) -> str:
        return "".join(letter if letter == asked else "-" for letter in word) + f":{count}\n"
