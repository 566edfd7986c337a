"""Do 95% intervals hold the truth 95% of the time? Simulated tables from a known law, fitted and counted.

python -m bench.calibrate_fits [--tables 1000] [--grid 5] [--noise 0.02] [--bad-row 5] [--robust l2]

All tables of a design are one batch of the solver. Whether a profile interval holds the truth needs no interval: it
does where holding the parameter at the truth raises the objective by less than the threshold.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from scipy.special import stdtrit

from analysis.fit.estimation import Estimation, estimation_of
from analysis.fit.objectives import FitObjective, Robust
from analysis.fit.prediction import predict_law
from analysis.fit.profile import thresholds_of
from analysis.fit.solver import Box, Solutions, solve
from analysis.fit.uncertainty import better, sandwich
from analysis.laws import get_law
from core import cli

LAW = get_law("chinchilla")
TRUTH = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.30}
PLANTED = np.array([TRUTH[name] for name in LAW.names])
SIZES, TOKENS = (1e7, 1e9), (1e8, 1e11)
PROFILE, DRAWS = "profile", "draws"


def design(grid: int = 0, rows: int = 120, seed: int = 0) -> dict[str, np.ndarray]:
    """params and tokens of a grid of so many sizes and as many token counts, or of `rows` runs spread at random."""
    if grid:
        params, tokens = np.meshgrid(np.geomspace(*SIZES, grid), np.geomspace(*TOKENS, grid))
        return {"params": params.ravel(), "tokens": tokens.ravel()}
    rng = np.random.default_rng(seed)
    return {"params": 10 ** rng.uniform(7, 10, rows), "tokens": 10 ** rng.uniform(9, 12, rows)}


def coverage(
    columns: Mapping[str, np.ndarray],
    tables: int = 1000,
    noise: float = 0.005,
    bad_row: float = 0.0,
    robust: Robust = "huber",
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Share of simulated tables whose interval holds the truth.

    Args:
      columns: params and tokens, (R,).
      noise: standard deviation of log loss.
      bad_row: by how many of these one row of each table is too high.

    Returns:
      {"profile": per parameter, what `fit_law` reports by default; "draws": per parameter and for a_opt, the normal
      approximation that its draws come from}.
    """
    loss = predict_law(LAW, PLANTED, columns)[0]
    rng = np.random.default_rng(seed)
    observed = np.log(loss) + noise * rng.standard_normal((tables, loss.size))
    observed[np.arange(tables), rng.integers(0, loss.size, tables)] += bad_row * noise
    whole = estimation_of(LAW, {**columns, "loss": loss}, FitObjective(robust), {})
    best = _solved(whole, observed, np.tile(whole.centred(PLANTED), (tables, 1)), whole.box)
    truth = LAW.to_internal(PLANTED)
    rises = _rises(whole, observed, truth) - best.objective[:, None]
    back = np.linalg.inv(whole.centring.matrix)
    quantile = stdtrit(loss.size - PLANTED.size, 0.5 + level / 2)
    held: dict[str, list[np.ndarray]] = {PROFILE: [], DRAWS: []}
    for table in range(tables):
        problem = dataclasses.replace(whole.problem, observed=observed[table])
        one, point = dataclasses.replace(whole, problem=problem), best.point[table]
        spread = sandwich(one, point, best.hessian[table])
        held[PROFILE].append(rises[table] <= thresholds_of(one, point, level, spread)[0])
        covariance = back @ spread.covariance @ back.T
        internal = whole.centring.backward(point)
        error = np.append(internal - truth, _a_opt(internal) - _a_opt(truth))
        slope = np.vstack([np.eye(truth.size), _slope_of_a_opt(internal)])
        variance = np.einsum("ip,pq,iq->i", slope, covariance, slope)
        held[DRAWS].append(np.abs(error) <= quantile * np.sqrt(variance))
    names = {PROFILE: LAW.names, DRAWS: (*LAW.names, "a_opt")}
    return {
        kind: dict(zip(names[kind], np.mean(hits, axis=0).tolist(), strict=True)) for kind, hits in held.items()
    }


def _solved(whole: Estimation, observed: np.ndarray, starts: np.ndarray, box: Box) -> Solutions:
    problem = dataclasses.replace(whole.problem, observed=observed)
    return better(solve(problem, starts, box), solve(problem, starts, box, anneal=False))


def _rises(whole: Estimation, observed: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The least objective with each parameter held at the truth, (tables, P); parameters as they are, not centred."""
    means = whole.centring.means
    features = {key: values + means[key.removeprefix("log_")] for key, values in whole.problem.features.items()}
    plain = dataclasses.replace(whole, problem=dataclasses.replace(whole.problem, features=features))
    tables, found = observed.shape[0], []
    for held in range(truth.size):
        lower, upper = (np.tile(bound, (tables, 1)) for bound in (whole.box.lower, whole.box.upper))
        lower[:, held] = upper[:, held] = truth[held]
        box = Box(lower, upper, whole.box.delta)
        found.append(_solved(plain, observed, np.tile(truth, (tables, 1)), box).objective)
    return np.stack(found, axis=1)


def _a_opt(internal: np.ndarray) -> float:
    alpha, beta = internal[LAW.index("alpha")], internal[LAW.index("beta")]
    return float(beta / (alpha + beta))


def _slope_of_a_opt(internal: np.ndarray) -> np.ndarray:
    alpha, beta = internal[LAW.index("alpha")], internal[LAW.index("beta")]
    slope = np.zeros(internal.size)
    slope[[LAW.index("alpha"), LAW.index("beta")]] = np.array([-beta, alpha]) / (alpha + beta) ** 2
    return slope


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.calibrate_fits")


def measure(
    tables: int = 1000,
    grid: int = 0,
    rows: int = 120,
    noise: float = 0.005,
    bad_row: float = 0.0,
    robust: Robust = "huber",
    seed: int = 0,
) -> None:
    """Do 95% intervals hold the truth 95% of the time?

    Args:
      tables: simulated, each of one draw of noise
      grid: sizes, and as many token counts, of each table; 0 for rows spread at random
      rows: of each table without a grid
      noise: standard deviation of log loss
      bad_row: how many of these one row of each table is too high
      robust: the objective
      seed: of designs and noise
    """
    console = Console(soft_wrap=True, highlight=False)
    found = coverage(design(grid, rows, seed), tables, noise, bad_row, robust, seed)
    for kind, shares in found.items():
        told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        console.print(f"{kind}: of {tables} intervals hold the truth: {told}")


if __name__ == "__main__":
    main()
