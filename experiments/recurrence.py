"""What does attention buy: loss against size, loss by position in the context, and tokens a second?

Claim   a transformer leaves an LSTM behind as models grow, and within a context the later the position (Kaplan et al.
        2020, arXiv 2001.08361, figure 7)
Run     python launch.py run recurrence
        python -m training.loss_by_position runs/recurrence
        python -m analysis.report runs/recurrence
Cost    6 minutes of processor time on a CPU
Expect  the LSTM's loss less the transformer's grows with size and with position; the linear recurrence lies between
        the two. The control is text of order 1, where the last token tells all that can be known: there no architecture
        gains from one position to a later one, beyond the first. Stated before the run; docs/results/recurrence.md says
        what came

All blocks have the same feed-forward and the same width; attention alone is replaced. Every architecture has its own
grid of peaks, and the best of each is compared.
"""

import dataclasses

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, at_peak, check_at_least


def sweep(
    architectures: tuple[str, ...] = ("decoder", "lstm", "linear_recurrence"),
    widths: tuple[int, ...] = (16, 32, 48),
    factors: tuple[float, ...] = (1.0, 2.0),
    depth: int = 2,
    tokens_per_param: float = 12.0,
    seeds: Seeds = 2,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each architecture, width, peak and seed.

    Args:
      architectures: files of model/blocks/; the first is the baseline.
      widths: model widths, a multiple of 16 each.
      factors: multiples of the rule's peak.
      depth: blocks of every model.
      tokens_per_param: data size over the baseline's parameters; the same tokens for every architecture of a width.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH, tfds:NAME or bigram:LETTERS, the control.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs: list[RunSpec] = []
    for width in widths:
        model = rule.shape(width, depth)
        for seed in range(seeds):
            run = rule.run(0, tokens_per_param * rule.count(model), seed, model=model)
            runs += [
                dataclasses.replace(at_peak(run, factor), model=dataclasses.replace(model, architecture=name))
                for name in architectures
                for factor in factors
            ]
    return Sweep(runs)
