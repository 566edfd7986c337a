"""The block of a sparse decoder: attention, then a few of many feed-forwards, chosen for each token by a router.

Shazeer et al. 2017 (arXiv 1701.06538); experts narrower than a dense feed-forward and shared ones after Dai et al. 2024
(arXiv 2401.06066). With one expert there is nothing to choose: the block is the decoder's, to the last bit.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from model.blocks.decoder import attention_parameters, feed_forward_parameters
from model.config import ModelConfig
from model.parameters import Leaf, Parameters, gain, matrix, of_experts
from model.parametrization import Scales

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from model.extras import Extras

RUNS_FEATURE_MAJOR = True
MUP = False
READS = (
    "experts", "experts_per_token", "shared_experts", "expert_ff_width", "router_z_loss", "balance", "balance_weight",
)  # fmt: skip


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of one block."""
    leaves = {
        "attention_norm": gain(config, "width"),
        **attention_parameters(config),
        "feed_forward_norm": gain(config, "width"),
    }
    width = config.resolved_expert_ff_width
    if not config.is_routed:
        return leaves | _feed_forward(config, width)
    experts, met = config.resolved_experts, config.resolved_experts_per_token
    routed = _feed_forward(config, width)
    leaves |= {f"experts_{name}": of_experts(leaf, experts, met) for name, leaf in routed.items()}
    if config.shared_experts:
        shared = _feed_forward(config, config.shared_experts * width)
        leaves |= {f"shared_{name}": leaf for name, leaf in shared.items()}
    leaves["router"] = matrix(config, "width", ("scores", experts))
    if config.balance == "bias":
        leaves["router_bias"] = Leaf((experts,), ("scores",), Scales(0.0))
    return leaves


def _feed_forward(config: ModelConfig, width: int) -> dict[str, Leaf]:
    """Of another hidden width."""
    return feed_forward_parameters(dataclasses.replace(config, ff_width=width))


def block() -> "Callable[[ModelConfig, Parameters], nnx.Module]":
    """Builds `Routed`, or with one expert the decoder's block."""
    from flax import nnx  # here: planning counts parameters without JAX

    from model.experts import Experts
    from model.transformer import Attention, Block, Norm

    class Routed(nnx.Module):
        """Pre-normalization: x + attention, then x + the chosen experts."""

        def __init__(self, config: ModelConfig, params: Parameters):
            self.attention_norm = Norm(params["attention_norm"], config.norm_epsilon)
            self.attention = Attention(config, params)
            self.experts_norm = Norm(params["feed_forward_norm"], config.norm_epsilon)
            self.experts = Experts(config, params)

        def __call__(self, x_BTD: "jax.Array") -> "jax.Array":
            return self.with_extras(x_BTD)[0]

        def with_extras(self, x_BTD: "jax.Array") -> "tuple[jax.Array, Extras]":
            x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
            y_BTD, extras = self.experts(self.experts_norm(x_BTD))
            return x_BTD + y_BTD, extras

    def build(config: ModelConfig, params: Parameters) -> nnx.Module:
        return (Routed if config.is_routed else Block)(config, params)

    return build


def after_step(
    config: ModelConfig, before: Parameters, after: Parameters, kept: "dict[str, jax.Array]"
) -> Parameters:
    """The arrays of all blocks with the bias of balance=bias moved; no optimizer moves it."""
    if config.balance != "bias":
        return after
    from model.experts import moved_bias

    return {**after, "router_bias": moved_bias(config, before["router_bias"], kept["load"])}
