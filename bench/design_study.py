"""Is a chosen grid better than a plain isoFLOP grid of the same FLOPs? Simulated laws, fitted by the project itself.

    python -m bench.design_study [--truths 200] [--budget 1e18] [--target 1e21]

For each truth, a noisy table of each grid is fitted (least squares on log loss) and the 90% interval of the forecast,
the loss at the compute-optimal split of the target, is read off the fit. The grids are chosen from other draws of the
prior than the truths; further rows draw the truths from priors that the planner does not know of.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.commands import Parser
from analysis.fit.fit import fit_law
from analysis.fit.frontier import frontier
from core.errors import BadInput, exit_on_bad_input
from planning.design import (
    NOISE,
    PARAMETERS,
    TRUNK_CORRELATION,
    Lens,
    Prior,
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
    lens = Lens.at(laws, grid.params, grid.tokens)
    wanted = {"forecast": lens.forecast(target_flops)}
    rows = lens.rows(grid.params, grid.tokens)
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
    own = rng.standard_normal(len(grid))
    clusters = grid.clusters
    if clusters is not None:
        shared = rng.standard_normal(int(clusters.max()) + 1)[clusters]
        own = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    columns = {"params": grid.params, "tokens": grid.tokens, "loss": exact * np.exp(noise * own)}
    start = np.array([[truth[name] for name in PARAMETERS]])
    fit = fit_law("chinchilla", columns, robust="l2", starts=start, profile=False, cluster=clusters, seed=0)
    wanted = float(frontier(truth, target_flops).loss)
    found = float(frontier(fit.parameters, target_flops).loss)
    if fit.draws is None:
        return Realised(np.inf, float(np.log(found / wanted)), True)
    draws = {name: fit.draws[:, place] for place, name in enumerate(fit.parameter_names)}
    drawn = frontier(draws, target_flops).loss
    low, high = np.nanquantile(drawn, [0.05, 0.95])
    return Realised(
        float(np.log(high / low)) if low > 0 else np.inf,
        float(np.log(found / wanted)),
        bool(low <= wanted <= high),
    )


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
    plain_width = np.array([one.width for one in results[plain_name]])
    plain_error = np.median([abs(one.error) for one in results[plain_name]])
    rows = []
    for name, (grid, correlation) in grids.items():
        width = np.array([one.width for one in results[name]])
        ratio = plain_width / width
        low, high = (float(end) for end in np.quantile(ratio, [0.1, 0.9]))
        rows.append(
            Comparison(
                name, len(grid), grid.flops(),
                float(np.median(plain_sd / expected_sd(truths, grid, target_flops, noise, correlation))),
                float(np.median(ratio)), low, high,
                float(plain_error / np.median([abs(one.error) for one in results[name]])),
                float(np.mean([one.inside for one in results[name]])),
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
    parser = Parser(
        prog="python -m bench.design_study", description="Chosen grids beside a plain isoFLOP grid."
    )
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--budget", type=float, default=1e18, help="FLOPs of each grid")
    parser.add_argument("--target", type=float, default=1e21, help="FLOPs of the forecast")
    parser.add_argument("--noise", type=float, default=NOISE, help="standard deviation of log loss of a run")
    parser.add_argument("--seed", type=int, default=0)
    with exit_on_bad_input():
        asked = parser.parse_args(arguments)
        _check(asked)
        prior = Prior()
        grids = grids_of(asked.budget, asked.target, 30, prior, asked.seed)
        cases = {"the prior": prior, **WRONG}
        for place, (name, truth_prior) in enumerate(cases.items()):
            count = asked.truths if name == "the prior" else max(2, asked.truths // 4)
            truths = draw_laws(count, asked.budget, truth_prior, asked.seed + 1 + place)
            sys.stdout.write(f"{count} truths from {name}\n")
            for row in compare(grids, truths, asked.target, asked.noise, asked.seed):
                sys.stdout.write(f"  {row.sentence()}\n")
            sys.stdout.flush()


def _check(asked: argparse.Namespace) -> None:
    if asked.truths < 2:
        raise BadInput(f"--truths {asked.truths}: must be at least 2")
    for name in ("budget", "target", "noise"):
        if not (np.isfinite(getattr(asked, name)) and getattr(asked, name) > 0):
            raise BadInput(f"--{name} {getattr(asked, name):g}: must be positive and finite")
    if asked.target < asked.budget:
        raise BadInput(f"--target {asked.target:g}: must be at least the budget, {asked.budget:g}")


if __name__ == "__main__":
    main()
