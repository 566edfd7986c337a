"""The files of a report: its page in two formats, tables and results."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.style import count_text
from analysis.logs.load import Sweep
from analysis.logs.load_run import BITS_PER_BYTE, Run, at, number
from analysis.logs.table import Table
from analysis.report.document import (
    Block,
    Bullets,
    Command,
    Heading,
    Paragraph,
    Picture,
    Rows,
    to_html,
    to_markdown,
)
from analysis.report.pictures import pictures
from analysis.report.sections import Section
from analysis.report.sections.emergence import emergence_part
from analysis.report.sections.learning_rate import learning_rate_part
from analysis.report.study import Study
from analysis.report.words import summary, warnings
from core.numbers import number as said_number
from core.numbers import percent, span

MOST_ROWS = 200  # of runs in the page; runs.csv has them all
RUN_COLUMNS = (
    "run", "status", "parameters", "tokens", "FLOPs", "loss", "bits per byte", "seconds", "tokens/s", "attempts",
)  # fmt: skip


def contents(study: Study) -> tuple[dict[str, str | bytes], list[str]]:
    """Name and content of every file of the report, and its summary."""
    drawn, said = pictures(study), summary(study)
    files: dict[str, str | bytes] = {"runs.csv": _runs_csv(study.sweep)}
    if study.table is not None:
        files["table.csv"] = _table_csv(study.table)
        source = {
            "path": "table.csv",
            "sha256": hashlib.sha256(str(files["table.csv"]).encode()).hexdigest(),
            "rows": study.table.rows,
        }
        if study.fit is not None:
            files["fit.json"] = _json({**study.fit.to_json(), "input": source})
        if study.isoflop is not None:
            files["isoflop.json"] = _json(study.isoflop.to_json(source))
    for section in study.sections:
        files |= {name: _json(value) for name, value in section.results.items()}
    for picture in drawn.values():
        files[f"{picture.name}.svg"] = picture.svg
        files[f"{picture.name}.png"] = picture.png
    title = f"Scaling report: {study.sweep.name}"
    tasks, of_tasks = emergence_part(study.sweep)
    rates, of_rates, about_rates = learning_rate_part(study.sweep, study.groups)
    files |= of_tasks | of_rates
    said = [*said, *about_rates]
    page = list(_page(study, drawn, said, title, sorted(files), [*rates, *tasks]))
    files["report.html"] = to_html(title, page)
    files["report.md"] = to_markdown(page)
    return files, said


def _page(
    study: Study,
    drawn: Mapping[str, Picture],
    said: Sequence[str],
    title: str,
    files: Sequence[str],
    parts: Sequence[Block],
) -> Iterable[Block]:
    def shown(*names: str) -> list[Block]:
        return [drawn[name] for name in names if name in drawn]

    yield Heading(title, 1)
    yield Bullets(said)
    doubts = warnings(study)
    yield Heading("Warnings")
    yield Bullets(doubts) if doubts else Paragraph("None.")
    for section in study.sections:
        if section.front:
            yield from _section(section, drawn)
    yield Heading("Curves")
    curves = shown("loss_tokens", "loss_params", "evaluations", "training")
    yield from curves or [Paragraph(study.why_no_curves)]
    if study.registered is not None:
        yield Heading("Forecast")
        yield Paragraph(study.registered.sentence)
        yield from shown("forecast")
        if study.registered.registered:
            yield Paragraph(study.registered.registered)
    yield Heading("The law")
    if study.fit is None:
        yield Paragraph(f"No law is fitted: {study.why_no_fit}.")
    else:
        yield from _law(study)
    yield from shown("residuals", "sensitivity")
    if study.fit is not None:
        yield Heading("Compute-optimal frontier")
        yield from shown("frontier")
        yield Heading("Back-test")
        yield from shown("backtest") or [Paragraph(f"None: {study.why_no_backtest}.")]
    yield Heading("isoFLOP valleys")
    yield from _valleys(study)
    yield from shown("isoflop", "envelope")
    for section in study.sections:
        if not section.front:
            yield from _section(section, drawn)
    yield from parts
    yield Heading("Runs")
    yield from _runs(study.sweep)
    yield Heading("How to make this again")
    yield Command(f"python -m analysis.report runs/{study.sweep.name}")
    yield Paragraph(
        f"Input: the logs of {len(study.sweep.runs)} runs, SHA-256 {study.source}. The same logs give the same bytes. "
        f"Beside this page: {', '.join(name for name in files if not name.endswith(('.png', '.svg')))}."
    )


def _section(section: Section, drawn: Mapping[str, Picture]) -> Iterable[Block]:
    yield Heading(section.title)
    yield from section.blocks
    yield from (drawn[drawing.name] for drawing in section.drawings)


def _law(study: Study) -> Iterable[Block]:
    fit = study.fit
    assert fit is not None
    how = "pair bootstrap" if fit.draws_kind == "bootstrap" else "asymptotic, profile likelihood"
    yield Paragraph(
        f"L(N, D) = E + A / N^alpha + B / D^beta ({fit.law.source}), {fit.objective.robust} on {fit.objective.space} "
        f"loss with delta {fit.objective.delta:g}, {fit.n} runs, objective {fit.value:.6g}. N counts parameters "
        f"without the embedding table and with the head. Intervals: {fit.level:.0%}, {how}. "
        f"{fit.starts.get('reached_best', '?')} of {fit.starts.get('tried', '?')} starts reached the best objective."
    )
    rows = []
    for name in fit.parameter_names:
        others = [values[name] for _, values in study.choices[1:]]
        moved = f"{said_number(min(others))} to {said_number(max(others))}" if others else ""
        rows.append(
            (
                name,
                said_number(fit.parameters[name], 4),
                said_number(fit.standard_errors[name]),
                span(fit.intervals[name], 4),
                moved,
                "yes" if fit.identified[name] else "no",
            )
        )
    yield Rows(
        (
            "parameter",
            "value",
            "standard error",
            f"{fit.level:.0%} interval",
            "over other choices",
            "identified",
        ),
        rows,
    )
    names = fit.parameter_names
    yield Rows(
        ("choice", *names),
        [(label, *(said_number(values[name], 4) for name in names)) for label, values in study.choices],
    )
    if study.rivals:
        yield Paragraph("Laws compared by least squares on log loss; lower AICc is better.")
        yield Rows(
            ("law", "parameters", "unexplained (one standard deviation)", "AICc above the best", "exponents"),
            [
                (
                    one.fit.law.name,
                    str(len(one.fit.parameters)),
                    percent(one.fit.residual_sd),
                    f"{one.delta_aicc:.1f}",
                    ", ".join(
                        f"{name} {said_number(value)}"
                        for name, value in one.fit.parameters.items()
                        if name.startswith(("alpha", "beta"))
                    ),
                )
                for one in study.rivals
            ],
        )


def _valleys(study: Study) -> Iterable[Block]:
    found = study.isoflop
    if found is None:
        yield Paragraph(f"None: {study.why_no_isoflop}.")
        return
    usable = [valley for valley in found.valleys if valley.ok or "too few sizes" not in valley.why]
    if not usable:
        yield Paragraph("No budget has enough sizes.")
        return
    yield Rows(
        ("FLOPs", "sizes", "best size", "its tokens", "its loss", "interval of the size", "why not"),
        [
            (
                f"{valley.flops:.3g}",
                str(valley.sizes),
                count_text(valley.params_opt) if valley.params_opt else "",
                count_text(valley.tokens_opt) if valley.tokens_opt else "",
                f"{valley.loss_opt:.4f}" if valley.loss_opt else "",
                " to ".join(map(count_text, valley.params_interval)) if valley.params_interval else "",
                valley.why,
            )
            for valley in usable[:MOST_ROWS]
        ],
        text=frozenset({"why not"}),
    )


def _runs(sweep: Sweep) -> Iterable[Block]:
    ordered = sorted(
        sweep.runs, key=lambda run: (run.status == "complete", run.count() or 0.0, run.tokens or 0.0, run.run)
    )
    yield Rows(
        RUN_COLUMNS, [_run_row(run, pretty=True) for run in ordered[:MOST_ROWS]], text=frozenset({"status"})
    )
    if len(ordered) > MOST_ROWS:
        yield Paragraph(f"And {len(ordered) - MOST_ROWS} more in runs.csv.")


def _run_row(run: Run, pretty: bool) -> tuple[str, ...]:
    def count(value: float | None) -> str:
        return "" if value is None else count_text(value) if pretty else repr(value)

    def plain(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form) if pretty else repr(value)

    status = (
        ("trunk" if run.trunk else run.status) if run.status == "complete" else f"{run.status}: {run.cause}"
    )
    return (
        run.run,
        status,
        count(run.count()),
        count(run.tokens),
        plain(run.flops(), ".3g"),
        plain(run.final(), ".4f"),
        plain(run.final(BITS_PER_BYTE), ".4f"),
        plain(number(at(run.result, "wall_seconds")), ".1f"),
        count(number(at(run.result, "tokens_per_second"))),
        plain(number(at(run.result, "attempts")), "g"),
    )


def _runs_csv(sweep: Sweep) -> str:
    return _csv(RUN_COLUMNS, (_run_row(run, pretty=False) for run in sweep.runs))


def _table_csv(table: Table) -> str:
    names = list(table.columns)
    values = [
        column.tolist() if name == "run" else [repr(float(value)) for value in column]
        for name, column in table.columns.items()
    ]
    return _csv(names, zip(*values, strict=True))


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False, default=_number_of) + "\n"


def _number_of(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a result file")
