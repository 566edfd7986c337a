"""Scores into a run's logs: numbers into evals.jsonl, those of every item into task_items.jsonl."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import JsonLines
from core.records import HELD_OUT_TEXT
from core.rundir import RunDirectory
from training.evaluate.loss import HeldOut, Score, Sequences
from training.evaluate.score import ItemScores, PreparedTask, summarize


def write_scores(
    log: JsonLines, directory: Path, tasks: Sequence[PreparedTask], scores: Sequence[ItemScores], **row: Any
) -> None:
    """Append task/<name>/<metric> to the log of evaluations, and every problem's scores to task_items.jsonl.

    Args:
      log: evals.jsonl of the run.
      directory: of the run.
      row: tokens and attempt.
    """
    for task, own in zip(tasks, scores, strict=True):
        write_numbers(log, f"task/{task.name}", summarize(task, own), **row)
    for task, own in zip(tasks, scores, strict=True):
        columns = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
        write_items(directory, task.name, task.fingerprint, columns, **row)


def write_numbers(log: JsonLines, prefix: str, scores: Mapping[str, Score], **row: Any) -> None:
    """Append prefix/<metric> for each score."""
    for metric, score in scores.items():
        log.append({"name": f"{prefix}/{metric}", **dataclasses.asdict(score), **row})


def write_text_items(directory: Path, slice_: HeldOut, sequences: Sequences, **row: Any) -> None:
    """Append the loss of every held-out sequence to task_items.jsonl: what two runs are compared by."""
    columns = {"nll": sequences.nats_S, "target_tokens": sequences.targets_S}
    write_items(directory, HELD_OUT_TEXT, slice_.fingerprint, columns, **row)


def write_items(
    directory: Path, name: str, fingerprint: str, columns: Mapping[str, Iterable[float]], **row: Any
) -> None:
    """Append one row with the scores of every item, one list a metric, to task_items.jsonl."""
    rounded = {metric: [_rounded(value) for value in column] for metric, column in columns.items()}
    with JsonLines(RunDirectory(directory).task_items) as items:
        items.append({"task": name, "fingerprint": fingerprint, **row, **rounded})


def _rounded(value: float) -> float | None:
    """Six digits; null where an item has no such score."""
    return None if math.isnan(value) else float(f"{value:.6g}")
