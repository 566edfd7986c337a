"""Negative controls: what models learn smoothly with scale and a sound test must not call a transition.

A fixed bigram language and a fixed grammar, whose loss falls towards a known entropy, and a table of facts of
falling frequency, of which larger models hold more (Michaud et al. 2023, arXiv 2303.13506, section 4, for many
small steps that add up to a smooth curve).
"""

import collections
import dataclasses
import functools
import itertools
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, generator, knob, option

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@functools.lru_cache(maxsize=16)
def transition_table(symbols: int) -> tuple[tuple[float, ...], ...]:
    """Probability of each next letter after each letter: exponential weights, fixed. (symbols, symbols)"""
    chance = generator("bigram", symbols)
    rows = [[chance.expovariate(1.0) ** 2 for _ in range(symbols)] for _ in range(symbols)]
    return tuple(tuple(weight / sum(row) for weight in row) for row in rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bigram(Task):
    """`bigram qzkfaq` then `z`: the next letter of a fixed random chain over `symbols` letters.

    The loss that a perfect model reaches is the entropy of the chain (`entropy`), not zero.
    """

    symbols: int = knob(16, 2, 26)
    length: int = knob(16, 1, 90)
    family: ClassVar[str] = "bigram"

    @property
    def guess(self) -> float:
        """Any letter."""
        return 1.0 / self.symbols

    def word(self, length: int, chance: random.Random) -> str:
        """A stretch of the chain that starts at any letter."""
        state = chance.randrange(self.symbols)
        states = [state]
        for _ in range(length - 1):
            state = chance.choices(range(self.symbols), transition_table(self.symbols)[state])[0]
            states.append(state)
        return "".join(LETTERS[state] for state in states)

    def draw(self, chance: random.Random) -> Item:
        word = self.word(self.length + 1, chance)
        wrong = [letter for letter in LETTERS[: self.symbols] if letter != word[-1]]
        return Item(f"bigram {word[:-1]}", word[-1], tuple(wrong[:25]))


# A grammar of fixed nonsense: a sentence is a noun phrase, a verb, a noun phrase; the verb agrees with the first noun.
NOUNS = ("blick", "dax", "fep", "gorp", "lum", "mib", "toma", "wug")
VERBS = ("zorps", "kels", "pirs", "vans")
ADJECTIVES = ("red", "old", "tiny", "loud")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grammar(Task):
    """`grammar the red wug zorps a old ` then `dax`: the last word of a sentence of a fixed grammar.

    Each noun has a noun of its own that it mostly acts on, so that there is something to know about the last word.
    """

    adjectives: int = knob(1, 0, 4)
    family: ClassVar[str] = "grammar"

    @property
    def guess(self) -> float:
        """Any noun."""
        return 1.0 / len(NOUNS)

    def draw(self, chance: random.Random) -> Item:
        subject = chance.randrange(len(NOUNS))
        usual = (3 * subject + 1) % len(NOUNS)
        thing = usual if chance.random() < 0.5 else chance.randrange(len(NOUNS))

        def phrase(noun: str, adjectives: int) -> str:
            return " ".join([chance.choice(("the", "a")), *chance.choices(ADJECTIVES, k=adjectives), noun])

        # The last phrase always has all its adjectives, so that what follows them can only be a noun.
        start = phrase(NOUNS[subject], chance.randrange(self.adjectives + 1))
        verb, end = chance.choice(VERBS), phrase("", self.adjectives)
        tag = "".join(chance.choices(LETTERS, k=4))
        wrong = tuple(f"{noun}\n" for noun in NOUNS if noun != NOUNS[thing])
        return Item(f"grammar {tag}: {start} {verb} {end}", f"{NOUNS[thing]}\n", wrong)


@functools.lru_cache(maxsize=16)
def fact_table(facts: int, letters: int) -> tuple[tuple[str, str], ...]:
    """Names and their fixed random values: (`bakoti`, `qz`)."""
    chance = generator("facts", facts, letters)
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    names = chance.sample(["".join(three) for three in itertools.product(syllables, repeat=3)], facts)
    return tuple((name, "".join(chance.choices(LETTERS, k=letters))) for name in names)


@functools.lru_cache(maxsize=16)
def _cumulative_frequencies(facts: int) -> tuple[float, ...]:
    """Zipf's law: the fact of rank r comes in proportion to 1 / r."""
    return tuple(itertools.accumulate(1 / rank for rank in range(1, facts + 1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts(Task):
    """`fact bakoti:qz`: the value of a name, `letters` letters, known only to who has read it.

    In training text facts come with Zipf frequencies. The problems are the training text: the task measures memory.
    Asked as often as the text has them, what a model knows adds up from many small steps and grows with the
    logarithm of their number (the weighting of Michaud et al.). Asked all `alike`, the score is the number of facts
    known, which grows in proportion to parameters (2 bits each: Allen-Zhu and Li 2024, arXiv 2404.05405): on a
    logarithmic axis no smooth control, but the foot of a rise 1.9 decades wide.
    """

    facts: int = knob(1000, 10, 100_000)
    letters: int = knob(2, 1, 4)
    asked: str = option("alike", "text")
    family: ClassVar[str] = "facts"
    memorised: ClassVar[bool] = True

    @property
    def guess(self) -> float:
        """The share of the problems that have the most frequent value."""
        shares: dict[str, float] = collections.defaultdict(float)
        for rank, (_, value) in enumerate(fact_table(self.facts, self.letters), start=1):
            shares[value] += 1 / rank if self.repeats else 1
        return max(shares.values()) / sum(shares.values())

    @property
    def repeats(self) -> bool:
        """A frequent fact is asked for more than once where text frequencies decide."""
        return self.asked == "text"

    def draw(self, chance: random.Random) -> Item:
        return self.draw_training(chance) if self.repeats else self._item(chance.randrange(self.facts), chance)

    def draw_training(self, chance: random.Random) -> Item:
        return self._item(
            chance.choices(range(self.facts), cum_weights=_cumulative_frequencies(self.facts))[0], chance
        )

    def _item(self, rank: int, chance: random.Random) -> Item:
        table = fact_table(self.facts, self.letters)
        name, value = table[rank]
        wrong: list[str] = []
        while len(wrong) < 3:
            other = table[chance.randrange(self.facts)][1]
            if other != value and other not in wrong:
                wrong.append(other)
        return Item(f"fact {name}:", f"{value}\n", tuple(f"{other}\n" for other in wrong))
