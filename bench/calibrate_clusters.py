"""Do 95% intervals of a table of checkpoints hold the truth? Simulated runs that share their luck, fitted and counted.

python -m bench.calibrate_clusters [--tables 100] [--runs 8] [--checkpoints 12]
"""

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from analysis.fit.fit import fit_law
from core import cli

TRUTH = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.30}
SIZES, FIRST_TOKENS, LAST_TOKENS = (5e7, 5e9), 1e9, 4e10


def checkpoints(
    runs: int, count: int, shared: float, own: float, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Runs of one size each with `count` checkpoints.

    Args:
      shared, own: relative standard deviation of a run's offset, and of a row's own noise.
    """
    sizes = np.geomspace(*SIZES, runs)
    tokens = np.geomspace(FIRST_TOKENS, LAST_TOKENS, count)
    n, d = np.repeat(sizes, count), np.tile(tokens, runs)
    offset = np.repeat(shared * generator.standard_normal(runs), count)
    loss = TRUTH["E"] + TRUTH["A"] / n ** TRUTH["alpha"] + TRUTH["B"] / d ** TRUTH["beta"]
    loss = loss * (1 + offset + own * generator.standard_normal(n.size))
    return {"params": n, "tokens": d, "loss": loss, "run": np.repeat([f"r{run}" for run in range(runs)], count)}


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.calibrate_clusters")


def measure(
    tables: int = 100,
    runs: int = 8,
    checkpoints_each: int = 12,
    shared: float = 0.005,
    own: float = 0.0005,
    bootstrap: int = 0,
    cluster: str | None = None,
    seed: int = 0,
) -> None:
    """Do 95% intervals of a table of checkpoints hold the truth?

    Args:
      tables: simulated
      runs: of each table, of one size each
      checkpoints_each: rows of a run
      shared: relative standard deviation of what the rows of a run share
      own: relative standard deviation of a row
      bootstrap: resamples of runs; 0 leaves out one run after the other
      cluster: as analysis.fit takes it
      seed: of the first table
    """
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    estimates: dict[str, list[float]] = {}
    start = np.array([list(TRUTH.values())])
    truth = {**TRUTH, "a_opt": TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])}
    for table in range(tables):
        columns = checkpoints(runs, checkpoints_each, shared, own, np.random.default_rng([seed, table]))
        fit = fit_law("chinchilla", columns, starts=start, bootstrap=bootstrap, cluster=cluster)
        found = {**fit.parameters, "a_opt": fit.derived["a_opt"]}
        ends = {**fit.intervals, "a_opt": fit.derived_intervals.get("a_opt", (np.nan, np.nan))}
        for name, value in truth.items():
            low, high = ends[name]
            held.setdefault(name, []).append(low <= value <= high)
            widths.setdefault(name, []).append(high - low)
            estimates.setdefault(name, []).append(found[name])
    console = Console(soft_wrap=True, highlight=False)
    for name, hits in held.items():
        console.print(
            f"{name:6s} {np.mean(hits):.1%} of {tables} intervals hold the truth; median width "
            f"{np.median(widths[name]):.3g}, standard deviation of the estimates {np.std(estimates[name]):.3g}"
        )


if __name__ == "__main__":
    main()
