"""How much compute does a decoder alone save over an encoder-decoder, at equal loss on the same tokens?

Claim   in pretraining a decoder alone is the more compute-optimal of the two; the exponents are alike (Zhang et al.
        2025, arXiv 2510.26622, 150M to 8B parameters)
Run     python launch.py run encoder_decoder
        python -m analysis.report runs/encoder_decoder
Cost    4 minutes of processor time on a CPU
Expect  the decoder that learns every token needs less compute than the encoder-decoder at every loss both reach: a
        multiplier below 1. The control, a decoder that learns the target's tokens alone, lies between them. Stated
        before the run; docs/results/encoder_decoder.md says what came

All read the first half of each window and are scored on the second half, so that their nats are of the same tokens
given the same text. `source_weight` is the weight of the first half in training: 1 is a language model as usual, which
learns from twice the tokens that an encoder-decoder predicts; 0 is the control. An encoder-decoder of depth L has L
blocks in either stack; its compute is counted, each stack over its own tokens.
"""

import dataclasses

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, at_peak, check_at_least

ARMS = {"decoder": ("decoder", 1.0), "control": ("decoder", 0.0), "encoder_decoder": ("encoder_decoder", 0.0)}


def sweep(
    widths: tuple[int, ...] = (16, 32, 48),
    factors: tuple[float, ...] = (1.0, 2.0),
    depth: int = 2,
    tokens_per_param: float = 12.0,
    seeds: Seeds = 1,
    control: bool = True,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each arm, width, peak and seed.

    Args:
      widths: model widths, a multiple of 16 each.
      factors: multiples of the rule's peak learning rate.
      depth: blocks of a decoder, and of either stack.
      tokens_per_param: data size over parameters, the same for all.
      seeds: repetitions that differ in initialization and data order.
      control: train the decoder that learns the target alone.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs: list[RunSpec] = []
    for name, (architecture, source_weight) in ARMS.items():
        if name == "control" and not control:
            continue
        for width in widths:
            model = rule.shape(width, depth)
            sized = dataclasses.replace(model, architecture=architecture)
            for seed in range(seeds):
                run = rule.run(0, tokens_per_param * rule.count(sized), seed, model=model)
                runs += [
                    dataclasses.replace(
                        at_peak(run, factor), model=sized, objective="prefix", source_weight=source_weight
                    )
                    for factor in factors
                ]
    return Sweep(runs)
