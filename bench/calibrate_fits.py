"""Do 95% intervals hold the truth 95% of the time? Simulated tables from a known law, fitted and counted.

python -m bench.calibrate_fits [--tables 1000] [--rows 120] [--robust l2]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from scipy.special import stdtrit

from analysis.fit.estimation import estimation_of
from analysis.fit.objectives import FitObjective, Robust
from analysis.fit.prediction import predict_law
from analysis.fit.solver import solve
from analysis.fit.uncertainty import sandwich
from analysis.laws import get_law
from analysis.laws.base import Law
from core import cli


def simulated(
    law: Law, tables: int, rows: int, noise: float, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One design of sizes and tokens over three decades each, and log losses of every table, shape (tables, rows)."""
    rng = np.random.default_rng(seed)
    columns = {"params": 10 ** rng.uniform(7, 10, rows), "tokens": 10 ** rng.uniform(9, 12, rows)}
    planted = np.array([law.planted[name] for name in law.names])
    loss = predict_law(law, planted, columns)[0]
    return {**columns, "loss": loss}, np.log(loss) + noise * rng.standard_normal((tables, rows))


def coverage(
    tables: int = 1000,
    rows: int = 120,
    noise: float = 0.005,
    robust: Robust = "l2",
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, float]:
    """Share of simulated tables whose asymptotic interval holds the truth, per parameter (internal coordinates)."""
    law = get_law("chinchilla")
    columns, observed = simulated(law, tables, rows, noise, seed)
    estimation = estimation_of(law, columns, FitObjective(robust), {})
    problem = dataclasses.replace(estimation.problem, observed=observed)
    truth = estimation.centred(np.array([law.planted[name] for name in law.names]))
    solutions = solve(problem, np.tile(truth, (tables, 1)), estimation.box)
    to_internal = np.linalg.inv(estimation.centring.matrix)
    quantile = stdtrit(rows - len(law.names), 0.5 + level / 2)
    held = np.zeros(len(law.names))
    for table in range(tables):
        single = dataclasses.replace(estimation.problem, observed=observed[table])
        point = solutions.point[table]
        spread = sandwich(dataclasses.replace(estimation, problem=single), point, solutions.hessian[table])
        errors = np.sqrt(np.diag(to_internal @ spread.covariance @ to_internal.T))
        held += np.abs(to_internal @ (point - truth)) <= quantile * errors
    return {name: float(count / tables) for name, count in zip(law.names, held, strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.calibrate_fits")


def measure(
    tables: int = 1000, rows: int = 120, noise: float = 0.005, robust: Robust = "l2", seed: int = 0
) -> None:
    """Do 95% intervals hold the truth 95% of the time?

    Args:
      tables: simulated, each of one draw of noise
      rows: of each table
      noise: standard deviation of log loss
      robust: the objective
      seed: of designs and noise
    """
    console = Console(soft_wrap=True, highlight=False)
    for name, share in coverage(tables, rows, noise, robust, seed).items():
        console.print(f"{name:6s} {share:.1%} of {tables} intervals hold the truth")


if __name__ == "__main__":
    main()
