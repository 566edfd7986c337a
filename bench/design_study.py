"""Is a chosen grid better than a plain isoFLOP grid of the same FLOPs? Simulated laws, fitted by the project itself.

    python -m bench.design_study [--truths 200] [--budget 1e18] [--target 1e21]

For each truth, a noisy table of each grid is fitted (least squares on log loss) and the 90% interval of the forecast,
the loss at the compute-optimal split of the target, is read off the fit. The grids are chosen from other draws of the
prior than the truths; further rows draw the truths from priors that the planner does not know of.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.fit.fit import fit_law
from analysis.fit.frontier import frontier
from core import cli
from core.errors import BadInput
from planning.design import (
    NOISE,
    PARAMETERS,
    TRUNK_CORRELATION,
    Prior,
    ScaledLaws,
    draw_laws,
    losses,
    standard_deviations,
)
from planning.grids import Grid, candidates, isoflop_grid, ladder
from planning.search import Limits, choose

DESIGN_LAWS = 32  # draws of the prior that a grid is chosen for
WRONG = {
    "exponents near 0.25": Prior(exponent=0.25, exponent_sd=0.03),
    "exponents near 0.50": Prior(exponent=0.5, exponent_sd=0.03),
    "optimum at 5 tokens a parameter": Prior(tokens_per_param=5.0, tokens_per_param_factor=1.2),
    "optimum at 80 tokens a parameter": Prior(tokens_per_param=80.0, tokens_per_param_factor=1.2),
}


def expected_sd(
    laws: Mapping[str, np.ndarray], grid: Grid, target_flops: float, noise: float, correlation: float
) -> np.ndarray:
    """Expected standard deviation of the log of the forecast under each law, shape (K,)."""
    scaled = ScaledLaws.at(laws, grid.params, grid.tokens)
    wanted = {"forecast": scaled.forecast(target_flops)}
    rows = scaled.rows(grid.params, grid.tokens)
    return standard_deviations(rows, wanted, noise, grid.clusters, correlation)["forecast"]


@dataclasses.dataclass(frozen=True)
class Realised:
    """Of one fitted table: log width of the fit's 90% interval of the forecast, log error of the forecast, and whether
    the interval held the truth."""

    width: float
    error: float
    inside: bool


def realise(
    truth: Mapping[str, float],
    grid: Grid,
    target_flops: float,
    noise: float,
    correlation: float,
    rng: np.random.Generator,
) -> Realised:
    """Simulate the table of a grid, fit it, and look at its forecast."""
    exact = losses({name: np.array([truth[name]]) for name in PARAMETERS}, grid.params, grid.tokens)[0]
    errors = rng.standard_normal(len(grid))
    clusters = grid.clusters
    if clusters is not None:
        shared = rng.standard_normal(int(clusters.max()) + 1)[clusters]
        errors = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * errors
    columns = {"params": grid.params, "tokens": grid.tokens, "loss": exact * np.exp(noise * errors)}
    start = np.array([[truth[name] for name in PARAMETERS]])
    fit = fit_law("chinchilla", columns, robust="l2", starts=start, profile=False, cluster=clusters, seed=0)
    best = float(frontier(truth, target_flops).loss)
    error = float(np.log(float(frontier(fit.parameters, target_flops).loss) / best))
    if fit.draws is None:
        return Realised(np.inf, error, True)
    draws = dict(zip(fit.parameter_names, fit.draws.T, strict=True))
    drawn = frontier(draws, target_flops).loss
    low, high = np.nanquantile(drawn, [0.05, 0.95])
    width = float(np.log(high / low)) if low > 0 else np.inf
    return Realised(width, error, bool(low <= best <= high))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One grid beside the plain one over many truths: medians of the ratios plain / grid."""

    name: str
    runs: int
    flops: float
    expected_ratio: float
    realised_ratio: float
    realised_low: float
    realised_high: float
    error_ratio: float
    coverage: float

    def sentence(self) -> str:
        return (
            f"{self.name:34s} {self.runs:3d} runs {self.flops:.3g} FLOPs | interval narrower, expected "
            f"{self.expected_ratio:.2f}x, realised {self.realised_ratio:.2f}x (80% of truths {self.realised_low:.2f} "
            f"to {self.realised_high:.2f}) | error smaller {self.error_ratio:.2f}x | 90% interval held "
            f"{self.coverage:.0%}"
        )


