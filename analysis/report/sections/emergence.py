"""Held-out tasks: the emergence test of a sweep whose runs have scores of tasks.

A sweep without tasks costs nothing here: the test is imported where there is something to judge.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.logs.load import Sweep
from analysis.report.formats import csv_text
from analysis.report.section import Block, Bullets, Command, Drawing, File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.errors import BadInput
from core.numbers import short_count
from core.rundir import EVALUATIONS, TASKS

if TYPE_CHECKING:
    from analysis.emergence.table import TaskTable

ORDER = 130
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


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How much of a task stands in the training text: of its `items` whole, of its `grams` of `gram_tokens` each."""

    positive_control: bool
    items: int
    items_found: int
    grams: int
    grams_found: int
    gram_tokens: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Overlap":
        """From an entry of tasks.json."""
        own = record["overlap"]
        counts = (record["items"], own["items_found"], own["grams"], own["grams_found"], own["gram_tokens"])
        return cls(bool(record["positive_control"]), *map(int, counts))


def section(study: Study) -> Section | None:
    """Verdicts, figures and overlap with the training text, where any run has a score of a task."""
    sweep, title = study.sweep, "Held-out tasks: what emerges with scale"
    if not any(b'"task/' in (sweep.read(run.run, EVALUATIONS) or b"") for run in sweep.usable):
        return None
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
    overlaps, damaged = _overlaps(sweep)
    return Section(
        title=title,
        blocks=(
            *_verdicts(result),
            *_drawings(table, result),
            *_overlap_blocks(overlaps),
            Command(f"python -m analysis.emergence {TABLE} --axis {AXIS} --out {RESULT}"),
        ),
        warnings=tuple(damaged),
        results={TABLE: text, RESULT: result},
    )


def _verdicts(result: Mapping[str, Any]) -> Iterator[Block]:
    entries, settings = result["tasks"], result["settings"]
    yield Paragraph(
        f"Does an ability depart from the smooth law in parameters, and is it the model or the metric? Sharp means "
        f"10% to 90% of a rise within fewer than {settings['W0']:g} decades; false discovery rate "
        f"{settings['alpha']:g} over {len(entries)} tasks; {settings['bootstrap']} replicates, seed {settings['seed']}."
    )
    yield Bullets([entry["sentence"] for entry in entries])
    yield Rows(
        ("task", "verdict", "gain", "q, delayed onset", "q, sharp", "onset at", "continuous metric",
         "break that 80% see"),
        [_verdict_row(entry) for entry in entries],
        text=frozenset({"verdict", "continuous metric"}),
    )  # fmt: skip


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
        " to ".join(map(short_count, onset["interval"])) if onset else "",
        entry["metric_check"]["status"],
        shown(power["smallest_break"]) if power else "",
    )


def _drawings(table: "TaskTable", result: dict[str, Any]) -> Iterator[Drawing]:
    from analysis.emergence.figures import drawings

    pictures = {picture.name: picture for picture in PICTURES}
    for name, figure in drawings(table, result):
        if name in pictures:
            yield pictures[name].by(lambda figure=figure: figure, table.sha256)  # type: ignore[misc]


def _overlaps(sweep: Sweep) -> tuple[dict[str, Overlap], list[str]]:
    """What the runs' tasks.json say of each task, and which cannot be read.

    Runs may have trained on different text: the one that holds most of a task's problems counts.
    """
    found: dict[str, Overlap] = {}
    damaged = []
    for run in sweep.usable:
        try:
            for name, record in json.loads(sweep.read(run.run, TASKS) or b"{}").items():
                one = Overlap.of(record)
                if name not in found or one.items_found > found[name].items_found:
                    found[name] = one
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged.append(f"{run.run}/{TASKS}: damaged and left out")
    return found, damaged


def _overlap_blocks(overlaps: Mapping[str, Overlap]) -> Sequence[Block]:
    if not overlaps:
        return ()
    gram = max(one.gram_tokens for one in overlaps.values())
    rows = [
        (
            name,
            "positive control" if one.positive_control else "held out",
            *map(str, (one.items, one.items_found, one.grams, one.grams_found)),
        )
        for name, one in sorted(overlaps.items())
    ]
    return (
        Paragraph(
            "How much of each task stands in the training text: whole problems, and runs of "
            f"{gram} tokens. A positive control is trained on."
        ),
        Rows(
            ("task", "label", "problems", "problems found", "n-grams", "n-grams found"),
            rows,
            text=frozenset({"label"}),
        ),
    )
