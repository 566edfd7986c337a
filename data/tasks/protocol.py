"""What a task is: a seeded source of problems, each with a prompt, a target, wrong answers and a chance level.

A family of tasks is one frozen dataclass in a file of this folder; its fields are its knobs. The name of a task
is FAMILY[:KNOB=VALUE,...], knobs at their defaults left out: `addition`, `addition:digits=5,shots=2`.

Problems are split by a hash of their content into a training side and a held-out side, so that no problem that
a model is tested on can be in the skills that it is trained on, whatever the seeds are.
"""

import abc
import dataclasses
import hashlib
import random
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from core.errors import BadInput

Side = Literal["train", "held_out"]
HELD_OUT_IN_256 = 32  # one problem of eight
MAXIMUM_SHOTS = 64
_DRAWS_PER_ITEM = 2000  # a family that gives nothing new in so many draws has no more problems


@dataclasses.dataclass(frozen=True)
class Item:
    """One problem.

    Attributes:
      prompt: what the model reads.
      target: what it must write; ends in an end mark wherever answers differ in length, so that writing the
        target means writing all of the answer and nothing else.
      distractors: wrong answers, each different from the target and from one another.
      rest: text that follows in a training document only (more questions of the same kind).
      delimiter: characters before each answer that are no part of it, where answers are compared by their length.
    """

    prompt: str
    target: str
    distractors: tuple[str, ...] = ()
    rest: str = ""
    delimiter: int = 0

    @property
    def document(self) -> str:
        """The problem with its answer, as training text."""
        return self.prompt + self.target + self.rest


def knob(default: int, least: int, most: int) -> Any:
    """A whole-number parameter of a family with its range."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most})


def option(default: str, *others: str) -> Any:
    """A named choice of a family."""
    return dataclasses.field(default=default, metadata={"allowed": (default, *others)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """A family of problems at one difficulty.

    A subclass sets `family`, adds fields made by `knob` and `option`, and writes `draw` and `guess`.

    Attributes:
      shots: solved problems of the training side that stand before the prompt.
      family: name on the command line.
      memorised: the problems are meant to be in the training text (knowledge, not skill), so both sides hold
        the same ones.
    """

    shots: int = knob(0, 0, MAXIMUM_SHOTS)
    family: ClassVar[str] = ""
    memorised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, limits = getattr(self, field.name), field.metadata
            if "allowed" in limits and value not in limits["allowed"]:
                raise BadInput(
                    f"task {self.family}: {field.name}={value}: must be one of {', '.join(limits['allowed'])}"
                )
            if "least" in limits and not limits["least"] <= value <= limits["most"]:
                raise BadInput(
                    f"task {self.family}: {field.name}={value}: must be from {limits['least']} to {limits['most']}"
                )

    @property
    def name(self) -> str:
        """FAMILY[:KNOB=VALUE,...]: the one spelling of this task, knobs at their defaults left out."""
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in sorted(dataclasses.fields(self), key=lambda field: field.name)
            if getattr(self, field.name) != field.default
        ]
        return self.family + (":" + ",".join(changed) if changed else "")

    @property
    def repeats(self) -> bool:
        """Whether the same problem may come more than once among the items."""
        return False

    @property
    @abc.abstractmethod
    def guess(self) -> float:
        """Probability of an exact match for whoever knows the form of the answers but cannot do the task."""

    @abc.abstractmethod
    def draw(self, chance: random.Random) -> Item:
        """One problem, a function of the state of `chance` alone."""

    def draw_training(self, chance: random.Random) -> Item:
        """One problem with the frequency that training text has it; like `draw` unless a family differs."""
        return self.draw(chance)

    def key(self, item: Item) -> str:
        """What makes a problem the same problem again: decides its side, and is drawn once."""
        return item.prompt + item.target

    def side(self, item: Item) -> Side:
        """Whether a problem may be trained on or tested on."""
        content = f"{self.family}\0{self.key(item)}".encode()
        return "held_out" if hashlib.sha256(content).digest()[0] < HELD_OUT_IN_256 else "train"

    def with_shots(self, item: Item, chance: random.Random) -> Item:
        """`item` after `shots` solved problems of the training side, one a line."""
        shown: list[str] = []
        for _ in range(self.shots):
            example = _draw_on(self, "train", chance)
            shown.append(example.prompt + example.target.rstrip("\n") + "\n")
        return dataclasses.replace(item, prompt="".join(shown) + item.prompt)

    def items(self, count: int, seed: int = 0) -> list[Item]:
        """`count` held-out problems, different unless the task `repeats`; the first ones do not depend on `count`.

        Raises:
          BadInput: count is below 1, or the family has fewer problems than that.
        """
        if count < 1:
            raise BadInput(f"task {self.name}: {count} items: must be at least 1")
        seen: set[str] = set()
        found: list[Item] = []
        for number in range(count):
            chance = generator("items", self.name, seed, number)
            for _ in range(_DRAWS_PER_ITEM):
                item = _draw_on(self, "held_out", chance)
                if self.repeats or self.key(item) not in seen:
                    break
            else:
                raise BadInput(
                    f"task {self.name}: {count} items: it has only about {number} different held-out problems; ask for "
                    "fewer, or make it harder"
                )
            seen.add(self.key(item))
            found.append(self.with_shots(item, chance))
        return found

    def documents(self, seed: int = 0) -> Iterator[str]:
        """Training text without end: problems of the training side with their answers."""
        chance = generator("documents", self.name, seed, 0)
        while True:
            yield _draw_on(self, "train", chance, training=True).document


def check_texts(item: Item, where: str) -> None:
    """Refuse a problem that no text can be: half a character, or the NUL that ends documents.

    Raises:
      BadInput: the message begins with `where`.
    """
    for text in (item.prompt, item.target, *item.distractors):
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise BadInput(f"{where}: {text[:80]!a}: must be text without NUL bytes and lone surrogates")


def generator(*parts: object) -> random.Random:
    """A random generator that is a function of `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


def _draw_on(task: Task, side: Side, chance: random.Random, *, training: bool = False) -> Item:
    draw = task.draw_training if training else task.draw
    for _ in range(_DRAWS_PER_ITEM):
        item = draw(chance)
        if task.memorised or task.side(item) == side:
            return item
    raise BadInput(f"task {task.name}: has no problem on its {side.replace('_', '-')} side; make it harder")


def letters(chance: random.Random, count: int, alphabet: str) -> str:
    """`count` independent letters of `alphabet`."""
    return "".join(chance.choices(alphabet, k=count))


def wrong_numbers(value: int, chance: random.Random, count: int = 3, least: int = 0) -> list[int]:
    """`count` numbers near `value` and at least `least`: the slips of a calculation, one digit off each."""
    found: list[int] = []
    scale = max(1, len(str(abs(value))))
    while len(found) < count:
        slip = value + chance.choice((-1, 1)) * 10 ** chance.randrange(scale) * chance.randrange(1, 10)
        if slip != value and slip >= least and slip not in found:
            found.append(slip)
    return found


def permuted(text: str, chance: random.Random, count: int = 3) -> tuple[str, ...]:
    """Up to `count` different rearrangements of `text` that are not `text`."""
    found: list[str] = []
    for _ in range(20 * count):
        other = "".join(chance.sample(text, len(text)))
        if other != text and other not in found:
            found.append(other)
        if len(found) == count:
            break
    return tuple(found)
