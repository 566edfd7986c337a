"""The page of a watched sweep, in parts: a part whose text has not changed is not touched in the browser."""

import base64
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import analysis.report
from core.files import whole_rows
from core.numbers import finite, short_count
from core.reading import LOG_BYTES, Unreadable, opened, printable
from core.records import LOSS
from core.rundir import REPORT, RunDirectory
from launchers.status import RunStatus
from launchers.watch.changed import WhereChanged, signature_of
from launchers.watch.curves import Curve, curves_of, figure
from launchers.watch.sentences import headline, progress
from launchers.watch.totals import ORDER
from launchers.watch.watched import Look, Watched

TEMPLATES = Path(__file__).parent / "templates"
REPORT_STYLE = Path(analysis.report.__path__[0]) / "templates" / "page.css"
PARTS = ("head", "problems", "running", "curves", "newest", "all", "about")
TEXT = ("run", "state", "name", "note")  # columns that are no numbers
MOST_ROWS = 200
MOST_FAILED = 20
MOST_WARNINGS = 10
NEWEST = 8
TAIL_BYTES = 1 << 13
REPORT_PAGE = f"{REPORT}/report.html"


@dataclasses.dataclass(frozen=True)
class View:
    """What the templates are given."""

    directory: str
    problem: str = ""
    headline: str = ""
    share: str = "0"
    progress: str = ""
    failed: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    running: Sequence[Sequence[str]] = ()
    figures: Sequence[tuple[Markup, str]] = ()
    newest: Sequence[Sequence[str]] = ()
    all: Sequence[Sequence[str]] = ()
    more: int = 0
    question: str = ""
    command: str = ""
    report: str = ""


