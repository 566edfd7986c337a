"""A forecast that could have failed: fit the small runs, write down the largest size's losses, then train it.

Claim   the losses of a model twice as large as any fitted one land in the 90% interval that was written before it began
Run     python launch.py run forecast
Cost    under 5 minutes on 2 CPU cores
Expect  docs/results/forecast.md

The launcher holds the largest size back until runs/forecast/forecast/forecast.json is written
(analysis/forecast/register.py: the law with the lowest AICc on the small runs, 1,000 resamples), then trains it,
scores the forecast and draws it.
"""

from collections.abc import Iterable

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least

# 11k to 218k parameters, each about twice the one before.
WIDTH_AND_DEPTH = ((16, 2), (32, 2), (48, 2), (48, 4), (64, 4))


def sweep(
    tokens: tuple[int, ...] = (196_608, 393_216, 786_432, 1_572_864),
    sizes: int = 5,
    seeds: Seeds = 1,
    corpus: str = "pysource",
) -> Sweep:
    """Every size on every number of tokens; the largest size is the one that is forecast.

    Args:
      tokens: data sizes.
      sizes: how many of the five model sizes, from the smallest; the last is held back.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(3, len(WIDTH_AND_DEPTH), sizes=sizes)
    check_at_least(1, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    models = [rule.shape(width, depth) for width, depth in WIDTH_AND_DEPTH[:sizes]]
    return Sweep(
        run
        for model in models
        for seed in range(seeds)
        for run in rule.trunk_and_branches(0, tokens, seed, model)
    )


def held_back(runs: Iterable[RunSpec]) -> list[str]:
    """The runs that wait for the forecast: all of the largest size, its trunk among them."""
    runs = list(runs)
    largest = max((run.model.width * run.model.depth, run.model.width) for run in runs)
    return [run.run_id for run in runs if (run.model.width * run.model.depth, run.model.width) == largest]
