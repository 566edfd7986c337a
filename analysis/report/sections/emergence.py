"""What a report says of held-out tasks: the emergence test of a sweep whose runs have task scores.

A sweep without tasks costs nothing here: the test is imported where there is something to judge.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.figures.style import count_text, render
from analysis.logs.load import Sweep
from analysis.logs.load_run import Run
from analysis.report.command import EMERGENCE_PICTURES
from analysis.report.document import Block, Bullets, Command, Heading, Paragraph, Picture, Rows
from core.errors import BadInput
from core.records import TaskRecord
from core.rundir import EVALUATIONS, RunDirectory

AXIS = "params"
TABLE, RESULT = "tasks.csv", "emergence.json"
CAPTIONS = {
    "emergence_curves": "Accuracy against parameters, the smooth null with its band, the best break or narrow rise, "
    "the onset; below each the continuous metric.",
    "emergence_verdicts": "Verdict of every task.",
    "emergence_seeds": "Share of seeds that succeed at each size, with 95% score intervals.",
    "emergence_power": "What this design would have called, at each size of a late break and width of a full rise.",
}


def emergence_part(sweep: Sweep) -> tuple[list[Block], dict[str, str | bytes]]:
    """The section on held-out tasks and its files; both empty where no run has a score of a task."""
    if not any(_has_task(sweep, run) for run in sweep.usable):
        return [], {}
    from analysis.emergence.command import analyse
    from analysis.emergence.table import TaskTable, sweep_rows, tasks_from_rows

    heading = Heading("Held-out tasks: what emerges with scale")
    try:
        rows, _ = sweep_rows(sweep)
        tasks = tuple(tasks_from_rows(rows, AXIS))
    except BadInput as error:
        return [heading, Paragraph(f"Not judged: {error}.")], {}
    text = _csv(rows)
    table = TaskTable(tasks, TABLE, hashlib.sha256(text.encode()).hexdigest(), len(rows))
    result = analyse(table)
    files: dict[str, str | bytes] = {TABLE: text, RESULT: json.dumps(result, indent=1, allow_nan=False) + "\n"}
    drawn = _pictures(table, result)
    for picture in drawn:
        files |= {f"{picture.name}.svg": picture.svg, f"{picture.name}.png": picture.png}
    return [heading, *_blocks(result, _records(sweep), drawn)], files


def _has_task(sweep: Sweep, run: Run) -> bool:
    return b'"task/' in (sweep.read(run.run, EVALUATIONS) or b"")


def _records(sweep: Sweep) -> dict[str, TaskRecord]:
    """What the runs' tasks.json say of each task; the run with the most of it in its training text speaks."""
    found: dict[str, TaskRecord] = {}
    for run in sweep.usable:
        for name, record in RunDirectory(run.path).read_tasks().items():
            if name not in found or record["overlap"]["items_found"] > found[name]["overlap"]["items_found"]:
                found[name] = record
    return found


def _blocks(result: dict[str, Any], records: Mapping[str, Any], drawn: Sequence[Picture]) -> Iterable[Block]:
    entries, settings = result["tasks"], result["settings"]
    yield Paragraph(
        f"Does an ability depart from the smooth law in parameters, and is it the model or the metric? Sharp means "
        f"10% to 90% of a rise within fewer than {settings['W0']:g} decades; false discovery rate "
        f"{settings['alpha']:g} over {len(entries)} tasks; {settings['bootstrap']} replicates, seed {settings['seed']}."
    )
    yield Bullets([entry["sentence"] for entry in entries])
    yield Rows(
        (
            "task",
            "verdict",
            "gain",
            "q, delayed onset",
            "q, sharp",
            "onset at",
            "continuous metric",
            "break that 80% see",
        ),
        [_verdict_row(entry) for entry in entries],
        text=frozenset({"verdict", "continuous metric"}),
    )
    yield from drawn
    if records:
        gram = max(record["overlap"]["gram_tokens"] for record in records.values())
        yield Paragraph(
            "How much of each task stands in the training text: whole problems, and runs of "
            f"{gram} tokens. A positive control is trained on."
        )
        yield Rows(
            ("task", "label", "problems", "problems found", "n-grams", "n-grams found"),
            [_overlap_row(name, record) for name, record in sorted(records.items())],
            text=frozenset({"label"}),
        )
    yield Command(f"python -m analysis.emergence {TABLE} --axis {AXIS} --out {RESULT}")


def _verdict_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    def shown(value: float | None, form: str = ".3g") -> str:
        return "" if value is None else format(value, form)

    onset, power, effect = entry["onset"], entry["power"], entry["effect"]
    return (
        entry["task"],
        entry["verdict"],
        shown(effect["gain"], ".3f") if effect else "",
        shown(entry["q"]["delayed_onset"]),
        shown(entry["q"]["sharp"]),
        " to ".join(map(count_text, onset["interval"])) if onset else "",
        entry["metric_check"]["status"],
        shown(power["smallest_break"]) if power else "",
    )


def _overlap_row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    own = record["overlap"]
    label = "positive control" if record["positive_control"] else "held out"
    return (name, label, *map(str, (record["items"], own["items_found"], own["grams"], own["grams_found"])))


def _pictures(table: Any, result: dict[str, Any]) -> list[Picture]:
    from analysis.emergence.figures import drawings

    found = []
    for name, figure in drawings(table, result):
        if name in EMERGENCE_PICTURES:
            caption = CAPTIONS["emergence_curves" if name.startswith("emergence_curves") else name]
            found.append(Picture(name, caption, *render(figure, name, table.sha256)))
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
