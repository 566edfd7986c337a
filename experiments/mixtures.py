"""Which share of code and documentation gives the least loss on code, and does the best share move with size?

Claim   loss is a smooth function of the shares (Ye et al. 2024, "Data Mixing Laws", arXiv 2403.16952), so that the best
        share of a larger model is told from smaller ones
Run     python launch.py run mixtures
Cost    about 6 minutes on 2 CPU cores
Expect  a best share of code above 0.5 at every size, since code is what is judged, and below 1 if documentation helps.
        Stated before any run: docs/results/mixtures.md

The launcher holds the largest width back until the smaller ones have told the best share there, and what every run of
it will give: runs/mixtures/forecast/forecast.json. Every run is judged on the same held-out code, and on each domain
apart (val/pysource:docs/loss and so on).
"""

from collections.abc import Iterable

from core.errors import BadInput
from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least


def sweep(
    shares: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9),
    widths: tuple[int, ...] = (16, 32, 48),
    first: str = "pysource:code",
    second: str = "pysource:docs",
    depth: int = 2,
    tokens_per_param: float = 12.0,
    seeds: Seeds = 2,
    corpus: str = "pysource",
    domain: str = "code",
) -> Sweep:
    """One run for each share, width and seed.

    Args:
      shares: of the first corpus, whole percents; the second has the rest.
      widths: model widths, a multiple of 16 each.
      first, second: corpora of the mixture, as in data.mixture.
      depth: blocks of every model.
      tokens_per_param: data size over parameters, the same at every width.
      seeds: repetitions that differ in initialization and data order.
      corpus, domain: what every run is judged on.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    runs: list[RunSpec] = []
    for share in shares:
        if not 0.01 <= share <= 0.99:
            raise BadInput(f"shares={share:g}: must be between 0.01 and 0.99")
        mixture = f"{first}={share:.2f},{second}={1 - share:.2f}"
        data = DataConfig(corpus=corpus, domain=domain, mixture=mixture, validation_tokens=65_536)
        rule = ScalingRule(data=data)
        for width in widths:
            model = rule.shape(width, depth)
            for seed in range(seeds):
                runs.append(rule.run(0, tokens_per_param * rule.count(model), seed, model=model))
    return Sweep(runs)


def held_back(runs: Iterable[RunSpec]) -> list[str]:
    """The runs of the largest width, which wait for the forecast of their best mixture; none of fewer than 3 widths."""
    runs = list(runs)
    widths = sorted({run.model.width for run in runs})
    return [run.run_id for run in runs if len(widths) >= 3 and run.model.width == widths[-1]]
