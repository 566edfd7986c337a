"""Held-out tasks: the emergence test of a sweep whose runs have scores of tasks.

A sweep without tasks costs nothing here: the test is imported where there is something to judge.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.logs.load import SweepLogs
from analysis.report.formats import csv_text
from analysis.report.section import Block, Bullets, Command, Drawing, File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.codec import typed
from core.errors import BadInput
from core.numbers import short_count
from core.reading import parse_json
from core.records import HARNESS, OF_TASKS, TaskRecord
from core.rundir import EVALUATIONS, TASKS

if TYPE_CHECKING:
    from analysis.emergence.table import TaskTable

ORDER = 130
ANSWERS = ("emergence",)
TABLE, RESULT = File("tasks.csv"), File("emergence.json")
MOST_PAGES = 4  # of curves
PICTURES = (
    *(
        Picture(
            f"emergence_curves_{page}",
            "Accuracy against parameters, the smooth null with its band, the best break or narrow rise, the onset; "
            "below each the continuous metric.",
        )
        for page in range(1, MOST_PAGES + 1)
    ),
    Picture("emergence_verdicts", "Verdict of every task."),
    Picture("emergence_seeds", "Share of seeds that succeed at each size, with 95% score intervals."),
    Picture(
        "emergence_power",
        "What this design would have called, at each size of a late break and width of a full rise.",
    ),
)

AXIS = "params"
COUNTS = {"items_found", "grams", "grams_found", "gram_tokens"}  # of an overlap


def section(study: Study) -> Section | None:
    """Verdicts, figures and overlap with the training text, where any run has a score of a task."""
    sweep, title = study.sweep, "Held-out tasks: what emerges with scale"
    scored = [run for run in sweep.usable if not run.has_doubtful(EVALUATIONS)]
    named = [f'"{prefix}'.encode() for prefix in OF_TASKS]
    if not any(name in (sweep.read(run.run, EVALUATIONS) or b"") for run in scored for name in named):
        return None
    # JAX and the test: a sweep without tasks is spared both
    from analysis.emergence.command import analyse
    from analysis.emergence.table import TaskTable, sweep_rows, tasks_from_rows

    try:
        rows, _ = sweep_rows(sweep)
        tasks = tuple(tasks_from_rows(rows, AXIS))
    except BadInput as error:
        return Section(title, (Paragraph(f"Not judged: {error}."),))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = csv_text(columns, ([row.get(name, "") for name in columns] for row in rows))
    table = TaskTable(tasks, TABLE, hashlib.sha256(text.encode()).hexdigest(), len(rows))
    result = analyse(table)
    records, damaged = _records(sweep)
    return Section(
        title=title,
        blocks=(
            *_verdicts(result),
            *_drawings(table, result),
            *_overlap(records),
            Command(f"python -m analysis.emergence {TABLE} --axis {AXIS} --out {RESULT}"),
        ),
        warnings=tuple(damaged),
        answer=_answer(result["tasks"]),
        results={TABLE: text, RESULT: result},
    )


def _answer(entries: Sequence[Mapping[str, Any]]) -> str:
    """How many tasks got each verdict, and which."""
    by_verdict: dict[str, list[str]] = {}
    for entry in entries:
        by_verdict.setdefault(entry["verdict"], []).append(entry["task"])
    said = [f"{len(tasks)} {verdict} ({', '.join(tasks)})" for verdict, tasks in by_verdict.items()]
    return f"What appears with scale, of {len(entries)} tasks: {'; '.join(said)}."


def _verdicts(result: Mapping[str, Any]) -> Iterator[Block]:
    entries, settings = result["tasks"], result["settings"]
    yield Paragraph(
        f"Does an ability depart from the smooth law in parameters, and is it the model or the metric? Sharp means "
        f"10% to 90% of a rise within fewer than {settings['W0']:g} decades, and within half of the "
        f"decades that the sizes span; false discovery rate "
        f"{settings['alpha']:g} over {len(entries)} tasks; {settings['bootstrap']} replicates, seed {settings['seed']}."
    )
    yield Bullets([entry["sentence"] for entry in entries])
    yield Rows.of(
        entries,
        {
            "task": lambda one: one["task"],
            "verdict": lambda one: one["verdict"],
            "gain": lambda one: _said(one["effect"], "gain", ".3f"),
            "q, delayed onset": lambda one: _said(one["q"], "delayed_onset"),
            "q, sharp": lambda one: _said(one["q"], "sharp"),
            "onset at": lambda one: (
                " to ".join(map(short_count, one["onset"]["interval"])) if one["onset"] else ""
            ),
            "continuous metric": lambda one: one["metric_check"]["status"],
            "break that 80% see": lambda one: _said(one["power"], "smallest_break"),
        },
        text=("verdict", "continuous metric"),
    )


def _said(part: Mapping[str, float | None] | None, key: str, form: str = ".3g") -> str:
    value = part[key] if part else None
    return "" if value is None else format(value, form)


def _drawings(table: "TaskTable", result: dict[str, Any]) -> Iterator[Drawing]:
    # as above
    from analysis.emergence.figures import drawings

    pictures = {picture.name: picture for picture in PICTURES}
    for name, figure in drawings(table, result):
        if name in pictures:
            yield pictures[name].by(lambda figure=figure: figure, table.sha256)  # type: ignore[misc]


def _records(sweep: SweepLogs) -> tuple[dict[str, TaskRecord], list[str]]:
    """What the runs' tasks.json say of each task, and which cannot be read.

    Runs may have trained on different text: the record that found most of a task's problems there counts.
    """
    found: dict[str, TaskRecord] = {}
    damaged = []
    for run in sweep.usable:
        if run.has_doubtful(TASKS):
            damaged.append(f"{run.run}/{TASKS}: damaged and left out")
            continue
        try:
            records = typed(dict[str, TaskRecord], parse_json(sweep.read(run.run, TASKS) or b"{}"))
        except ValueError:
            records = None
        counted = {
            name: one
            for name, one in (records or {}).items()
            if one["overlap"] or not name.startswith(HARNESS)  # else the training text was not there
        }
        if records is None or not all(record["overlap"].keys() >= COUNTS for record in counted.values()):
            damaged.append(f"{run.run}/{TASKS}: damaged and left out")
            continue
        for name, record in counted.items():
            if name not in found or _found(record) > _found(found[name]):
                found[name] = record
    return found, damaged


def _found(record: TaskRecord) -> int:
    return record["overlap"]["items_found"]


def _overlap(records: Mapping[str, TaskRecord]) -> Sequence[Block]:
    if not records:
        return ()
    gram = max(record["overlap"]["gram_tokens"] for record in records.values())
    table = Rows.of(
        sorted(records.items()),
        {
            "task": lambda one: one[0],
            "label": lambda one: "positive control" if one[1]["positive_control"] else "held out",
            "problems": lambda one: str(one[1]["items"]),
            "problems found": lambda one: str(_found(one[1])),
            "n-grams": lambda one: str(one[1]["overlap"]["grams"]),
            "n-grams found": lambda one: str(one[1]["overlap"]["grams_found"]),
        },
        text=("label",),
    )
    words = (
        f"How much of each task stands in the training text: whole problems, and runs of {gram} tokens. A positive "
        "control is trained on."
    )
    return Paragraph(words), table
