"""What do experts buy: at equal compute and equal active parameters, which loss, and does the gain last with size?

Claim   at equal active parameters more experts end lower, and what they gain shrinks as the network grows (Clark et al.
        2022, arXiv 2202.01169, eq. 1: the sign of c)
Run     python launch.py run experts
        python -m analysis.compare runs/experts --by model.experts --flops exact --frontier hull
Cost    16 minutes on 2 CPU cores that many other programs used too
Expect  stated before the run; docs/results/experts.md says what came
        E = 1: the decoder to the last bit, a multiplier of 1 (the control)
        E = 8 and 32: multipliers above 1. Clark et al.'s fit at E = 64 is a factor of 4 to 8 in N at 15M parameters,
        falling as N grows (b + c log10 N nears 0). Ludziejewski et al. 2025 (arXiv 2502.05172): at a fixed budget the
        best E grows with tokens per active parameter. Abnar et al. 2025 (arXiv 2501.12370): at a fixed budget more
        sparsity keeps lowering the loss. A thousand times smaller, with few tokens for each expert, a gain below theirs
        is expected: between 1.05 and 2

Every expert is half as wide as the decoder's feed-forward, and a token meets two: active parameters differ by the
router alone. E counts these halves, so the total of the feed-forward is E / 2 times the dense one. All arms of a size
have one peak learning rate, the rule's for the decoder.
"""

import dataclasses
import functools
from typing import Any

from core.errors import BadInput
from data.config import DataConfig
from experiments.grids import over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least
from model.config import ModelConfig

PER_TOKEN = 2

PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {},
    "h100": {
        "experts": (0, 8, 32),
        "widths": (256, 512, 768),
        "depth": 8,
        "tokens_per_param": (20.0, 40.0, 80.0),
        "seeds": 1,
        "large": True,
    },
}


def sweep(
    experts: tuple[int, ...] = (0, 1, 8, 32),
    widths: tuple[int, ...] = (16, 24, 40),
    tokens_per_param: tuple[float, ...] = (4.0, 8.0, 16.0),
    depth: int = 2,
    seeds: Seeds = 2,
    large: bool = False,
    corpus: str = "pysource",
) -> Sweep:
    """For each count of experts, width and seed, every data size; the constant part is shared among data sizes.

    Args:
      experts: E, at least 2 or 1 for a single one; 0 is the decoder.
      widths: model widths, a multiple of 8 each.
      tokens_per_param: data sizes over the decoder's parameters.
      depth: blocks of every model.
      seeds: repetitions that differ in initialization and data order.
      large: batches of 64 times as many tokens, bfloat16, a scanned stack with remat=block, heads of 64.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, depth=depth, seeds=seeds)
    if any(count < 0 for count in experts):
        raise BadInput(f"experts={list(experts)}: must be at least 0 each")
    rule = ScalingRule(data=DataConfig(corpus=corpus, validation_tokens=65_536))
    if large:
        rule = dataclasses.replace(
            rule, batch_tokens=64 * rule.batch_tokens, compute_dtype="bfloat16", scan=True
        )
    runs: list[RunSpec] = []
    for width in widths:
        dense = rule.shape(width, depth, 64 if large else 16)
        dense = dataclasses.replace(dense, remat="block") if large else dense
        tokens = [rule.count(dense) * ratio for ratio in tokens_per_param]
        for seed in range(seeds):
            plain = Sweep(over_tokens(rule, dense, tokens, seed))
            for count in experts:
                runs += plain.each(functools.partial(dataclasses.replace, model=routed(dense, count)))
    return Sweep(runs)


def routed(dense: ModelConfig, experts: int) -> ModelConfig:
    """The decoder, or the network of as many active parameters, but for the router, whose experts are halves."""
    if experts == 0:
        return dense
    if experts == 1:
        return dataclasses.replace(dense, architecture="mixture_of_experts", experts=1)
    half = -(-dense.resolved_ff_width // PER_TOKEN)
    return dataclasses.replace(
        dense,
        architecture="mixture_of_experts",
        experts=experts,
        experts_per_token=PER_TOKEN,
        expert_ff_width=half,
        router_z_loss=1e-3,
    )
