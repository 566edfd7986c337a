"""Do 95% intervals of each law hold the truth that was planted in 95% of simulated tables?

    python -m bench.calibrate_laws [--laws annealing routed] [--tables 200]

Every table has 60 rows of the law's own truth with independent noise of 0.5%, fitted by least squares; one start, the
truth, since it is the intervals that are tested and not the search.
"""

import sys
from collections.abc import Sequence

import numpy as np

from analysis.fit.fit import fit_law
from analysis.fit.prediction import predict_law
from analysis.laws import get_law
from analysis.laws.base import Law
from core import cli

LAWS = (
    "annealing", "chinchilla_tied", "kaplan_floor", "learning_rate", "learning_rate_batch", "loss_to_loss", "routed",
    "mixture_of_experts",
)  # fmt: skip
NOISE, ROWS = 0.005, 60


def inputs_of_law(law: Law, rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Plausible inputs, drawn at random."""
    active = 10 ** rng.uniform(7, 9.5, rows)
    known = {
        "params": 10 ** rng.uniform(7, 10, rows),
        "tokens": 10 ** rng.uniform(9, 12, rows),
        "batch": 10 ** rng.uniform(5, 6.5, rows),
        "experts": 2.0 ** rng.integers(0, 10, rows),
        "active_params": active,
        "total_params": active * 10 ** rng.uniform(0, 1.7, rows),
        "source_loss": rng.uniform(1.6, 5, rows),
        "lr_sum": 10 ** rng.uniform(-2, 1, rows),
        "lr_fallen": rng.uniform(0, 0.4, rows),
    }
    return {name: known[name] for name in law.inputs}


def coverage(law: Law, tables: int, seed: int = 0, level: float = 0.95) -> tuple[dict[str, float], int]:
    """Share of tables whose interval holds the truth, by parameter, and how many tables gave intervals."""
    rng = np.random.default_rng(seed)
    truth = np.array([law.planted[name] for name in law.names])
    inside, counted = np.zeros(truth.size), 0
    for _ in range(tables):
        columns = inputs_of_law(law, rng, ROWS)
        value = predict_law(law, truth, columns)[0] * np.exp(NOISE * rng.standard_normal(ROWS))
        fit = fit_law(law, {**columns, law.target: value}, robust="l2", starts=truth, level=level)
        ends = np.array([fit.intervals[name] for name in law.names])
        if not np.isfinite(ends).all():
            continue
        counted += 1
        inside += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return dict(zip(law.names, (inside / max(counted, 1)).tolist(), strict=True)), counted


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m bench.calibrate_laws")


def command(*, laws: tuple[str, ...] = LAWS, tables: int = 200, seed: int = 0) -> None:
    """Do 95% intervals of each law hold a planted truth in 95% of tables?

    Args:
      laws: by name
      tables: simulated for each
      seed: of the tables
    """
    for name in laws:
        found, counted = coverage(get_law(name), tables, seed)
        shares = ", ".join(f"{parameter} {share:.0%}" for parameter, share in found.items())
        sys.stdout.write(f"{name}: {shares} ({counted} tables)\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
