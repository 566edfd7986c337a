"""A small document: blocks that are written once and rendered as HTML and as Markdown.

Everything that blocks hold is text, and is escaped by both renderers.
"""

import dataclasses
import html
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A table. The first column is text, the others are numbers, aligned to the right, unless `text` names them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Command:
    text: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure in both formats; `name` is its file's stem, `caption` says what is seen."""

    name: str
    caption: str
    svg: bytes
    png: bytes


Block = Heading | Paragraph | Bullets | Rows | Command | Picture

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; border-bottom: 1px solid #ddd; padding-bottom: 0.2rem; }
li { margin: 0.35rem 0; }
figure { margin: 1rem 0; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: 0.85rem; color: #555; }
.rows { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 7rem; }
thead th { border-bottom: 2px solid #999; }
pre { background: #f5f5f5; padding: 0.6rem; overflow-x: auto; font-size: 0.85rem; }
@media print { body { font-size: 10pt; max-width: none; padding: 0; } .rows { overflow: visible; }
  table { font-size: 8pt; } h2 { break-after: avoid; } }
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One self-contained page: no other file, no script, no network."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(blocks: Sequence[Block]) -> str:
    """The same blocks as Markdown; figures are the .svg files beside it."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>\n" + "\n".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "\n</ul>"
    if isinstance(block, Command):
        return f"<pre><code>{html.escape(block.text)}</code></pre>"
    if isinstance(block, Rows):
        return _html_rows(block)
    return f"<figure>\n{inline_svg(block)}\n<figcaption>{html.escape(block.caption)}</figcaption>\n</figure>"


def _html_rows(block: Rows) -> str:
    classes = [' class="text"' if _is_text(block, column) else "" for column in range(len(block.header))]

    def line(cells: Sequence[str], tag: str) -> str:
        inside = "".join(
            f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for cell, kind in zip(cells, classes, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(line(row, "td") for row in block.rows)
    return (
        f'<div class="rows"><table>\n<thead>{line(block.header, "th")}</thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>"
    )


def _is_text(block: Rows, column: int) -> bool:
    return column == 0 or block.header[column] in block.text


def inline_svg(picture: Picture) -> str:
    """The figure as an element of a page: it scales with the page and is named for who cannot see it."""
    text = picture.svg.decode()
    element = text[text.index("<svg") :].strip()
    opening = element[: element.index(">")]
    scaled = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    label = html.escape(picture.caption, quote=True)
    return f'{scaled} role="img" aria-label="{label}"{element[len(opening) :]}'


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_escaped(block.text)}"
    if isinstance(block, Paragraph):
        return _escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Command):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Rows):
        rule = [":---" if _is_text(block, column) else "---:" for column in range(len(block.header))]
        lines = [[_escaped(cell) for cell in block.header], rule]
        lines += [[_escaped(cell) for cell in row] for row in block.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"![{_escaped(block.caption)}]({block.name}.svg)\n\n*{_escaped(block.caption)}*"


def _escaped(text: str) -> str:
    """Text in which Markdown sees no markup, on one line."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", flat)
