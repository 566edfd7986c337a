"""What a section of a report is: a question, answered from a sweep's logs in words, tables, figures and results.

A section is one file of analysis/report/sections/. It holds `ORDER`, its place on the page, and
`section(study) -> Section | None`: None where the sweep does not ask its question. `ANSWERS` names the experiments
whose question it answers: its `answer` comes first on their page. It is found by its place. Names of
its files are `File` and `Picture` constants of that file, so that what it wrote for an earlier report is known and
removed. With `OF_EQUAL_SETTINGS = True` it is asked once for each group of runs of equal settings, never for runs that
differ in what a law does not know (analysis/logs/groups.py).

Everything that blocks hold is text, and is escaped by both templates.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Protocol, TypeVar

from matplotlib.figure import Figure

from analysis.report.study import Study

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """One paragraph."""

    kind: ClassVar = "paragraph"
    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list."""

    kind: ClassVar = "bullets"
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A table. The first column is text, the others are numbers, aligned to the right, unless `text` names them."""

    kind: ClassVar = "rows"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        columns: Mapping[str, Callable[[Item], str]],
        text: Iterable[str] = (),
    ) -> "Rows":
        """One row an item; `columns` are its cells by their header."""
        rows = [tuple(cell(item) for cell in columns.values()) for item in items]
        return cls(tuple(columns), rows, frozenset(text))

    @property
    def is_text(self) -> tuple[bool, ...]:
        """Of each column."""
        return tuple(place == 0 or name in self.text for place, name in enumerate(self.header))


@dataclasses.dataclass(frozen=True)
class Command:
    """What to type in a shell."""

    kind: ClassVar = "command"
    text: str


class File(str):
    """Name of a result beside the page."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure: `name` is the stem of its .svg and .png, `caption` says what is seen."""

    name: str
    caption: str

    @property
    def files(self) -> tuple[str, str]:
        """Names of the figure's SVG and PNG."""
        return f"{self.name}.svg", f"{self.name}.png"

    def by(self, draw: Callable[[], Figure], source: str = "") -> "Drawing":
        """The block that shows it; `source` is the SHA-256 of what it is drawn from, where not from all the logs."""
        return Drawing(self, draw, source)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture and how it is drawn."""

    kind: ClassVar = "drawing"
    picture: Picture
    draw: Callable[[], Figure]
    source: str = ""


Block = Paragraph | Bullets | Rows | Command | Drawing


@dataclasses.dataclass(frozen=True)
class Section:
    """One section. One without blocks has no place on the page, only findings or warnings at its top.

    Attributes:
      said: its findings, a sentence or two each, for the top of the report.
      answer: of the sweep's own question, one sentence with its number: the first on the page. Empty where the section
        is not about that question. Of several, the section that comes first gives it.
      warnings: what a careful reader must know, for the top of the report.
      blocks: words, tables and figures.
      results: files beside the page, by name: a text as it is (CSV), anything else as JSON.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    results: Mapping[str, Mapping[str, object] | str] = dataclasses.field(default_factory=dict)
    answer: str = ""

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """The figures among its blocks."""
        return tuple(block for block in self.blocks if isinstance(block, Drawing))

    def of_part(self, label: str, place: int) -> "Section":
        """The same as the section of one group of settings: said so everywhere, and its files have their own names."""

        def named(name: str) -> str:
            stem, dot, kind = name.partition(".")
            return name if place == 1 else f"{stem}-{place}{dot}{kind}"

        def block(one: Block) -> Block:
            if not isinstance(one, Drawing):
                return one
            picture = Picture(named(one.picture.name), f"{label}: {one.picture.caption}")
            return dataclasses.replace(one, picture=picture)

        return Section(
            title=f"{self.title} ({label})",
            blocks=tuple(map(block, self.blocks)),
            said=tuple(f"{label}: {sentence}" for sentence in self.said),
            warnings=tuple(f"{label}: {warning}" for warning in self.warnings),
            results={named(name): value for name, value in self.results.items()},
            answer=self.answer and f"{label}: {self.answer}",
        )


class Maker(Protocol):
    """A file of analysis/report/sections/."""

    ORDER: int
    # ANSWERS: tuple[str, ...], the experiments whose question it answers; may be left out

    def section(self, study: Study) -> Section | None:
        """The section, or None where the sweep does not ask its question."""
        ...
