"""The task table of a sweep: one row a run and task, what `python -m analysis.emergence` reads.

    python -m analysis.task_table runs/emergence --out tasks.csv [--score exact_match] [--axis params]

Reads evals.jsonl, ledger.json and tasks.json of every complete run; rows are of the run's end.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from analysis.chance import chance_of
from analysis.logs.groups import labelled
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run
from core import cli
from core.errors import BadInput, writes
from core.files import write_atomic
from core.records import of_a_task
from core.rundir import RunDirectory

COLUMNS = (
    "task",
    "axis",
    "scale",
    "n",
    "correct",
    "chance",
    "seed",
    "nll",
    "brier",
    "edit_distance",
    "run",
    "positive_control",
    "items_in_training_text",
)
Score = Literal["exact_match", "choice_accuracy", "acc"]
Axis = Literal["params", "flops", "tokens", "loss"]
CHANCE: dict[str, str] = {
    "exact_match": "chance",
    "choice_accuracy": "choice_chance",
    "acc": "chance",
}  # by score


def task_table(sweep: SweepLogs, score: Score = "exact_match", axis: Axis = "params") -> list[dict[str, Any]]:
    """Rows with the columns `COLUMNS`, by task and scale; empty text where a run has no such number.

    Args:
      score: what counts as correct; `correct` is its sum over problems. Shares of ties in choice_accuracy are
        rounded to whole problems.
      axis: params (non-embedding plus head), flops (exact), tokens, or loss, which is written as minus the loss so
        that larger is better.

    Raises:
      BadInput: an unknown score or axis, or no complete run with a task.
    """
    for name, value, allowed in (("score", score, get_args(Score)), ("axis", axis, get_args(Axis))):
        if value not in allowed:
            raise BadInput(f"--{name}={value}: must be one of {', '.join(allowed)}")
    ends: dict[str, dict[str, dict[str, float]]] = {}
    last = {run.run: run.tokens for run in sweep.runs}
    for row in sweep.evaluations().frame.iter_rows(named=True):
        named = of_a_task(row["name"])
        if named is None or row["tokens"] != last.get(row["run"]):
            continue
        task, metric = named
        ends.setdefault(row["run"], {}).setdefault(task, {})[metric] = row["value"]
    table = []
    scored = [run for run in sweep.runs if run.status == "complete" and run.run in ends]
    ended = [run for run in scored if not run.trunk] or scored  # a trunk has not been cooled down
    for run, label in labelled(ended):
        known = RunDirectory(run.path).read_tasks()
        scale = _scale(run, axis)
        for task, values in ends[run.run].items():
            record = known.get(task)
            if score not in values or CHANCE[score] not in values or record is None:
                continue
            table.append(
                {
                    "task": f"{task} ({label})" if label else task,
                    "axis": axis,
                    "scale": scale,
                    "n": record["items"],
                    "correct": round(values[score] * record["items"]),
                    "chance": chance_of(task, score, values),
                    "seed": run.spec.get("seed", ""),
                    "nll": values.get("nll_per_token", ""),
                    "brier": values.get("brier", ""),
                    "edit_distance": values.get("edit_distance", ""),
                    "run": run.run,
                    "positive_control": str(record["positive_control"]).lower(),
                    "items_in_training_text": record["overlap"].get("items_found", ""),
                }
            )
    if not table:
        raise BadInput(
            f"{sweep.path}: no complete run with scores of a task ({score}); python launch.py backfill {sweep.path} "
            "--tasks NAME adds them"
        )
    return sorted(table, key=lambda row: (row["task"], row["scale"], str(row["seed"]), row["run"]))


def _scale(run: Run, axis: str) -> float:
    value = {
        "params": run.count,
        "flops": run.flops,
        "tokens": lambda: run.tokens,
        "loss": lambda: -loss if (loss := run.final()) is not None else None,
    }[axis]()
    if value is None:
        raise BadInput(f"{run.path}: has no {axis} in its ledger.json, spec.json or result.json")
    return value


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The table as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the table, say how many rows."""
    cli.command(command, arguments, "python -m analysis.task_table")


def command(sweep: Path, /, *, out: Path, score: Score = "exact_match", axis: Axis = "params") -> None:
    """The task table of a sweep: one row a run and task, at the run's end.

    Args:
      sweep: runs/<sweep>
      out: CSV file to write
      score: what counts as correct
      axis: what scale is
    """
    rows = task_table(load_sweep(sweep), score, axis)
    with writes(out):
        write_atomic(out, as_csv(rows))
    sys.stdout.write(f"{out}: {len(rows)} rows, {len({row['task'] for row in rows})} tasks\n")


if __name__ == "__main__":
    main()
