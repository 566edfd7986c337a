"""Find the learning rate on small models once, and let every later sweep use it.

Claim   under maximal update the peak that is best for small models is near the best for larger ones
        (docs/results/lr_transfer.md), so that tuning costs a small part of a sweep
Run     python launch.py run tune
        python -m analysis.learning_rate runs/tune --rule rule.json
        python launch.py run quickstart --rule rule.json
Cost    about 1 minute on 2 CPU cores
Expect  a rule file of a few lines: the best peak, and the batch, decay and base shape that it was found with
        (docs/results/tune.md)
"""

import dataclasses
from typing import Literal

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least, with_learning_rate


def sweep(
    widths: tuple[int, ...] = (32, 64),
    depth: int = 2,
    rates: tuple[float, ...] = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
    tokens: int = 327_680,
    parametrization: Literal["mup", "standard"] = "mup",
    seeds: Seeds = 1,
    rule: str = "",
    corpus: str = "pysource",
) -> Sweep:
    """One run for each width, peak and seed.

    Args:
      widths: of the small models, a multiple of 16 each. The standard rule is a power law and needs two.
      depth: blocks of every model.
      rates: peaks to try; the best must lie between two of them.
      tokens: data size of every run; the best peak falls slowly with it, so take the later sweep's smallest.
      parametrization: mup, whose one peak holds for all sizes, or standard.
      seeds: repetitions that differ in initialization and data order.
      rule: a rule file for everything but the peak and the parametrization; empty for the defaults.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    data = DataConfig(corpus=corpus, validation_tokens=65_536)
    chosen = dataclasses.replace(ScalingRule.read(rule, data=data), parametrization=parametrization)
    return Sweep(
        with_learning_rate(chosen.run(0, tokens, seed, model=chosen.shape(width, depth)), rate)
        for width in widths
        for seed in range(seeds)
        for rate in rates
    )
