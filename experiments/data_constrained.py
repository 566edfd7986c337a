"""What is a repeated token worth?  Epochs over limited text against text that is read once.

Claim   a few epochs are worth nearly as much as new text, and their worth decays exponentially after that
        (Muennighoff et al. 2023, arXiv 2305.16264: up to 4 epochs; R_D* = 15.4)
Run     python launch.py run data_constrained
        python -m analysis.report runs/data_constrained
Cost    7 minutes on 2 CPU cores that other programs used too
Expect  docs/results/data_constrained.md

A run whose limit is not below its tokens is the run without the limit, so it is trained once, without one.
"""

import dataclasses

from core.errors import BadInput
from data.config import DataConfig
from experiments.grids import models_of, over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least


def sweep(
    params: tuple[float, ...] = (1.1e4, 3.3e4, 6.8e4),
    unique_tokens: tuple[int, ...] = (32_768, 131_072, 524_288, 0),
    tokens: tuple[int, ...] = (131_072, 262_144, 524_288, 1_048_576, 2_097_152),
    seeds: Seeds = 1,
    trunk: bool = True,
    corpus: str = "pysource",
    rule: str = "",
) -> Sweep:
    """For each size and amount of unique text, every data size beyond it.

    Args:
      params: sizes; each becomes the rule's nearest shape.
      unique_tokens: distinct tokens that a run may read; 0 for the whole train split.
      tokens: data sizes, repetitions counted.
      seeds: repetitions that differ in initialization, data order and which text is the unique one.
      trunk: share the constant part among data sizes.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
    """
    check_at_least(1, seeds=seeds)
    check_at_least(0, unique_tokens=min(unique_tokens, default=0))
    if not unique_tokens:
        raise BadInput("unique_tokens=[]: at least one is needed; 0 stands for the whole train split")
    everything = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs = []
    for limit in unique_tokens:
        scaling = dataclasses.replace(
            everything, data=dataclasses.replace(everything.data, unique_tokens=limit)
        )
        beyond = [count for count in tokens if count > limit]
        if tokens and not beyond:
            raise BadInput(
                f"unique_tokens={limit}: every one of tokens={list(tokens)} is at most that, so nothing is repeated"
            )
        if trunk and beyond:
            # A trunk warms up for a share of its shortest branch: here all warm up alike, whatever they may read.
            share = everything.warmup_fraction * min(tokens) / min(beyond)
            scaling = dataclasses.replace(scaling, warmup_fraction=share)
        for model in models_of(scaling, params):
            for seed in range(seeds):
                runs += over_tokens(scaling, model, beyond, seed, trunk)
    return Sweep(runs)
