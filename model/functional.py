"""The network as pure functions of a parameter tree: what training, packing and sharding are built on."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from model.config import ModelConfig
from model.parameters import Parameters, init
from model.sharding import constrain

__all__ = ["Parameters", "apply", "init", "token_losses"]

ACTIVATION = ("batch", "position", "activation_width")


def rms_norm(x: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    """x / rms(x) * gain over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467), computed in float32."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale * gain).astype(x.dtype)


def rotate(x_BTHK: jax.Array, base: float) -> jax.Array:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864): pair k of the two halves turns by t base^(-2k/K)."""
    length, head_width = x_BTHK.shape[1], x_BTHK.shape[3]
    frequency = base ** (-jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    angle = (jnp.arange(length, dtype=jnp.float32)[:, None] * frequency)[:, None, :]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x_BTHK.dtype)


def attention(config: ModelConfig, block: Parameters, x_BTD: jax.Array) -> jax.Array:
    """Causal self-attention with grouped queries; returns (B, T, D)."""
    batch, length, _ = x_BTD.shape
    dtype, head_width = x_BTD.dtype, config.resolved_head_width

    def heads(name: str) -> jax.Array:
        return (x_BTD @ block[name].astype(dtype)).reshape(batch, length, -1, head_width)

    query, key, value = heads("query"), heads("key"), heads("value")
    if config.qk_norm:
        query = rms_norm(query, block["query_norm"], config.norm_epsilon)
        key = rms_norm(key, block["key_norm"], config.norm_epsilon)
    query, key = rotate(query, config.rope_base), rotate(key, config.rope_base)
    mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    return mixed.reshape(batch, length, -1) @ block["attention_output"].astype(dtype)


def feed_forward(config: ModelConfig, block: Parameters, x_BTD: jax.Array) -> jax.Array:
    """SwiGLU (Shazeer 2020, arXiv 2002.05202) or tanh GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    dtype = x_BTD.dtype
    hidden = x_BTD @ block["up"].astype(dtype)
    if config.activation == "swiglu":
        hidden = jax.nn.silu(x_BTD @ block["gate"].astype(dtype)) * hidden
    else:
        hidden = jax.nn.gelu(hidden, approximate=True)
    return hidden @ block["down"].astype(dtype)


def transform(config: ModelConfig, block: Parameters, x_BTD: jax.Array) -> jax.Array:
    """One pre-normalization block."""
    x_BTD = constrain(x_BTD, ACTIVATION)
    x_BTD += attention(config, block, rms_norm(x_BTD, block["attention_norm"], config.norm_epsilon))
    x_BTD += feed_forward(config, block, rms_norm(x_BTD, block["feed_forward_norm"], config.norm_epsilon))
    return constrain(x_BTD, ACTIVATION)


def hidden(config: ModelConfig, params: Parameters, tokens_BT: jax.Array) -> jax.Array:
    """The residual stream after the last block and the final normalization, (B, T, D)."""
    x_BTD = params["embedding"].astype(config.compute_dtype)[tokens_BT]
    step: Callable[[Parameters, jax.Array], jax.Array] = functools.partial(transform, config)
    if config.remat == "block":
        step = jax.checkpoint(step)
    if config.scan:
        x_BTD, _ = jax.lax.scan(lambda x, block: (step(block, x), None), x_BTD, params["blocks"])
    else:
        for layer in range(config.depth):
            x_BTD = step(jax.tree.map(lambda stacked, layer=layer: stacked[layer], params["blocks"]), x_BTD)
    return rms_norm(x_BTD, params["final_norm"], config.norm_epsilon)


def apply(config: ModelConfig, params: Parameters, tokens_BT: jax.Array) -> jax.Array:
    """Logits of every next token, (B, T, V) float32; position t depends on tokens up to t alone."""
    x_BTD = hidden(config, params, tokens_BT)
    table_VD = params["embedding" if config.tied else "head"].astype(x_BTD.dtype)
    logits_BTV = jax.lax.dot_general(
        x_BTD, table_VD, (((2,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    if config.logit_softcap:
        logits_BTV = config.logit_softcap * jnp.tanh(logits_BTV / config.logit_softcap)
    return logits_BTV


def token_losses(
    config: ModelConfig, params: Parameters, tokens_BT: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T) float32, nats.

    The square of the second is the z-loss (Chowdhery et al. 2022, arXiv 2204.02311, section 5).
    """
    logits_BTV = apply(config, params, tokens_BT)
    logz_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    target_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return logz_BT - target_BT, logz_BT
