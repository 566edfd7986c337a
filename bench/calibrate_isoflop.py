"""Do 95% intervals of isoFLOP exponents hold the truth? Simulated tables, clean and with one bad row, counted.

python -m bench.calibrate_isoflop [--tables 200] [--method parabola]
"""

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from analysis.isoflop.find import Method, find_valleys
from core import cli

TARGET = 1e22
USUAL = (1.7, 400.0, 900.0, 0.34, 0.30)
# sizes are spread by a factor `span` to both sides of sqrt(C / 120), or of `centre` times the best size
DESIGNS: dict[str, dict] = {
    "5 budgets x 9 sizes, noise 0.2%": {},
    "the same, one row 5% to 40% too high": {"bad": True},
    "noise 0.5%": {"noise": 0.005},
    "noise 0.05%": {"noise": 0.0005},
    "sizes about the best one": {"centre": 1.0},
    "the same, within a factor 3": {"centre": 1.0, "span": 3.0},
    "alpha 0.25, beta 0.40": {"centre": 1.0, "law": (1.7, 300.0, 3000.0, 0.25, 0.40)},
    "6 budgets x 7 sizes": {"sizes": 7, "budgets": tuple(np.geomspace(1e18, 1e21, 6))},
}


def best_size(flops: np.ndarray, law: tuple[float, ...]) -> np.ndarray:
    """Hoffmann et al. 2022 (arXiv 2203.15556), eq. 4."""
    _, a, b, alpha, beta = law
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))


def table(
    seed: int,
    noise: float = 0.002,
    budgets: tuple[float, ...] = (1e18, 3e18, 1e19, 3e19, 1e20),
    sizes: int = 9,
    span: float = 6.0,
    law: tuple[float, ...] = USUAL,
    centre: float | None = None,
    bad: bool = False,
) -> dict[str, np.ndarray]:
    """One simulated table."""
    e, a, b, alpha, beta = law
    flops = np.array(budgets)
    middle = np.sqrt(flops / 120) if centre is None else centre * best_size(flops, law)
    n, c = (middle[:, None] * np.geomspace(1 / span, span, sizes)).ravel(), np.repeat(flops, sizes)
    generator = np.random.default_rng(seed)
    loss = (e + a / n**alpha + b / (c / 6 / n) ** beta) * np.exp(noise * generator.standard_normal(n.size))
    if bad:
        loss[generator.integers(n.size)] *= 1 + generator.uniform(0.05, 0.4)
    return {"params": n, "tokens": c / 6 / n, "loss": loss, "flops": c}


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.calibrate_isoflop")


def measure(tables: int = 200, method: Method = "parabola", bootstrap: int = 400) -> None:
    """Do 95% intervals of isoFLOP exponents hold the truth?

    Args:
      tables: simulated, of each design
      method: how the best size is found
      bootstrap: repetitions of the noise
    """
    console = Console(width=120)
    console.print("| tables | a_opt held | best size at 1e22 FLOPs held | width of a_opt |\n|---|---|---|---|")
    for name, design in DESIGNS.items():
        law = design.get("law", USUAL)
        truth, best = law[4] / (law[3] + law[4]), float(best_size(np.array(TARGET), law))
        held, widths = np.zeros(2), []
        for seed in range(tables):
            found = find_valleys(table(seed, **design), method, bootstrap, targets=(TARGET,))
            ends = (found.intervals["a_opt"], found.at_targets[0].params_interval if found.at_targets else None)
            held += [
                bool(pair and pair[0] <= true <= pair[1])
                for pair, true in zip(ends, (truth, best), strict=True)
            ]
            widths.append(ends[0][1] - ends[0][0] if ends[0] else np.nan)
        shares = " | ".join(f"{share:.1%}" for share in held / tables)
        console.print(f"| {name} | {shares} | {np.nanmedian(widths):.3f} |")


if __name__ == "__main__":
    main()
