"""Do 95% intervals of a compute multiplier hold the truth? Simulated pairs of sweeps, compared and counted.

python -m bench.calibrate_compare [--pairs 1000] [--multiplier 1]
"""

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from analysis.compare.compare import compare
from analysis.compare.fitted import Choices
from analysis.compare.side import RecipeRuns
from core import cli

# Of the loss over cost, and over size and data (Hoffmann et al. 2022): numbers of about today's models.
FLOOR, SCALE, ALPHA = 1.7, 60.0, 0.12
SURFACE = {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}
DECADES = {"ladder": (1e15, 1e17), "long": (1e15, 1e18)}
# Costs (or sizes, and data sizes), seeds, and how much of the noise both sides share.
DESIGNS: dict[str, tuple[int, int, int, float]] = {
    "25 runs": (25, 0, 1, 0.0),
    "5 sizes, 3 seeds, paired": (5, 0, 3, 0.8),
    "5 sizes": (5, 0, 1, 0.0),
    "3 sizes, 3 seeds": (3, 0, 3, 0.0),
    "5 x 5 grid": (5, 5, 1, 0.0),
    "4 x 3 grid, paired": (4, 3, 1, 0.8),
    "5 x 2 grid (hull)": (5, 2, 1, 0.0),
}


def pair(
    design: str, multiplier: float, noise: float, generator: np.random.Generator
) -> tuple[RecipeRuns, RecipeRuns]:
    """Two sides of one law, of which the second needs `multiplier` times less compute at every loss.

    Args:
      noise: standard deviation of the log loss of a run.
    """
    costs, data, seeds, shared = DESIGNS[design]
    if data:
        params, tokens = (
            axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, costs), np.geomspace(1e9, 1e11, data))
        )
    else:
        flops = np.repeat(np.geomspace(*DECADES["long" if costs > 5 else "ladder"], costs), seeds)
        params, tokens = np.sqrt(flops / 120), 20 * np.sqrt(flops / 120)
    common = generator.standard_normal(params.size)
    luck = np.array([f"{row}" if shared else "" for row in range(params.size)])

    def side(label: str, times: float) -> RecipeRuns:
        luck_of_run = np.sqrt(shared) * common + np.sqrt(1 - shared) * generator.standard_normal(params.size)
        if data:
            law, cost = SURFACE, 6 * params * tokens / times
            loss = law["E"] + law["A"] * params ** -law["alpha"] + law["B"] * tokens ** -law["beta"]
        else:
            cost = 6 * params * tokens
            loss = FLOOR + SCALE * (times * cost) ** -ALPHA
        return RecipeRuns(label, cost, loss * np.exp(noise * luck_of_run), params, tokens, luck)

    return side("A", 1.0), side("B", multiplier)


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.calibrate_compare")


def measure(
    pairs: int = 1000,
    multiplier: float = 1.0,
    noise: float = 0.004,
    draws: int = 400,
    designs: tuple[str, ...] = tuple(DESIGNS),
    seed: int = 0,
) -> None:
    """Do 95% intervals of a compute multiplier hold the truth?

    Args:
      pairs: simulated, of each design
      multiplier: of every pair
      noise: standard deviation of the log loss of a run
      draws: of each comparison
      designs: by name
      seed: of the first pair
    """
    console = Console(soft_wrap=True, highlight=False)
    for design in designs:
        hits, values, widths = count(design, pairs, multiplier, noise, draws, seed)
        told = ", ".join(f"{name} {np.mean(hit):.1%}" for name, hit in hits.items())
        console.print(
            f"{design:26s} {told} of {pairs} hold the truth; geometric mean "
            f"{np.exp(np.mean(np.log(values))):.4f}, median width {np.median(widths):.1%}"
        )


def count(
    design: str, pairs: int, multiplier: float, noise: float = 0.004, draws: int = 400, seed: int = 0
) -> tuple[dict[str, list[bool]], list[float], list[float]]:
    """Of each pair: which intervals hold the truth, the multiplier, and the width of its interval."""
    hits: dict[str, list[bool]] = {"overall": [], "least cost": [], "largest cost": [], "slope": []}
    values, widths = [], []
    for number in range(pairs):
        a, b = pair(design, multiplier, noise, np.random.default_rng([seed, number]))
        found = compare(a, b, Choices(draws=draws))
        ends = (found.overall, found.multipliers[0], found.multipliers[-1])
        for name, value in zip(hits, ends, strict=False):
            hits[name].append(value.interval is not None and not value.excludes(multiplier))
        hits["slope"].append(found.slope.interval is not None and not found.slope.excludes(0.0))
        values.append(found.overall.value)
        low, high = found.overall.interval or (np.nan, np.nan)
        widths.append(high / low - 1)
    return hits, values, widths


if __name__ == "__main__":
    main()
