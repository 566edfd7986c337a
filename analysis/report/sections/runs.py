"""Every run, and the table that the fits read."""

import dataclasses
from collections.abc import Mapping, Sequence

from analysis.logs.load_run import Run, at, number
from analysis.logs.short_names import last_parts, short_values
from analysis.logs.table import Table
from analysis.report.formats import csv_text
from analysis.report.section import Block, File, Paragraph, Rows, Section
from analysis.report.study import Study
from analysis.settings.varied import columns_of
from core.numbers import short_count
from core.records import BITS_PER_BYTE

ORDER = 1000
RUNS = File("runs.csv")
TABLE = File("table.csv")
COLUMNS = (
    "run", "status", "parameters", "tokens", "FLOPs", "loss", "bits per byte", "seconds", "tokens/s", "attempts",
)  # fmt: skip

# Of runs.csv alone, where any run says; empty for one of an earlier version that does not.
SHOWN = ("params", "tokens", "flops", "loss")  # of a table of one's own
READING = ("corpus tokens", "unique tokens", "epochs")

MOST_ROWS = 200  # in the page; runs.csv has them all


def section(study: Study) -> Section:
    """The runs, unfinished ones first."""
    if study.of_table and study.table is not None:
        return _of_table(study.table, study)
    runs = study.sweep.runs
    plain: list[tuple[object, ...]] = [_row(run, pretty=False) for run in runs]
    columns: tuple[str, ...] = COLUMNS
    if any(run.reading for run in runs):
        plain = [(*row, *_reading(run)) for row, run in zip(plain, runs, strict=True)]
        columns += READING
    settings = columns_of(study.varied_keys, runs)
    plain = [(*row, *own) for row, own in zip(plain, _rows_of(settings, len(runs)), strict=True)]
    results: dict[str, str] = {RUNS: csv_text((*columns, *settings), plain)}
    for one in study.parts or (study,):
        if one.table is not None:
            results[one.table_name] = one.table_csv
    if study.alone and not study.parts:
        results[TABLE] = _every_setting(study)
    ordered = sorted(
        runs, key=lambda run: (run.status == "complete", run.count() or 0.0, run.tokens or 0.0, run.run)
    )
    shown = ordered[:MOST_ROWS]
    shorts = last_parts(study.varied_keys)
    header = (COLUMNS[0], *(shorts[key] for key in study.varied_keys), *COLUMNS[1:])
    values = columns_of(study.varied_keys, shown)
    own = _rows_of({key: short_values(texts) for key, texts in values.items()}, len(shown))
    rows = [
        (row[0], *more, *row[1:]) for row, more in zip((_row(run, True) for run in shown), own, strict=True)
    ]
    if any(run.reading and run.reading.repeats for run in runs):
        header = (*header, "epochs")
        rows = [
            (*row, format(run.reading.epochs, ".3g") if run.reading else "")
            for row, run in zip(rows, shown, strict=True)
        ]
    blocks: list[Block] = [Rows(header, rows, text=frozenset({"status"}))]
    if len(ordered) > MOST_ROWS:
        blocks.append(Paragraph(f"And {len(ordered) - MOST_ROWS} more in {RUNS}."))
    return Section("Runs", tuple(blocks), results=results)


def _rows_of(columns: Mapping[str, Sequence[str]], rows: int) -> list[tuple[str, ...]]:
    return list(zip(*columns.values(), strict=True)) if columns else [()] * rows


def _every_setting(study: Study) -> str:
    """A table of the usable runs of all groups, where no group has one of its own: settings are columns of it."""
    runs = study.sweep.usable
    columns: dict[str, Sequence[object]] = {
        "run": [run.run for run in runs],
        "params": [run.count() for run in runs],
        "tokens": [run.tokens for run in runs],
        "loss": [run.final() for run in runs],
        "flops": [run.flops() for run in runs],
        "seed": [number(run.spec.get("seed")) for run in runs],
        **columns_of(study.varied_keys, runs),
    }
    return csv_text(list(columns), zip(*columns.values(), strict=True))


def _of_table(table: Table, study: Study) -> Section:
    """The rows of a table of one's own."""
    names = [name for name in ("run", *SHOWN) if name in table.columns]
    columns = [table.columns[name].tolist() for name in names]
    rows = [
        tuple(
            value if name == "run" else f"{value:.4f}" if name == "loss" else short_count(value)
            for name, value in zip(names, row, strict=True)
        )
        for row in list(zip(*columns, strict=True))[:MOST_ROWS]
    ]
    more = [Paragraph(f"And {table.rows - MOST_ROWS} more in {TABLE}.")] * (table.rows > MOST_ROWS)
    return Section("Rows", (Rows(names, rows), *more), results={TABLE: study.table_csv})


def _reading(run: Run) -> tuple[object, ...]:
    reading = run.reading
    return (None,) * len(READING) if reading is None else dataclasses.astuple(reading)


def _row(run: Run, pretty: bool) -> tuple[str, ...]:
    def count(value: float | None) -> str:
        return "" if value is None else short_count(value) if pretty else repr(value)

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
