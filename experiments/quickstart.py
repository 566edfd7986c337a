"""A whole scaling study in minutes: five sizes by four data sizes on Python source, on a laptop's CPU.

Claim   held-out loss falls as L = E + A / N^alpha + B / D^beta, in size and in data
Run     make quickstart, or python launch.py run quickstart
Cost    about 7 minutes on 2 CPU cores
Expect  see RESULTS.md, "quickstart"
"""

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import Sweep, check_at_least

WIDTH_AND_DEPTH = ((16, 2), (32, 2), (48, 2), (48, 4), (64, 4))


def sweep(
    tokens: tuple[int, ...] = (524_288, 1_048_576, 2_097_152, 4_194_304),
    sizes: int = 5,
    seeds: int = 1,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each size, data size and seed.

    Args:
      tokens: data sizes.
      sizes: how many of the five model sizes, from the smallest.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, len(WIDTH_AND_DEPTH), sizes=sizes)
    check_at_least(1, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    return Sweep(
        rule.run(params=0, tokens=count, seed=seed, evaluations=4, model=rule.shape(width, depth))
        for width, depth in WIDTH_AND_DEPTH[:sizes]
        for count in tokens
        for seed in range(seeds)
    )
