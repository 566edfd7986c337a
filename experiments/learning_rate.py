"""Is the learning-rate rule near the best at both ends of the size range?

Claim   the rule of experiments/scaling.py is within a factor 2 of the best peak at every size of quickstart
Run     python launch.py run learning_rate
Cost    about 6 minutes on 2 CPU cores
Expect  docs/results/learning_rate.md
"""

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import Sweep, check_at_least


def sweep(
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    widths: tuple[int, ...] = (16, 32, 64),
    depth: int = 2,
    tokens: int = 1_048_576,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each width and multiple of the rule's learning rate.

    Args:
      factors: multiples of the rule's peak.
      widths: model widths, a multiple of 16 each.
      depth: blocks of every model.
      tokens: data size of every run.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth)
    base = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    rules = [ScalingRule(data=base.data, learning_rate_at_100k=base.learning_rate_at_100k * f) for f in factors]
    return Sweep(
        rule.run(params=0, tokens=tokens, model=rule.shape(width, depth)) for width in widths for rule in rules
    )
