"""Judge a task table: does an ability depart from the smooth law in scale, and is it the model or the metric?

python -m analysis.emergence TASK_TABLE --out emergence.json    # verdicts; figures beside it with --figures DIR
python -m analysis.emergence --calibrate                        # sizes and power on known truths; 1 = target missed
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from analysis.commands import write_result
from analysis.emergence.calibration import calibrate as measure
from analysis.emergence.figures import save_figures
from analysis.emergence.settings import Settings
from analysis.emergence.table import TaskTable, read_task_table
from analysis.emergence.verdict import judge_all
from analysis.logs.flags import Flags, TableFlags
from core import cli
from core.errors import BadInput


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's first lines. Gives the exit status."""
    return cli.command(emergence, arguments, "python -m analysis.emergence")


def emergence(
    table: str | None = None,
    /,
    *,
    out: Path | None = None,
    figures: Path | None = None,
    axis: str | None = None,
    reading: Flags = TableFlags(),  # noqa: B008 (frozen)
    chance: float | None = None,
    w0: float = Settings.w0,
    alpha: float = Settings.alpha,
    bootstrap: int = Settings.bootstrap,
    seed: int = 0,
    calibrate: bool = False,
    repetitions: int = 1000,
    workers: int = 2,
) -> int:
    """Does an ability depart from the smooth law in scale, and is it the model or
    the metric? One verdict a task: sharp, delayed onset, metric artefact, smooth,
    inverse (accuracy falls), none, or not enough scales.

    Args:
      table: CSV, JSON, parquet or sweep directory with task, scale, n, correct (or accuracy), chance
      out: where to write the verdicts (JSON)
      figures: directory for figures (SVG and PNG)
      axis: what the column scale holds: params, flops, tokens, examples, or loss (minus the pre-training loss)
      chance: accuracy of a guess, for a table without such a column
      w0: sharp means 10% to 90% of the rise within fewer decades than this, at most half of the range; fix it before
        the runs
      alpha: false discovery rate
      bootstrap: replicates
      seed: of every random number
      calibrate: measure sizes and power on simulated truths instead of judging a table; status 1 if a target is missed
      repetitions: of a calibration
      workers: processes of a calibration
    """
    settings = checked_settings(w0, alpha, bootstrap, seed)
    if calibrate:
        if repetitions < 20 or workers < 1:
            raise BadInput("--calibrate needs at least 20 repetitions and 1 worker")
        text, met = measure(settings, repetitions, workers, out)
        sys.stdout.write(f"{text}\n")
        return 0 if met else 1
    if table is None:
        raise BadInput("TASK_TABLE is missing: a CSV, a JSON-lines file or a sweep's directory, or --calibrate")
    read = read_task_table(table, axis, reading.reading(), chance)
    result = analyse(read, settings)
    if out is not None:
        write_result(out, result)
    for entry in result["tasks"]:
        sys.stdout.write(f"{entry['verdict']:18s} {entry['axis']:9s} {entry['sentence']}\n")
    sys.stdout.write("".join(f"warning: {warning}\n" for warning in read.warnings))
    if figures is not None:
        save_figures(read, result, figures)
    return 0


LEAST_ALPHA = 1e-6  # replicates of a task, at most some ten thousand, resolve no smaller level


def checked_settings(w0: float, alpha: float, bootstrap: int, seed: int) -> Settings:
    """Raises BadInput where a setting is out of range."""
    if not 0.0 < w0 <= Settings.onset_width:
        raise BadInput(f"--w0 {w0:g}: it must be above 0 and at most {Settings.onset_width:g} decades")
    if not LEAST_ALPHA <= alpha < 1.0:
        raise BadInput(
            f"--alpha {alpha:g}: it must be at least {LEAST_ALPHA:g}, which resampling can resolve, and below 1"
        )
    if not 199 <= bootstrap <= 1_000_000:
        raise BadInput(f"--bootstrap {bootstrap}: at least 199 replicates are needed, at most a million")
    if seed < 0:
        raise BadInput(f"--seed {seed}: it must be at least 0")
    return Settings(w0=w0, alpha=alpha, bootstrap=bootstrap, seed=seed)


def analyse(table: TaskTable, settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008 (frozen)
    """The content of emergence.json for a task table."""
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "jax": jax.__version__}
    return {
        "settings": {"W0": settings.w0, **dataclasses.asdict(settings), "versions": versions},
        "tasks": judge_all(table.tasks, settings),
        "warnings": list(table.warnings),
        **table.reading.to_json(),
        "input": {"path": table.path, "sha256": table.sha256, "rows": table.rows},
    }
