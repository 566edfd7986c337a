"""Does the loss of masked tokens follow a law in size and data, as that of the next token does?

Claim   an encoder's masked loss falls as a sum of powers of parameters and of tokens plus a constant, the form of
        Hoffmann et al. 2022 (arXiv 2203.15556) for decoders; masked training learns from 15% of the tokens it reads
        (Devlin et al. 2019, arXiv 1810.04805), and so needs more of them
Run     python launch.py run encoder
        python -m analysis.report runs/encoder
Cost    4 minutes of processor time on a CPU
Expect  the held-out loss falls with size and with data in every row and column of the grid, and falls more slowly with
        data than the decoder's. At these sizes most of the encoder's loss is still that of its unigram stage. Stated
        before the run; docs/results/encoder.md says what came

Control: decoders of the same shapes on the same text and grid. Their nats are of another question (one side, every
token) and are never fitted together with the encoders': the two laws stand side by side.
"""

import dataclasses

from data.config import DataConfig
from experiments.grids import over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least

SPECIAL = 16  # ids beside the 256 bytes: the mask token, and a round number


def sweep(
    widths: tuple[int, ...] = (16, 32, 48, 64),
    tokens: tuple[int, ...] = (131_072, 262_144, 524_288),
    depth: int = 2,
    seeds: Seeds = 1,
    control: bool = True,
    corpus: str = "pysource",
) -> Sweep:
    """Every width on every data size, as an encoder and as a decoder.

    Args:
      widths: model widths, a multiple of 16 each.
      tokens: data sizes.
      depth: blocks of every model.
      seeds: repetitions that differ in initialization and data order.
      control: train the decoders too.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536), vocabulary=256 + SPECIAL)
    decoders = [
        run
        for width in widths
        for seed in range(seeds)
        for run in over_tokens(rule, rule.shape(width, depth), tokens, seed, trunk=False)
    ]
    return Sweep([_encoder(run) for run in decoders] + (decoders if control else []))


def _encoder(run: RunSpec) -> RunSpec:
    model = dataclasses.replace(run.model, architecture="encoder")
    return dataclasses.replace(run, model=model, objective="masked")
