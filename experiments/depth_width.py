"""Deep and narrow, or shallow and wide, at the same number of parameters?

Claim   loss is flat in width / depth over a wide range (Kaplan et al. 2020, arXiv 2001.08361, figure 5: less than 3%
        over a factor 40 in aspect); here it is not
Run     python launch.py run depth_width
        python -m analysis.report runs/depth_width
Cost    9 minutes on 2 CPU cores that other programs used too
Expect  docs/results/depth_width.md

For each depth the width is the nearest multiple of 4, and the feed-forward width takes up the rest, so that sizes agree
within 1%. Every shape has the same learning rate.
"""

import dataclasses
import math

from core.errors import BadInput
from data.config import DataConfig
from experiments.grids import over_tokens
from experiments.scaling import ScalingRule, head_width
from experiments.spec import Seeds, Sweep, check_at_least
from model.config import ModelConfig

USUAL_FF = 8 / 3  # feed-forward width over width of a gated network (Shazeer 2020, arXiv 2002.05202)
FF_RANGE = (1.5, 5.0)
CLOSE = 0.01


def sweep(
    params: tuple[float, ...] = (3.4e4, 1.2e5),
    depths: tuple[int, ...] = (1, 2, 4, 8),
    tokens: tuple[int, ...] = (327_680, 655_360, 1_310_720),
    seeds: Seeds = 1,
    trunk: bool = True,
    corpus: str = "pysource",
    rule: str = "",
) -> Sweep:
    """For each size and depth, every data size.

    Args:
      params: sizes, embedding table not counted, head counted.
      depths: blocks.
      tokens: data sizes.
      seeds: repetitions that differ in initialization and data order.
      trunk: share the constant part among data sizes.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
    """
    check_at_least(1, seeds=seeds, depths=min(depths, default=0))
    scaling = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    return Sweep(
        run
        for model in [shape(scaling, size, depth) for size in params for depth in depths]
        for seed in range(seeds)
        for run in over_tokens(scaling, model, tokens, seed, trunk)
    )


def shape(rule: ScalingRule, params: float, depth: int) -> ModelConfig:
    """A model of this depth with `params` parameters within 1%, feed-forward ratio as near to the usual as can be.

    Raises:
      BadInput: no width gives that many parameters at a sensible feed-forward ratio.
    """
    best, best_cost = None, math.inf
    for width in range(8, 8193, 4):
        if width * rule.vocabulary > params:
            break
        model = _filled(rule, params, depth, width)
        cost = math.inf if model is None else abs(math.log(model.ff_width / width / USUAL_FF))
        if cost < best_cost:
            best, best_cost = model, cost
    if best is None:
        raise BadInput(
            f"depths={depth}: no width gives params={params:g} within {CLOSE:.0%} at that depth with a feed-forward "
            f"{FF_RANGE[0]:g} to {FF_RANGE[1]:g} times as wide"
        )
    return best


def _filled(rule: ScalingRule, params: float, depth: int, width: int) -> ModelConfig | None:
    """The model of this width whose feed-forward makes up `params`; None where that is out of range or not close."""

    usual = rule.shape(width, depth, width // _heads(width, head_width(params)))

    def model(ff_width: int) -> ModelConfig:
        return dataclasses.replace(usual, ff_width=ff_width)

    smallest, larger = rule.count(model(1)), rule.count(model(2))
    ff_width = 1 + round((params - smallest) / (larger - smallest))
    if not FF_RANGE[0] <= ff_width / width <= FF_RANGE[1]:
        return None
    filled = model(ff_width)
    return filled if abs(rule.count(filled) / params - 1) <= CLOSE else None


def _heads(width: int, target: int) -> int:
    """How many heads of an even width make up `width`, each as near to `target` wide as can be."""
    allowed = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return min(allowed, key=lambda heads: abs(math.log(width / heads / target)))
