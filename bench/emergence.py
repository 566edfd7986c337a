"""How long the emergence test takes on a simulated table.

python -m bench.emergence [--tasks 40 --scales 12 --seeds 3]

A quarter of the tasks are sharp. Wall and processor seconds, compilation included.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

from analysis.emergence.command import analyse
from analysis.emergence.table import TaskTable, tasks_from_rows
from analysis.emergence.truths import CHANCE, FAMILY_SHARP, FAMILY_SMOOTH, ITEMS, design
from core import cli


def simulated(tasks: int, scales: int, seeds: int) -> TaskTable:
    """A table over four decades of parameters with a loss per token, binomial noise of fixed seed."""
    plan, rng = design(scales, 4.0, seeds), np.random.default_rng(0)
    rows = []
    for task in range(tasks):
        curves = FAMILY_SHARP if task % 4 == 0 else FAMILY_SMOOTH
        mean_K = curves[task % len(curves)](plan.x_K)
        for k in plan.scale_R.tolist():
            correct = int(rng.binomial(ITEMS, mean_K[k]))
            nll = float((2.0 - 1.5 * mean_K[k]) * np.exp(0.02 * rng.standard_normal()))
            row = {"task": f"task {task}", "params": 10.0 ** plan.x_K[k], "n": ITEMS, "correct": correct}
            rows.append({**row, "chance": CHANCE, "nll": nll})
    return TaskTable(tuple(tasks_from_rows(rows)), "simulated", "", len(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.emergence")


def measure(tasks: int = 40, scales: int = 12, seeds: int = 3) -> None:
    """How long the emergence test takes on a simulated table.

    Args:
      tasks: a quarter of them are sharp
      scales: model sizes
      seeds: runs of each size
    """
    table = simulated(tasks, scales, seeds)
    wall, processor = time.perf_counter(), time.process_time()
    verdicts = [entry["verdict"] for entry in analyse(table)["tasks"]]
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    counted = ", ".join(f"{verdicts.count(name)} {name}" for name in sorted(set(verdicts)))
    sys.stdout.write(f"{table.rows} rows, {counted}: {wall:.1f} s, {processor:.1f} s of processor time\n")


if __name__ == "__main__":
    main()
