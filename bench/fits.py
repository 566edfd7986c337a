"""Our fit beside a plain scipy L-BFGS-B fit of the same table from the same starts.

    python -m bench.fits [--starts 4500] [--resamples 4000] [--scipy-starts 45] [--scipy-resamples 20]

scipy runs on a share of the starts and resamples (its time is scaled up, and said to be); objectives are compared where
both ran.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from scipy.optimize import minimize

from analysis.fit.estimation import estimation_of
from analysis.fit.fit import fit_law
from analysis.fit.objectives import FitObjective
from analysis.fit.solver import solve
from analysis.fit.uncertainty import pair_weights
from analysis.laws import get_law
from bench.published import load_epoch
from core import cli


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.fits")


def measure(
    starts: int = 4500, resamples: int = 4000, scipy_starts: int = 45, scipy_resamples: int = 20
) -> None:
    """Our fit beside a plain scipy L-BFGS-B fit of the same table from the same starts.

    Args:
      starts: of our fit
      resamples: of our bootstrap
      scipy_starts: of scipy's, spread over ours; its time is scaled up
      scipy_resamples: of scipy's bootstrap; its time is scaled up
    """
    console = Console(soft_wrap=True, highlight=False)
    columns = load_epoch()
    law = get_law("chinchilla")
    kept = np.sort(np.argsort(-columns["loss"])[5:])
    table = {name: values[kept] for name, values in columns.items()}
    begin = law.to_natural(law.starts(table)[:starts])
    options: dict[str, Any] = {"bootstrap": resamples, "starts": begin}
    first, fit = timed(lambda: fit_law(law, table, **options))
    second, fit = timed(lambda: fit_law(law, table, **options))
    console.print(f"ours: {len(begin)} starts and {resamples} resamples: {second:.2f} s")
    console.print(f"      with compilation {first:.2f} s; objective {fit.value:.13f}")
    tried = law.starts(table)[:: max(1, len(begin) // scipy_starts)]
    seconds, best = timed(lambda: min(scipy_fit(table, start)[1] for start in tried))
    console.print(
        f"scipy L-BFGS-B, exact gradient: {len(tried)} starts: {seconds:.2f} s; objective {best:.13f}"
    )
    weights = pair_weights(kept.size, scipy_resamples, 0)
    optimum = law.to_internal(np.array([fit.parameters[name] for name in law.names]))
    resampled, theirs = timed(lambda: [scipy_fit(table, optimum, row)[1] for row in weights])
    scaled = seconds * len(begin) / len(tried) + resampled * resamples / max(scipy_resamples, 1)
    console.print(f"      {scipy_resamples} resamples: {resampled:.2f} s; all of it, scaled up: {scaled:.0f} s")
    estimation = estimation_of(law, table, FitObjective(), {})
    problem = dataclasses.replace(estimation.problem, weights=weights)
    points = np.tile(estimation.centring.forward(optimum), (len(weights), 1))
    ours = solve(problem, points, estimation.box).objective
    ours = np.minimum(ours, solve(problem, points, estimation.box, anneal=False).objective)
    worst = float(np.max(ours / np.array(theirs) - 1)) if len(weights) else 0.0
    console.print(f"      resamples: our objective over scipy's, the worst: {worst:+.2e}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def scipy_fit(
    columns: dict[str, np.ndarray], start: np.ndarray, weights: np.ndarray | None = None, delta: float = 1e-3
) -> tuple[np.ndarray, float]:
    """The usual fit: Huber on log residuals, parameters (log E, log A, log B, alpha, beta), gradient by hand."""
    log_n, log_d, log_l = (np.log(columns[name]) for name in ("params", "tokens", "loss"))
    weights = np.ones(log_n.size) if weights is None else weights

    def objective(internal: np.ndarray) -> tuple[float, np.ndarray]:
        e, a, b, alpha, beta = internal
        logs = np.stack([np.full(log_n.size, e), a - alpha * log_n, b - beta * log_d])
        top = logs.max(axis=0)
        parts = np.exp(logs - top)
        total = parts.sum(axis=0)
        residual = top + np.log(total) - log_l
        inner = np.minimum(np.abs(residual), delta)
        slope = weights * np.clip(residual, -delta, delta) * parts / total
        gradient = np.array([
            slope[0].sum(), slope[1].sum(), slope[2].sum(), -(slope[1] * log_n).sum(), -(slope[2] * log_d).sum()
        ])  # fmt: skip
        return float((weights * inner * (np.abs(residual) - inner / 2)).sum()), gradient

    # scipy's own stopping rules are absolute: the objective is scaled so that they do not stop it at once
    result = minimize(
        lambda internal: tuple(1e3 * part for part in objective(internal)), start, jac=True, method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 50000, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 30},
    )  # fmt: skip
    return result.x, objective(result.x)[0]


if __name__ == "__main__":
    main()
