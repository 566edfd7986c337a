"""Skills that Python text itself asks for: closing brackets, recalling a name, continuing a sequence.

The text is new, but its form is that of the corpus: nothing is trained for these tasks but the corpus.
"""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, letters, wrong_numbers

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwz", "aeiou"


def identifier(chance: random.Random, syllables: int = 3) -> str:
    """A pronounceable name that no library has, `bakuti`."""
    return "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(syllables))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonBracket(Task):
    """`bakuti = [zuna, {tefo: piko, (rilu` then `)}]`: close `depth` brackets of an expression."""

    depth: int = knob(3, 1, 10)
    family: ClassVar[str] = "python-bracket"

    @property
    def guess(self) -> float:
        """Each bracket guessed among three kinds."""
        return 3.0**-self.depth

    def draw(self, chance: random.Random) -> Item:
        text, closing = f"{identifier(chance)} = ", []
        for level in range(self.depth):
            kind = chance.choice("([{")
            text += (f"{identifier(chance, 2)}, " if level else "") + kind
            text += f"{identifier(chance, 2)}: " if kind == "{" else ""
            closing.append({"(": ")", "[": "]", "{": "}"}[kind])
        answer = "".join(reversed(closing))
        wrong: list[str] = []
        while len(wrong) < min(3, 3**self.depth - 1):
            place = chance.randrange(self.depth)
            slip = answer[:place] + chance.choice(")]}".replace(answer[place], "")) + answer[place + 1 :]
            if slip not in wrong:
                wrong.append(slip)
            if self.depth == 1 and len(wrong) == 2:
                break
        return Item(text + identifier(chance, 2), f"{answer}\n", tuple(f"{slip}\n" for slip in wrong))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonIdentifier(Task):
    """`kebaro = 3\\nlituva = 8\\nprint(ke` then `baro)`: a name bound earlier, recalled from its first letters."""

    names: int = knob(4, 2, 10)
    family: ClassVar[str] = "python-identifier"

    @property
    def guess(self) -> float:
        """Any of the names of the context."""
        return 1.0 / self.names

    def draw(self, chance: random.Random) -> Item:
        names: dict[str, str] = {}
        while len(names) < self.names:
            name = identifier(chance)
            names.setdefault(name[:2], name)
        lines = [f"{name} = {chance.randrange(10)}\n" for name in names.values()]
        asked = chance.choice(list(names))
        others = [name for start, name in names.items() if start != asked]
        wrong = dict.fromkeys(other[2:] for other in others if other[2:] != names[asked][2:])
        return Item(
            "".join(lines) + f"print({asked}",
            f"{names[asked][2:]})\n",
            tuple(f"{rest})\n" for rest in wrong)[:7],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PythonSequence(Task):
    """`bakuti = [217, 224, 231, ` then `238,`: the next term of an arithmetic sequence."""

    terms: int = knob(4, 3, 12)
    step: int = knob(20, 1, 500)
    family: ClassVar[str] = "python-sequence"

    @property
    def guess(self) -> float:
        """One step of `step`, where the last term is known."""
        return 1.0 / self.step

    def draw(self, chance: random.Random) -> Item:
        start, step = chance.randrange(100, 900), chance.randrange(1, self.step + 1)
        *shown, answer = (start + step * index for index in range(self.terms + 1))
        prompt = f"{identifier(chance)}_{letters(chance, 2, 'xyzw')} = [" + "".join(
            f"{term}, " for term in shown
        )
        return Item(prompt, f"{answer},", tuple(f"{number}," for number in wrong_numbers(answer, chance)))
