"""How initial scales, multipliers and learning rates follow from width and depth: the one table of them. Pure numbers.

`standard` sets every initial scale from the shape alone and trains all parameters at one learning rate. `mup` is the
maximal-update parametrization (Yang et al. 2022, arXiv 2203.03466, table 8: the form that allows a tied head), with
the depth rules of Yang et al. 2023 (arXiv 2310.02244): a learning rate that is best at one width and depth stays near
the best at others. With D width, L depth, K head width, f the fan-in of a matrix, and 0 for the base shape:

                                    standard            mup
    initial deviation
      embedding, head               1 / sqrt(D)         1 / sqrt(D0)
      query, key, value, up, gate   1 / sqrt(f)         1 / sqrt(f)
      attention_output, down        1 / sqrt(2 L f)     1 / sqrt(2 L0 f)
    multiplier in the forward pass
      attention scores              1 / sqrt(K)         sqrt(K0) / K
      branch into the residual      1                   sqrt(L0 / L)
      logits                        1                   D0 / D
    multiplier of Adam's step
      embedding, head, final gain   1                   1
      matrices of blocks            1                   f0 / f  sqrt(L0 / L)
      gains of blocks               1                   sqrt(L0 / L)
    multiplier of Adam's epsilon
      embedding, head, final gain   1                   D0 / D
      everything in blocks          1                   D0 / D  sqrt(L0 / L)

Weight decay carries no multiplier: a step removes the same share of every matrix at every width, which is what Yang
et al. ask of a decoupled decay. Epsilon follows the gradients, which all shrink as 1 / D under this table and, in
blocks, with the branch's multiplier; left alone, it would freeze wide models (Dey et al. 2025, arXiv 2505.01618, scale
it for the same reason). At the base shape both columns are the same numbers, so the two parametrizations are the same
program there.
"""

import dataclasses
import math

from model.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Scales:
    """What the table says of one parameter.

    Attributes:
      deviation: standard deviation of its start; None for a gain, which starts at one.
      learning_rate: multiplier of Adam's step.
      epsilon: multiplier of Adam's epsilon.
    """

    deviation: float | None
    learning_rate: float = 1.0
    epsilon: float = 1.0


def _is_mup(config: ModelConfig) -> bool:
    return config.parametrization == "mup"


def _width_ratio(config: ModelConfig) -> float:
    """D0 / D."""
    return config.base_width / config.width


def branch_multiplier(config: ModelConfig) -> float:
    """What a branch is multiplied by before it is added to the residual stream."""
    return math.sqrt(config.base_depth / config.depth) if _is_mup(config) else 1.0


def logit_multiplier(config: ModelConfig) -> float:
    """What the head's product is multiplied by."""
    return _width_ratio(config) if _is_mup(config) else 1.0


def attention_divisor(config: ModelConfig) -> float:
    """What the product of a query and a key is divided by."""
    head_width = config.resolved_head_width
    return head_width / math.sqrt(config.base_head_width) if _is_mup(config) else math.sqrt(head_width)


def table(config: ModelConfig) -> Scales:
    """The embedding table, and an untied head."""
    if _is_mup(config):
        return Scales(1 / math.sqrt(config.base_width), epsilon=_width_ratio(config))
    return Scales(1 / math.sqrt(config.width))


def matrix(config: ModelConfig, fan_in: int, base_fan_in: int, *, writes: bool = False) -> Scales:
    """A matrix of a block.

    Args:
      fan_in, base_fan_in: rows of the matrix, here and at the base shape.
      writes: whether its product is added to the residual stream.
    """
    depth = config.base_depth if _is_mup(config) else config.depth
    deviation = (1 / math.sqrt(2 * depth) if writes else 1.0) / math.sqrt(fan_in)
    if not _is_mup(config):
        return Scales(deviation)
    branch = branch_multiplier(config)
    return Scales(deviation, base_fan_in / fan_in * branch, _width_ratio(config) * branch)


def block_gain(config: ModelConfig) -> Scales:
    """A normalization gain of a block."""
    if not _is_mup(config):
        return Scales(None)
    branch = branch_multiplier(config)
    return Scales(None, branch, _width_ratio(config) * branch)


def final_gain(config: ModelConfig) -> Scales:
    """The gain of the last normalization."""
    return Scales(None, epsilon=_width_ratio(config)) if _is_mup(config) else Scales(None)