def compare(
    grids: Mapping[str, tuple[Grid, float]],
    truths: Mapping[str, np.ndarray],
    target_flops: float,
    noise: float,
    seed: int,
) -> list[Comparison]:
    """Fit every grid under every truth; the first grid is the plain one. A grid comes with its trunks' correlation."""
    count = truths["E"].size
    results: dict[str, list[Realised]] = {}
    for name, (grid, correlation) in grids.items():
        rng = np.random.default_rng(seed)
        results[name] = [
            realise({k: float(v[i]) for k, v in truths.items()}, grid, target_flops, noise, correlation, rng)
            for i in range(count)
        ]
    plain_name = next(iter(grids))
    plain_sd = expected_sd(truths, grids[plain_name][0], target_flops, noise, grids[plain_name][1])
    plain_width = np.array([fit.width for fit in results[plain_name]])
    plain_error = np.median([abs(fit.error) for fit in results[plain_name]])
    rows = []
    for name, (grid, correlation) in grids.items():
        width = np.array([fit.width for fit in results[name]])
        ratio = plain_width / width
        low, high = (float(end) for end in np.quantile(ratio, [0.1, 0.9]))
        rows.append(
            Comparison(
                name, len(grid), grid.flops(),
                float(np.median(plain_sd / expected_sd(truths, grid, target_flops, noise, correlation))),
                float(np.median(ratio)), low, high,
                float(plain_error / np.median([abs(fit.error) for fit in results[name]])),
                float(np.mean([fit.inside for fit in results[name]])),
            )
        )  # fmt: skip
    return rows


def grids_of(
    budget: float, target_flops: float, runs: int, prior: Prior, seed: int
) -> dict[str, tuple[Grid, float]]:
    """The plain isoFLOP grid, and the chosen grids of the same cost, number of runs and range of runs."""
    laws = draw_laws(DESIGN_LAWS, budget, prior, seed)
    pool = candidates(ladder(budget), budget)
    rho = TRUNK_CORRELATION
    return {
        "plain isoFLOP": (isoflop_grid(budget), 0.0),
        "chosen, one seed": (choose(pool, laws, target_flops, Limits(budget, runs)), 0.0),
        "chosen, up to 3 seeds": (choose(pool, laws, target_flops, Limits(budget, runs, seeds=3)), 0.0),
        "chosen, trunks and branches": (
            choose(pool, laws, target_flops, Limits(budget, runs, trunks=True, correlation=rho)), rho,
        ),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(study, arguments, "python -m bench.design_study")


def study(
    truths: int = 200, budget: float = 1e18, target: float = 1e21, noise: float = NOISE, seed: int = 0
) -> None:
    """Chosen grids beside a plain isoFLOP grid of the same FLOPs.

    Args:
      truths: laws that are simulated
      budget: FLOPs of each grid
      target: FLOPs of the forecast
      noise: standard deviation of log loss of a run
      seed: of laws and noise
    """
    if truths < 2:
        raise BadInput(f"--truths {truths}: must be at least 2")
    for name, value in (("budget", budget), ("target", target), ("noise", noise)):
        if not (np.isfinite(value) and value > 0):
            raise BadInput(f"--{name} {value:g}: must be positive and finite")
    if target < budget:
        raise BadInput(f"--target {target:g}: must be at least the budget, {budget:g}")
    prior = Prior()
    grids = grids_of(budget, target, 30, prior, seed)
    cases = {"the prior": prior, **WRONG}
    for number, (name, truth_prior) in enumerate(cases.items()):
        count = truths if name == "the prior" else max(2, truths // 4)
        laws = draw_laws(count, budget, truth_prior, seed + 1 + number)
        sys.stdout.write(f"{count} truths from {name}\n")
        for row in compare(grids, laws, target, noise, seed):
            sys.stdout.write(f"  {row.sentence()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
