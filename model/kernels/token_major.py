"""Layers over token-major activations x_BTD: the layout of accelerators, whose fused attention wants it.

`columns` holds the same layers for the CPU; `functional` writes the network once over either.
"""

import jax
import jax.numpy as jnp

from model.config import ModelConfig
from model.kernels import choose as choices
from model.kernels import fused_attention, rotary
from model.kernels.device import this_device
from model.parametrization import attention_divisor

ACTIVATION = ("batch", "position", "activation_width")  # logical axes of x_BTD


def embed(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """The table's row of every token, (B, T, D)."""
    return jnp.take(table_VD, tokens_BT, axis=0)


def rms_norm(x: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    """x / rms(x) * gain over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467), computed in float32."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale * gain).astype(x.dtype)


def project(x_BTD: jax.Array, weight_DF: jax.Array) -> jax.Array:
    """The product of every token with a matrix, (B, T, F), in the dtype of `x`."""
    return x_BTD @ weight_DF.astype(x_BTD.dtype)


def gated(x_BTD: jax.Array, gate_DF: jax.Array, up_DF: jax.Array) -> jax.Array:
    """silu of one product times the other, (B, T, F)."""
    return jax.nn.silu(project(x_BTD, gate_DF)) * project(x_BTD, up_DF)


def rotate(x_BTHK: jax.Array, base: float) -> jax.Array:
    """Rotary positions, in float32."""
    cosine, sine = (table[:, None, :] for table in rotary.tables(x_BTHK.shape[1], x_BTHK.shape[3], base))
    first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x_BTHK.dtype)


def attention(
    config: ModelConfig,
    gains: tuple[jax.Array, jax.Array] | None,
    projections: tuple[jax.Array, jax.Array, jax.Array],
    shape_BT: tuple[int, ...],
) -> jax.Array:
    """Causal attention with grouped queries over projected queries, keys and values; returns (B, T, H K)."""
    query, key, value = (x.reshape(*shape_BT, -1, config.resolved_head_width) for x in projections)
    if gains is not None:
        query = rms_norm(query, gains[0], config.norm_epsilon)
        key = rms_norm(key, gains[1], config.norm_epsilon)
    mixed = fused_attention.attend(
        choices.attention(config, this_device(), shape_BT[1]).name,
        rotate(query, config.rope_base),
        rotate(key, config.rope_base),
        value,
        scale=1 / attention_divisor(config),
    )
    return mixed.reshape(*shape_BT, -1)


def logits(x_BTD: jax.Array, table_VD: jax.Array) -> jax.Array:
    """Scores of every next token, (B, T, V) float32."""
    table_VD = table_VD.astype(x_BTD.dtype)
    return jax.lax.dot_general(x_BTD, table_VD, (((2,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def to_BTV(logits_BTV: jax.Array, shape_BT: tuple[int, ...]) -> jax.Array:
    """Activations or logits of this layout as (B, T, V): themselves."""
    return logits_BTV


def token_losses(logits_BTV: jax.Array, targets_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T) float32, nats."""
    logz_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    target_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return logz_BT - target_BT, logz_BT
