"""The held-out tasks of runs: prepared once, checked against the training text, described in tasks.json."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.errors import BadInput
from core.files import read_json, write_json
from core.records import TaskRecord
from core.rundir import RunDirectory
from data.cache import TokenCache, open_or_build
from data.config import DataConfig
from data.overlap import GRAM, Overlap, overlaps
from data.skills import parse_skills, stream_fingerprint
from data.tasks.registry import load
from training.evaluate.score import PreparedTask, prepare_task

# A problem in a hundred may stand in a large training text by accident (short sums, common brackets); more is a task
# that was trained on.
FOUND_AT_MOST = 0.01


@dataclasses.dataclass(frozen=True)
class HeldOutTasks:
    """Tasks ready to be scored, what tasks.json says of each, and the fingerprint of the training text in tokens."""

    prepared: tuple[PreparedTask, ...]
    records: dict[str, TaskRecord]
    fingerprint: str


@functools.lru_cache(maxsize=8)
def held_out_tasks(names: tuple[str, ...], count: int, data: DataConfig, cache_root: Path) -> HeldOutTasks:
    """The tasks of a run in tokens, refused where they are in its training text.

    Raises:
      BadInput: an unknown task, too few or too long problems, or a task whose text is in the training text
        although it is no positive control.
    """
    cache = open_or_build(data, cache_root)
    prepared = tuple(prepare_task(load(name), count, cache.tokenizer, data.sequence_length) for name in names)
    problems = {
        task.name: (task.fingerprint, [np.asarray(problem[0].tokens[1:]) for problem in task.problems])
        for task in prepared
    }
    found = count_overlaps(problems, data, cache, cache_root)
    trained = {skill.task.family for skill in parse_skills(data.skills)}
    records = {task.name: _record(task, found[task.name], task.task.family in trained) for task in prepared}
    for name, record in records.items():
        share = record["overlap"]["items_found"] / record["items"]
        if share > FOUND_AT_MOST and not record["positive_control"]:
            raise BadInput(
                f"task {name}: {record['overlap']['items_found']} of {record['items']} problems are in the training "
                f"text; a held-out task may have {FOUND_AT_MOST:.0%} there, and a positive control is a task "
                "that data.skills names"
            )
    return HeldOutTasks(prepared, records, cache.fingerprint)


def _record(task: PreparedTask, found: dict[str, int], trained: bool) -> TaskRecord:
    """What is known of a task before any model is scored on it."""
    return {
        "family": task.task.family,
        "items": len(task.problems),
        "chance": task.task.guess,
        "choice_chance": task.choice_chance,
        "positive_control": trained,
        "memorised": task.task.memorised,
        "fingerprint": task.fingerprint,
        "overlap": found,
    }


def count_overlaps(
    tasks: Mapping[str, tuple[str, Sequence[np.ndarray]]], data: DataConfig, cache: TokenCache, cache_root: Path
) -> dict[str, dict[str, int]]:
    """The overlap of each task with the corpus and its skills; read from disk where it was counted before.

    Args:
      tasks: by name the fingerprint, and the tokens of each problem.
    """
    result: dict[str, Overlap] = {}
    missing: dict[str, Path] = {}
    text = [cache.fingerprint, stream_fingerprint(data.skills, data.skill_tokens)]
    for name, (fingerprint, _) in tasks.items():
        path = _overlap_path(cache_root, [*text, name, fingerprint])
        if path.exists():
            result[name] = Overlap(**read_json(path))
        else:
            missing[name] = path
    if missing:
        problems = {name: tasks[name][1] for name in missing}
        fresh = overlaps(problems, [*(one.split("train").tokens for one in cache.trained_on), *cache.skills])
        for name, path in missing.items():
            with contextlib.suppress(OSError):  # a cache that is only read: counted again the next time
                write_json(path, dataclasses.asdict(fresh[name]))
        result |= fresh
    return {name: {"gram_tokens": GRAM, **dataclasses.asdict(found)} for name, found in result.items()}


def _overlap_path(cache_root: Path, decides: list[str]) -> Path:
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return cache_root / "overlap" / f"{digest}.json"


def write_records(directory: Path, records: Mapping[str, TaskRecord]) -> None:
    """Add tasks to the run's tasks.json, or replace those of the same name."""
    files = RunDirectory(directory)
    known = files.read_tasks()
    if {**known, **records} != known:
        files.write_tasks({**known, **records})


def overlap_line(name: str, record: TaskRecord) -> str:
    """One line for the screen: how much of a task stands in the training text."""
    own = record["overlap"]
    label = ", positive control (trained on)" if record["positive_control"] else ""
    return (
        f"task {name}: {own['items_found']} of {record['items']} problems and {own['grams_found']} of "
        f"{own['grams']} n-grams are in the training text{label}"
    )
