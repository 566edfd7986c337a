"""Which optimizer reaches a loss for the least compute, each at its own best learning rate, and does the gain last?

Claim   with equal tuning matrix optimizers need less compute than AdamW, by a factor that falls as models grow: 1.4 at
        0.1B parameters, 1.1 at 1.2B (Wen et al. 2025, "Fantastic Pretraining Optimizers", arXiv 2509.02046)
Run     python launch.py run optimizers
        python -m analysis.report runs/optimizers
Cost    about 8 minutes on 2 CPU cores
Expect  Muon: a multiplier between 1 and 2, with a slope over compute of 0 or below. Lion and schedule-free: within
        a factor 1.3 of AdamW, on either side. Stated before the run; docs/results/optimizers.md says what came

Every size and optimizer has its own grid of peaks, since tuning AdamW's peak alone can gain a factor 2 (same source).
Only the best of each grid is compared, and it must lie inside. What a step at the peak removes of a matrix is the same
for all, so that optimizer and peak are all that differs.
"""

import dataclasses

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import OptimConfig, RunSpec, Seeds, Sweep, check_at_least

# Where the grid of an optimizer lies about the rule's peak, which is AdamW's. From a pilot at width 16.
ABOUT = {"lion": 0.25, "sgd": 30.0}


def sweep(
    optimizers: tuple[str, ...] = ("adamw", "muon", "lion", "schedule_free"),
    widths: tuple[int, ...] = (16, 32, 48),
    factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0),
    depth: int = 2,
    tokens_per_param: float = 12.0,
    seeds: Seeds = 2,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each optimizer, width, peak and seed.

    Args:
      optimizers: files of training/optimizers/; the first is the baseline.
      widths: model widths, a multiple of 16 each.
      factors: multiples of the rule's peak (of a quarter of it for lion, of 30 times for sgd).
      depth: blocks of every model.
      tokens_per_param: data size over parameters, the same at every width.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs: list[RunSpec] = []
    for width in widths:
        model = rule.shape(width, depth)
        for seed in range(seeds):
            run = rule.run(0, tokens_per_param * rule.count(model), seed, model=model)
            runs += [
                dataclasses.replace(run, optim=_optimizer(run.optim, name, factor, rule.decay_per_step))
                for name in optimizers
                for factor in factors
            ]
    return Sweep(runs)


def _optimizer(of_rule: OptimConfig, name: str, factor: float, decay_per_step: float) -> OptimConfig:
    """The rule's schedule with this optimizer at a multiple of its usual peak."""
    return dataclasses.replace(
        of_rule,
        name=name,
        learning_rate=float(f"{of_rule.learning_rate * ABOUT.get(name, 1.0) * factor:.3g}"),
        decay="independent",
        weight_decay=decay_per_step,
        cooldown_tokens=0 if name == "schedule_free" else of_rule.cooldown_tokens,
    )