class WatchPage:
    """The page of a sweep's directory; drawn again only where the logs, or what holds a run, have changed.

    Attributes:
      drawn: how often it was drawn.
    """

    def __init__(self, directory: Path):
        self.directory, self.drawn = directory, 0
        self._watched = Watched(directory)
        self._curves, self._newest = WhereChanged(curves_of), WhereChanged(newest_evaluations)
        self._parts: tuple[object, Mapping[str, str]] = None, {}

    def parts(self) -> Mapping[str, str]:
        """HTML of every part, by name."""
        look = self._watched.look()
        report = report_page(self.directory)
        now = (
            tuple((row, signature_of(self.directory / row.run)) for row in look.rows),
            *(look.problem, look.warnings, look.record, report and os.stat(report).st_mtime_ns),
        )
        if now != self._parts[0] or not self._parts[1]:
            view, macros = self._view(look, report), vars(_macros())
            self._parts = now, {name: str(macros[name](view)).strip() for name in PARTS}
            self.drawn += 1
        return self._parts[1]

    def html(self, every: float) -> tuple[str, str]:
        """The whole page, which looks for changes every so many seconds, and its Content-Security-Policy."""
        style = REPORT_STYLE.read_text(encoding="utf-8") + (TEMPLATES / "page.css").read_text(encoding="utf-8")
        script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
        page = (
            _environment()
            .get_template("page.html.jinja")
            .render(
                name=_name(self.directory),
                parts={name: Markup(text) for name, text in self.parts().items()},
                style=Markup(style),
                script=Markup(script),
                every=f"{every:g}",
                refresh=max(1, round(every)),
            )
        )
        policy = (
            f"default-src 'none'; connect-src 'self'; img-src data:; style-src '{_digest(style)}'; "
            f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return page, policy

    def _view(self, look: Look, report: Path | None) -> View:
        if look.problem:
            return View(str(self.directory), look.problem)
        rows = sorted(look.rows, key=lambda row: (ORDER.index(row.state), row.run))
        failed = [(row.run, row.note) for row in rows if row.state in ("failed", "broken")]
        curves = {row.run: self._curves(self.directory / row.run) for row in rows}
        warnings = [*look.warnings, *(said for one in curves.values() if one for said in one.warnings)]
        record: Mapping[str, Any] = look.record or {}
        return View(
            directory=str(self.directory),
            headline=headline(look.totals),
            share=f"{look.totals.done / look.totals.all if look.totals.all else 0:.4f}",
            progress=progress(look.totals),
            failed=_most(failed, MOST_FAILED, lambda more: (f"{more} more", "")),
            warnings=_most(warnings, MOST_WARNINGS, lambda more: f"and {more} more"),
            running=[_running(row, look.last.get(row.run, {})) for row in rows if row.state == "running"][
                :MOST_ROWS
            ],
            figures=list(_figures(rows, curves)),
            newest=self._newest_of(rows),
            all=[_row(row) for row in rows[:MOST_ROWS]],
            more=max(0, len(rows) - MOST_ROWS),
            question=printable(record.get("question", "")),
            command=printable(record.get("command", ""), most=10_000),
            report=f"{datetime.datetime.fromtimestamp(os.stat(report).st_mtime):%Y-%m-%d %H:%M}"
            if report
            else "",
        )

    def _newest_of(self, rows: Sequence[RunStatus]) -> list[list[str]]:
        """Of the runs whose logs were written last."""
        written = [(_written(self.directory / row.run), row.run) for row in rows]
        found = [
            row
            for _, run in sorted(written, reverse=True)[:NEWEST]
            for row in self._newest(self.directory / run)
        ]
        return found[:NEWEST]


def _most(items: Sequence[Any], most: int, more: Any) -> list[Any]:
    return [*items[:most], *([more(len(items) - most)] if len(items) > most else [])]


def _running(row: RunStatus, last: Mapping[str, Any]) -> list[str]:
    rate, gradient, speed = (finite(last.get(key)) for key in ("lr", "grad_norm", "tokens_per_second"))
    return [
        row.run,
        short_count(row.tokens),
        short_count(row.total_tokens or 0),
        "" if row.loss is None else f"{row.loss:.4f}",
        "" if rate is None else f"{rate:.3g}",
        "" if gradient is None else f"{gradient:.3g}",
        "compiling" if not row.tokens else "" if speed is None else short_count(speed),
    ]


def _row(row: RunStatus) -> list[str]:
    loss = "" if row.loss is None else f"{row.loss:.4f}"
    total = short_count(row.total_tokens) if row.total_tokens else ""
    return [row.run, row.state, short_count(row.tokens), total, loss, row.note]


def _figures(rows: Sequence[RunStatus], curves: Mapping[str, Any]) -> Iterator[tuple[Markup, str]]:
    for which, title, label in (
        ("training", "Training loss", "training loss (nats per token)"),
        ("held_out", "Held-out loss", "validation loss (nats per token)"),
    ):
        drawn = [
            Curve(row.run, one.size, tokens, loss, live=row.state == "running")
            for row in rows
            if (one := curves[row.run]) is not None
            for tokens, loss in [getattr(one, which)]
            if tokens.size
        ]
        if svg := figure(drawn, title, label):
            yield (
                svg,
                f"{title} of {'running runs, and others' if any(c.live for c in drawn) else 'the runs'} so far.",
            )


def newest_evaluations(path: Path) -> list[list[str]]:
    """The last rows of a run's evals.jsonl, the newest first; none where it cannot be read."""
    try:
        with opened(RunDirectory(path).evaluations, LOG_BYTES) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            rows, _ = whole_rows(file.read().split(b"\n"))
    except (FileNotFoundError, Unreadable):
        return []
    good = [(row, finite(row.get("value")), finite(row.get("tokens"))) for row in rows]
    return [
        [path.name, short_count(tokens), printable(str(row.get("name"))), f"{value:.4f}"]
        for row, value, tokens in sorted(
            reversed(good), key=lambda one: (-(one[2] or 0), one[0].get("name") != LOSS)
        )
        if value is not None and tokens is not None
    ][:3]


def _written(path: Path) -> float:
    with contextlib.suppress(OSError):
        return os.stat(RunDirectory(path).evaluations).st_mtime
    return 0.0


def report_page(directory: Path) -> Path | None:
    """The sweep's report.html, where there is one that lies in the sweep itself and not behind a link."""
    page = directory / REPORT_PAGE
    own = not page.is_symlink() and not page.parent.is_symlink() and page.is_file()
    return page if own else None


def _name(directory: Path) -> str:
    return printable(directory.name or directory.absolute().name)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["TEXT"] = TEXT
    return made


@functools.cache
def _macros() -> Any:
    return _environment().get_template("parts.html.jinja").module
