"""Attention that is not causal, and the blocks made of it: of an encoder, and of a decoder that reads a source.

Axes as in model/transformer.py, and U positions of the source. The classes are not those that the causal kernels of
model/kernels/ replace: they are computed as they are written.
"""

import jax
from flax import nnx

from model import parametrization, rotary
from model.config import ModelConfig
from model.parameters import Parameters, beginning_with
from model.transformer import Attention, Block, Norm


class BothSides(Attention):
    """Every position sees all positions."""

    def mix(self, q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
        return jax.nn.dot_product_attention(q_BTHK, k_BTGK, v_BTGK, scale=scale, implementation="xla")


class CrossAttention(BothSides):
    """Queries of the target over keys and values of the source.

    Positions go on from the source to the target: query t turns as position U + t, so that a head can find the source's
    last tokens (as Zhang et al. 2025, arXiv 2510.26622, section 3, let rotary positions continue).
    """

    def __call__(self, x_BTD: jax.Array, source_BUD: jax.Array) -> jax.Array:  # type: ignore[override]
        q_BTHK, k_BUGK, v_BUGK = self.of_both(x_BTD, source_BUD)
        base, before = self.config.rope_base, source_BUD.shape[1]
        q_BTHK, k_BUGK = rotary.rotate(q_BTHK, base, before), rotary.rotate(k_BUGK, base)
        return self.merged(self.mix(q_BTHK, k_BUGK, v_BUGK, 1 / parametrization.attention_divisor(self.config)))

    def of_both(self, x_BTD: jax.Array, source_BUD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, H, K) of the target, keys and values (B, U, G, K) of the source, not yet turned."""

        def heads(x: jax.Array, weight: nnx.Param) -> jax.Array:
            product = x @ weight.astype(x.dtype)
            return product.reshape(*product.shape[:2], -1, self.config.resolved_head_width)

        q_BTHK, k_BUGK = heads(x_BTD, self.query), heads(source_BUD, self.key)
        if self.config.qk_norm:
            q_BTHK, k_BUGK = self.query_norm(q_BTHK), self.key_norm(k_BUGK)
        return q_BTHK, k_BUGK, heads(source_BUD, self.value)


class EncoderBlock(Block):
    """`Block` with attention to both sides."""

    def __init__(self, config: ModelConfig, params: Parameters):
        super().__init__(config, params)
        self.attention = BothSides(config, params)


class DecoderBlock(Block):
    """x + causal attention, then x + attention to the source, then x + feed-forward."""

    def __init__(self, config: ModelConfig, params: Parameters):
        super().__init__(config, params)
        self.cross_norm = Norm(params["cross_norm"], config.norm_epsilon)
        self.source_norm = Norm(params["source_norm"], config.norm_epsilon)
        self.cross = CrossAttention(config, beginning_with("cross_", params))

    def __call__(self, x_BTD: jax.Array, source_BUD: jax.Array) -> jax.Array:  # type: ignore[override]
        x_BTD = x_BTD + self.branch * self.attention(self.attention_norm(x_BTD))
        source_BUD = self.source_norm(source_BUD)
        x_BTD = x_BTD + self.branch * self.cross(self.cross_norm(x_BTD), source_BUD)
        return x_BTD + self.branch * self.feed_forward(self.feed_forward_norm(x_BTD))
