"""Does the learning rate that is best for a narrow model stay best for a wide one?  (Yang et al. 2022, figure 1)

Claim   under maximal update the best peak moves by less than a factor 2 over 8 times the width; under the standard
        parametrization it falls with width (Yang et al. 2022, arXiv 2203.03466)
Run     python launch.py run lr_transfer
        python -m analysis.report runs/lr_transfer
Cost    about 6 minutes on 2 CPU cores
Expect  docs/results/lr_transfer.md
"""

import dataclasses
from typing import Literal

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least, with_learning_rate


def sweep(
    widths: tuple[int, ...] = (32, 64, 128, 256),
    rates: tuple[float, ...] = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064),
    parametrizations: tuple[Literal["mup", "standard"], ...] = ("mup", "standard"),
    depth: int = 2,
    base_width: int = 64,
    tokens: int = 131_072,
    batch_tokens: int = 512,
    seeds: Seeds = 1,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each parametrization, width, peak and seed.

    Args:
      widths: model widths, a multiple of 16 each.
      rates: peaks; the same for both parametrizations, which are the same network at `base_width`.
      parametrizations: which to compare.
      depth: blocks of every model.
      base_width: where mup is the standard parametrization.
      tokens: data size of every run.
      batch_tokens: tokens a step.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds, base_width=base_width)
    data = DataConfig(corpus=corpus, validation_tokens=65_536)
    runs: list[RunSpec] = []
    for parametrization in parametrizations:
        rule = ScalingRule(
            data=data,
            batch_tokens=batch_tokens,
            parametrization=parametrization,
            base_width=base_width,
            base_depth=depth,
        )
        for width in widths:
            for seed in range(seeds):
                run = rule.run(params=0, tokens=tokens, seed=seed, model=rule.shape(width, depth))
                # The same decay for both, so that the parametrization is all that differs.
                same = dataclasses.replace(run.optim, decay="independent", weight_decay=rule.decay_per_step)
                run = dataclasses.replace(run, optim=same)
                runs += [with_learning_rate(run, rate) for rate in rates]
    return Sweep(runs)
