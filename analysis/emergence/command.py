"""Judge a task table: does an ability depart from the smooth law in scale, and is it the model or the metric?

python -m analysis.emergence TASK_TABLE --out emergence.json    # verdicts; figures beside it with --figures DIR
python -m analysis.emergence --calibrate                        # sizes and power on known truths; 1 = target missed
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from analysis.emergence.calibration import calibrate
from analysis.emergence.figures import save_figures
from analysis.emergence.settings import Settings
from analysis.emergence.table import TaskTable, read_task_table
from analysis.emergence.verdict import judge_all
from core.errors import BadInput, exit_on_bad_input
from core.files import write_json


@dataclass(frozen=True)
class Options:
    """Command line of the emergence test."""

    table: Annotated[str | None, tyro.conf.Positional] = None
    """CSV, JSON lines or sweep directory with task, scale, n, correct, chance."""
    out: str | None = None
    """Where to write the verdicts (JSON)."""
    figures: str | None = None
    """Directory for figures (SVG and PNG)."""
    axis: str | None = None
    """What the column scale holds: params, flops, tokens, examples, or loss (minus the pre-training loss)."""
    w0: float = Settings.w0
    """Definition of sharp: 10%-90% of the rise within fewer decades than this. Fix it before the runs."""
    alpha: float = Settings.alpha
    """False discovery rate."""
    bootstrap: int = Settings.bootstrap
    """Bootstrap replicates."""
    seed: int = 0
    calibrate: bool = False
    """Measure sizes and power on simulated truths instead of judging a table."""
    repetitions: int = 1000
    """Repetitions of a calibration."""
    workers: int = 2
    """Processes of a calibration."""


def settings_from(options: Options) -> Settings:
    """Check the options. Raises BadInput."""
    if not 0.0 < options.w0 <= Settings.onset_width:
        raise BadInput(f"--w0 {options.w0:g}: it must be above 0 and at most {Settings.onset_width:g} decades")
    if not 0.0 < options.alpha < 1.0:
        raise BadInput(f"--alpha {options.alpha:g}: it must be between 0 and 1")
    if options.bootstrap < 199:
        raise BadInput(f"--bootstrap {options.bootstrap}: at least 199 replicates are needed")
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: it must be at least 0")
    return Settings(w0=options.w0, alpha=options.alpha, bootstrap=options.bootstrap, seed=options.seed)


def analyse(table: TaskTable, settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008 (frozen)
    """The content of emergence.json for a task table."""
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "jax": jax.__version__}
    return {
        "settings": {"W0": settings.w0, **dataclasses.asdict(settings), "versions": versions},
        "tasks": judge_all(table.tasks, settings),
        "input": {"path": table.path, "sha256": table.sha256, "rows": table.rows},
    }


def main(arguments: list[str] | None = None) -> int:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    with exit_on_bad_input():
        settings = settings_from(options)
        if options.calibrate:
            if options.repetitions < 20 or options.workers < 1:
                raise BadInput("--calibrate needs at least 20 repetitions and 1 worker")
            text, met = calibrate(settings, options.repetitions, options.workers, options.out)
            print(text)  # noqa: T201
            return 0 if met else 1
        if options.table is None:
            raise BadInput(
                "TASK_TABLE is missing: a CSV, a JSON-lines file or a sweep's directory, or --calibrate"
            )
        table = read_task_table(options.table, options.axis)
        result = analyse(table, settings)
        if options.out:
            write_json(options.out, result)
        for entry in result["tasks"]:
            print(f"{entry['verdict']:18s} {entry['axis']:9s} {entry['sentence']}")  # noqa: T201
        if options.figures:
            save_figures(table, result, Path(options.figures))
    return 0
