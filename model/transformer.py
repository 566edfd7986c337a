"""The network, from tokens to losses: what every run trains.

Axes: B batch, T position, D width, F feed-forward, H query heads, G key heads, K head width, V vocabulary, L layers.
Modules are built from the parameter tree (model/parameters.py has every shape and start), inside the program that is
compiled. Each is the definition of what it computes; model/kernels/ holds faster ways to compute some of them.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from model import parametrization, rotary
from model.config import ModelConfig
from model.depth import in_turn
from model.extras import Extras
from model.loss import Pair, cross_entropy
from model.parameters import Parameters, architecture, beginning_with, encoder_of
from model.sharding import constrain


class Norm(nnx.Module):
    """x / rms(x) * gain over the last axis, in float32 (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, gain: jax.Array, epsilon: float):
        self.gain, self.epsilon = nnx.Param(gain), epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalized(x, self.gain[...], self.epsilon)


@functools.partial(jax.checkpoint, static_argnums=2)  # else the backward pass keeps float32 copies of x
def _normalized(x: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale * gain).astype(x.dtype)


class Attention(nnx.Module):
    """Causal, with grouped queries, rotary positions and, if asked, normalized queries and keys (model/config.py)."""

    def __init__(self, config: ModelConfig, params: Parameters):
        self.config = config
        self.query, self.key, self.value = (nnx.Param(params[name]) for name in ("query", "key", "value"))
        self.output = nnx.Param(params["attention_output"])
        if config.qk_norm:
            self.query_norm = Norm(params["query_norm"], config.norm_epsilon)
            self.key_norm = Norm(params["key_norm"], config.norm_epsilon)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        q_BTHK, k_BTGK, v_BTGK = self.projections(x_BTD)
        q_BTHK, k_BTGK = (rotary.rotate(x, self.config.rope_base) for x in (q_BTHK, k_BTGK))
        return self.merged(self.mix(q_BTHK, k_BTGK, v_BTGK, 1 / parametrization.attention_divisor(self.config)))

    def projections(self, x_BTD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, H, K), keys and values (B, T, G, K), not yet turned by their positions."""
        projections = (x_BTD @ weight.astype(x_BTD.dtype) for weight in (self.query, self.key, self.value))
        shape = (*x_BTD.shape[:2], -1, self.config.resolved_head_width)
        q_BTHK, k_BTGK, v_BTGK = (projection.reshape(shape) for projection in projections)
        if self.config.qk_norm:
            q_BTHK, k_BTGK = self.query_norm(q_BTHK), self.key_norm(k_BTGK)
        return q_BTHK, k_BTGK, v_BTGK

    def merged(self, mixed_BTHK: jax.Array) -> jax.Array:
        """All heads back into the stream, (B, T, D)."""
        return mixed_BTHK.reshape(*mixed_BTHK.shape[:2], -1) @ self.output.astype(mixed_BTHK.dtype)

    def mix(self, q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
        """Means of values, weighted by the softmax of scaled scores over the positions so far; (B, T, H, K)."""
        return jax.nn.dot_product_attention(
            q_BTHK, k_BTGK, v_BTGK, scale=scale, is_causal=True, implementation="xla"
        )


class FeedForward(nnx.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202) or GELU (the tanh form; Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, config: ModelConfig, params: Parameters):
        self.up, self.down = nnx.Param(params["up"]), nnx.Param(params["down"])
        self.gate = nnx.Param(params["gate"]) if config.activation == "swiglu" else None

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        up_BTF = x_BTD @ self.up.astype(x_BTD.dtype)
        if self.gate is None:
            hidden_BTF = jax.nn.gelu(up_BTF, approximate=True)
        else:
            hidden_BTF = jax.nn.silu(x_BTD @ self.gate.astype(x_BTD.dtype)) * up_BTF
        return hidden_BTF @ self.down.astype(x_BTD.dtype)


class Block(nnx.Module):
    """Pre-normalization: x + attention, then x + feed-forward."""

    def __init__(self, config: ModelConfig, params: Parameters):
        self.branch = parametrization.branch_multiplier(config)
        self.attention_norm = Norm(params["attention_norm"], config.norm_epsilon)
        self.attention = Attention(config, params)
        self.feed_forward_norm = Norm(params["feed_forward_norm"], config.norm_epsilon)
        self.feed_forward = FeedForward(config, params)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.branch * self.attention(self.attention_norm(x_BTD))
        return x_BTD + self.branch * self.feed_forward(self.feed_forward_norm(x_BTD))


class Embedding(nnx.Module):
    """The table's row of every token: the start of the residual stream."""

    stream: tuple[str, ...] = ("batch", "position", "activation_width")  # logical axes of x_BTD

    def __init__(self, config: ModelConfig, table_VD: jax.Array):
        self.config, self.table = config, nnx.Param(table_VD)

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        # The look-up reads rows whose width is whole, and its result is cut over sequences at once: with the width
        # still cut, the partitioner makes every row whole on every device to get from one cut to the other.
        table_VD = constrain(self.table[...], ("vocabulary", "activation_width"))
        return constrain(self.look_up(table_VD, tokens_BT), self.stream).astype(self.config.compute_dtype)

    def look_up(self, table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
        return jnp.take(table_VD, tokens_BT, axis=0)


class Head(nnx.Module):
    """Scores of every next token, and the losses they make."""

    def __init__(self, config: ModelConfig, table_VD: jax.Array):
        self.softcap, self.table = config.logit_softcap, nnx.Param(table_VD)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Logits (B, T, V), float32."""
        table_VD = self.table.astype(x_BTD.dtype)
        logits_BTV = jnp.einsum("btd,vd->btv", x_BTD, table_VD, preferred_element_type=jnp.float32)
        return self.softcap * jnp.tanh(logits_BTV / self.softcap) if self.softcap else logits_BTV

    def token_losses(self, x_BTD: jax.Array, targets_BT: jax.Array) -> Pair:
        """As `cross_entropy`."""
        return cross_entropy(self(x_BTD), targets_BT)

    def objective(self, x_BTD: jax.Array, targets_BT: jax.Array, z_loss: jax.Array | float) -> Pair:
        """Mean loss plus z_loss times the mean squared log-partition, and the mean loss alone; nats per token."""
        nll_BT, logz_BT = self.token_losses(x_BTD, targets_BT)
        loss = jnp.mean(nll_BT)
        return loss + z_loss * jnp.mean(jnp.square(logz_BT)), loss


class Transformer(nnx.Module):
    """Embedding, blocks, normalization, head. `blocks` holds all blocks: its arrays have a leading layer axis."""

    def __init__(self, config: ModelConfig, params: Parameters):
        self.config = config
        self.embedding = Embedding(config, params["embedding"])
        self.blocks = architecture(config).block()(config, params["blocks"])
        if (encoder := encoder_of(config)) is not None:
            self.encoder = encoder(config, beginning_with("encoder_", params["blocks"]))
        self.final_norm = Norm(params["final_norm"], config.norm_epsilon)
        self.head = Head(config, params["embedding" if config.tied else "head"])

    def __call__(self, tokens_BT: jax.Array, source_BU: jax.Array | None = None) -> jax.Array:
        """Logits of every next token, (B, T, V) float32; those of position t depend on tokens up to t alone; of an
        encoder those of the token at each position, which depend on all."""
        return self.head(self.hidden(tokens_BT, source_BU))

    def hidden(self, tokens_BT: jax.Array, source_BU: jax.Array | None = None) -> jax.Array:
        """What the head reads, (B, T, D): the residual stream after all blocks, normalized and scaled.

        Args:
          source_BU: what the encoder of an encoder_decoder reads, all of which its decoder sees; None for one stack.
        """
        return self.hidden_and_extras(tokens_BT, source_BU)[0]

    def hidden_and_extras(
        self, tokens_BT: jax.Array, source_BU: jax.Array | None = None
    ) -> tuple[jax.Array, Extras | None]:
        """As `hidden`, and what the blocks hand to the objective; None for blocks that hand it nothing."""
        more = () if source_BU is None else (self.encoded(source_BU),)
        x_BTD, extras = in_turn(
            self.blocks, self.config, self.embedding(tokens_BT), self.embedding.stream, *more
        )
        return parametrization.logit_multiplier(self.config) * self.final_norm(x_BTD), extras

    def encoded(self, source_BU: jax.Array) -> jax.Array:
        """The encoder's residual stream after its blocks, (B, U, D)."""
        return in_turn(self.encoder, self.config, self.embedding(source_BU), self.embedding.stream)[0]
