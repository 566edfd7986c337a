"""Rows that the logs of a run lack although a checkpoint claims them: a power cut, a full disk or a person took them.

An evaluation that is missing is computed again from the checkpoint of its mark. Where there is none, and where steps
of the last 5% are missing, whose mean is the run's training loss, the run goes on from the last checkpoint before
them. A run is never complete without them.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.numbers import finite
from core.records import LOSS
from core.rundir import RunDirectory
from training.spec import RunSpec

# The share of a run at its end whose mean loss is its training loss.
TAIL = 0.95


class RowsAreLost(RuntimeError):
    """What the logs lack cannot be had again from the checkpoints that are left."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """How a run gets the rows again that it lacks.

    Attributes:
      again: marks to evaluate from their own checkpoints, ascending.
      before: the run goes on from the last checkpoint before this token count; None for the newest.
    """

    again: tuple[int, ...] = ()
    before: int | None = None


def tail_steps(spec: RunSpec) -> range:
    """Token counts of the steps whose mean loss is the training loss."""
    start, step = spec.branch_at_tokens or 0, spec.batch_tokens
    return range(max(start, int(TAIL * spec.tokens) // step * step) + step, spec.tokens + 1, step)


def losses_of(files: RunDirectory) -> dict[int, float]:
    """Loss by tokens, the last attempt's where there are several; rows that are none are left out."""
    rows: Sequence[Mapping[str, Any]] = files.read_metrics()[0]
    return {
        tokens: loss
        for row in rows
        if (tokens := _tokens(row)) and (loss := finite(row.get("loss"))) is not None
    }


def evaluations_of(files: RunDirectory) -> dict[int, dict[str, float]]:
    """Evaluated numbers by tokens and name, likewise; those of the held-out slice are finite."""
    rows: Sequence[Mapping[str, Any]] = files.read_evaluations()[0]
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        tokens, name, value = _tokens(row), row.get("name"), row.get("value")
        number = finite(value) if name == LOSS else value
        if tokens is not None and isinstance(name, str) and isinstance(number, int | float):
            found.setdefault(tokens, {})[name] = number
    return found


def _tokens(row: Mapping[str, Any]) -> int | None:
    tokens = row.get("tokens")
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None


def lost_rows(
    spec: RunSpec, directory: Path, position: int, committed: Collection[int], wanted: Collection[str]
) -> Lost:
    """What a run lacks that was restored at `position`.

    Args:
      committed: token counts of its checkpoints.
      wanted: names of what is evaluated at every mark.

    Raises:
      RowsAreLost: no checkpoint is left that they can be had from.
    """
    files, start = RunDirectory(directory), spec.branch_at_tokens or 0
    evaluations, losses = evaluations_of(files), losses_of(files)
    at_hand = {*committed, position}
    marks = [mark for mark in spec.all_marks if start < mark <= position]
    lost = [mark for mark in marks if not set(wanted) <= evaluations.get(mark, {}).keys()]
    steps = [tokens for tokens in tail_steps(spec) if tokens <= position and tokens not in losses]
    trained_again = [tokens for tokens in (*lost, *steps) if tokens in steps or tokens not in at_hand]
    before = min(trained_again, default=None)
    if before is not None and spec.parent is None and not any(tokens < before for tokens in committed):
        what = "the evaluation" if before in lost else "the training loss"
        raise RowsAreLost(
            f"{files.evaluations if before in lost else files.metrics}: {what} at {before} tokens is missing, and no "
            f"checkpoint before it is left to get it again from; delete {directory} to train the run again"
        )
    return Lost(tuple(mark for mark in lost if before is None or mark < before), before)
