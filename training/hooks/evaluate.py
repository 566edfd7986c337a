"""Score a run on the held-out slice and the held-out tasks at its evaluation marks and at its end."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from core.files import JsonLines
from core.records import BITS_PER_BYTE, LOSS
from core.rundir import RunDirectory
from training.evaluate.loss import HeldOut, as_read, score_each, score_held_out
from training.evaluate.score import PreparedTask, score_tasks
from training.evaluate.write import write_scores, write_text_items
from training.hooks import Asked
from training.objectives import counts_whole_text
from training.spec import RunSpec
from training.state import TrainState
from training.step import make_evaluation_step


class Evaluate:
    """Appends to evals.jsonl, and every item's scores to task_items.jsonl: of tasks at each mark, of text at the end.

    Only the leading process writes.

    Args:
      slice_: the held-out slice.
      tasks: the held-out tasks.
      attempt: number of the attempt, written into every row.

    Attributes:
      names: of what is evaluated at every mark.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        mesh: jax.sharding.Mesh,
        slice_: HeldOut,
        tasks: Sequence[PreparedTask],
        attempt: int,
    ):
        self._spec, self._directory, self._mesh, self._attempt = spec, directory, mesh, attempt
        self._slice, self._tasks = as_read(slice_, spec), tasks
        self._marks = frozenset(spec.all_marks)
        self._step = make_evaluation_step(spec.model, mesh, spec.objective)
        # Of a task those that every one has: the last that are written among them.
        own = (f"task/{task.name}/{metric}" for task in tasks for metric in ("nll_per_token", "chance"))
        self.names = frozenset({LOSS, *own} | ({BITS_PER_BYTE} if counts_whole_text(spec.objective) else set()))
        self._leads = jax.process_index() == 0
        self._log = JsonLines(RunDirectory(directory).evaluations if self._leads else os.devnull)

    def is_due(self, tokens: int, asked: Asked) -> bool:
        return tokens in self._marks

    def act(self, tokens: int, state: TrainState) -> None:
        row = {"tokens": tokens, "attempt": self._attempt}
        sequences = score_each(self._step, state.params, self._slice)
        if self._leads and tokens == self._spec.tokens:
            write_text_items(self._directory, self._slice, sequences, **row)
        for name, score in score_held_out(self._step, state.params, self._slice, sequences).items():
            self._log.append(
                {"tokens": tokens, "name": name, **dataclasses.asdict(score), "attempt": self._attempt}
            )
        if self._tasks:
            length = self._spec.data.sequence_length
            scores = score_tasks(self._tasks, self._spec.model, self._mesh, state.params, length)
            if self._leads:
                write_scores(self._log, self._directory, self._tasks, scores, **row)

    def sync(self) -> None:
        """Flush all rows to disk."""
        self._log.sync()

    def close(self) -> None:
        self._log.close()
