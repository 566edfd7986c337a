"""Do 95% intervals hold the truth 95% of the time? Simulated tables from a known law, fitted and counted.

python -m bench.calibrate_fits [--tables 1000] [--rows 120] [--bootstrap 0] [--robust l2]
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from analysis.fit.objectives import Objective
from analysis.fit.problem import prepare
from analysis.fit.solver import Problem, solve
from analysis.fit.uncertainty import sandwich, student_quantile
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import exit_on_bad_input

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def simulated(
    law: Law, tables: int, rows: int, noise: float, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One design of sizes and tokens over three decades each, and log losses of every table, shape (tables, rows)."""
    rng = np.random.default_rng(seed)
    columns = {"params": 10 ** rng.uniform(7, 10, rows), "tokens": 10 ** rng.uniform(9, 12, rows)}
    loss = (
        TRUTH["E"]
        + TRUTH["A"] / columns["params"] ** TRUTH["alpha"]
        + TRUTH["B"] / columns["tokens"] ** TRUTH["beta"]
    )
    return {**columns, "loss": loss}, np.log(loss) + noise * rng.standard_normal((tables, rows))


def coverage(
    tables: int = 1000,
    rows: int = 120,
    noise: float = 0.005,
    robust: str = "l2",
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, float]:
    """Share of simulated tables whose asymptotic interval holds the truth, per parameter (internal coordinates)."""
    law = get_law("chinchilla")
    columns, observed = simulated(law, tables, rows, noise, seed)
    prepared = prepare(law, columns, Objective(robust), {})
    problem = Problem(law, "log", prepared.problem.design, observed, prepared.problem.weights)
    truth = prepared.centred(np.array([TRUTH[name] for name in law.names]))
    found = solve(problem, np.tile(truth, (tables, 1)), prepared.box)
    back = np.linalg.inv(prepared.centring.matrix)
    quantile = student_quantile(0.5 + level / 2, rows - len(law.names))
    held = np.zeros(len(law.names))
    for table in range(tables):
        single: Any = Problem(law, "log", prepared.problem.design, observed[table], prepared.problem.weights)
        one = type(prepared)(law, prepared.objective, single, prepared.centring, prepared.box, ())
        spread = sandwich(one, found.theta[table], found.hessian[table]).covariance
        errors = np.sqrt(np.diag(back @ spread @ back.T))
        held += np.abs(back @ (found.theta[table] - truth)) <= quantile * errors
    return {name: float(count / tables) for name, count in zip(law.names, held, strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate_fits", description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--robust", default="l2", choices=("huber", "l1", "l2"))
    parser.add_argument("--seed", type=int, default=0)
    with exit_on_bad_input():
        asked = parser.parse_args(arguments)
        console = Console(soft_wrap=True, highlight=False)
        for name, share in coverage(asked.tables, asked.rows, asked.noise, asked.robust, asked.seed).items():
            console.print(f"{name:6s} {share:.1%} of {asked.tables} intervals hold the truth")


if __name__ == "__main__":
    main()
