"""The files of a report: its page as HTML and as Markdown from the same content, its figures, tables and results.

Both pages are templates (templates/). Whatever they are given is escaped, unless it is `Markup` (HTML) or `Plain`
(Markdown).
"""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from analysis.figures.style import render
from analysis.report.formats import json_text
from analysis.report.section import Section
from analysis.report.sections import makers, sections_of
from analysis.report.study import Study

TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Page:
    """What both templates are given.

    Attributes:
      name: of the sweep. runs: how many there are. source: SHA-256 of their logs.
      answer: of the sweep's question, one sentence; empty where no section gives one.
      summary, warnings: one sentence or two each; the summary without the answer.
      sections: what is shown, by the names that links go to.
      files: names of the tables and results beside the page.
    """

    name: str
    runs: int
    source: str
    answer: str
    summary: Sequence[str]
    warnings: Sequence[str]
    sections: Mapping[str, Section]
    files: Sequence[str]


class Plain(str):
    """Text that goes into Markdown as it is."""


def contents(study: Study) -> tuple[dict[str, str | bytes], list[str]]:
    """Name and content of every file of the report, and its summary."""
    sections = sections_of(study)
    files: dict[str, str | bytes] = {}
    svgs: dict[str, Markup] = {}
    for section in sections.values():
        for name, value in section.results.items():
            files[name] = value if isinstance(value, str) else json_text(value)
        for drawing in section.drawings:
            picture = drawing.picture
            svg, png = render(drawing.draw(), picture.name, drawing.source or study.source)
            files |= dict(zip(picture.files, (svg, png), strict=True))
            svgs[picture.name] = inline_svg(svg, picture.caption)
    answer = answer_of(study, sections)
    said = [sentence for section in sections.values() for sentence in section.said]
    summary = [sentence for sentence in said if sentence != answer]
    warnings = [warning for section in sections.values() for warning in section.warnings]
    page = Page(
        name=study.sweep.name,
        runs=study.rows,
        source=study.source,
        answer=answer,
        summary=summary,
        warnings=list(dict.fromkeys(warnings)),
        sections={name: section for name, section in sections.items() if section.blocks},
        files=sorted(name for name in files if not name.endswith((".svg", ".png"))),
    )
    files["report.html"] = to_html(page, svgs)
    files["report.md"] = to_markdown(page)
    return files, [answer, *summary] if answer else summary


def answer_of(study: Study, sections: Mapping[str, Section]) -> str:
    """The sentence that answers the sweep's question: of the section that its experiment names, else of the first one.

    A question that the sweep was given (`Sweep(question=...)`) is that of the sections of settings, which come first.
    """
    record, given = study.sweep.record, {name: one.answer for name, one in sections.items() if one.answer}
    if record is not None and not study.sweep.question:
        asked = {
            name for name, one in makers().items() if record.get("experiment") in getattr(one, "ANSWERS", ())
        }
        own = {name: answer for name, answer in given.items() if re.sub(r"-\d+$", "", name) in asked}
        given = own or given
    return next(iter(given.values()), "")


def to_html(page: Page, svgs: Mapping[str, Markup]) -> str:
    """One self-contained page: no other file, no network, and no script but its own, which it can do without."""
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    template = _environment(autoescape=True).get_template("page.html.jinja")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.render(vars(page), svgs=svgs, style=style, script=script, script_sha256=digest)


def to_markdown(page: Page) -> str:
    """The same as Markdown; figures are the .svg files beside it."""
    templates = _environment(finalize=_escaped)
    templates.filters |= {"plain": Plain, "code": _code}
    return templates.get_template("page.md.jinja").render(vars(page))


def _environment(**options: object) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,  # type: ignore[arg-type]
    )


def inline_svg(svg: bytes, caption: str) -> Markup:
    """The figure as an element of a page: it scales with the page and is named for who cannot see it."""
    text = svg.decode()
    element = text[text.index("<svg") :].strip()
    opening = element[: element.index(">")]
    scaled = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    return Markup(f'{scaled} role="img" aria-label="{escape(caption)}"{element[len(opening) :]}')


def _code(text: str) -> Plain:
    return Plain("\n".join(f"    {line}" for line in text.splitlines()))


def _escaped(value: object) -> object:
    """Text in which Markdown sees no markup, on one line."""
    if isinstance(value, Plain):
        return value
    flat = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", flat)
