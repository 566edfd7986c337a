"""Layers over feature-major activations x_DN, N = B T tokens side by side: the layout of the CPU.

XLA's CPU compiler vectorizes along the last axis and adds up slowly over it. With the tokens last, every
normalization, softmax and loss adds over an earlier axis, rotary positions turn whole rows, and every weight meets
all tokens in one matrix product. Attention goes block by block of queries, so that the half of the scores that
causality forbids is mostly never computed. `rows` holds the same layers for accelerators.
"""

import jax
import jax.numpy as jnp

from model import rotary
from model.choices import LONGEST_KEPT, query_blocks
from model.config import ModelConfig
from model.parametrization import attention_divisor

ACTIVATION = ("activation_width", "batch")  # logical axes of x_DN: the sequences lie one after the other

FORBIDDEN = -1e30  # finite, so that a difference of two stays a number


def embed(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """The table's row of every token as a column, (D, N)."""
    return jnp.take(table_VD, tokens_BT.reshape(-1), axis=0).T


def rms_norm(x_DN: jax.Array, gain_D: jax.Array, epsilon: float) -> jax.Array:
    """x / rms(x) * gain over the first axis (Zhang & Sennrich 2019, arXiv 1910.07467)."""
    scale = jax.lax.rsqrt(jnp.mean(x_DN * x_DN, axis=0, keepdims=True) + epsilon)
    return x_DN * scale * gain_D[:, None]


def project(x_DN: jax.Array, weight_DF: jax.Array) -> jax.Array:
    """The product of every token with a matrix, (F, N)."""
    return jax.lax.dot_general(weight_DF, x_DN, (((0,), (0,)), ((), ())))


def normalize_heads(x_HKBT: jax.Array, gain_K: jax.Array, epsilon: float) -> jax.Array:
    """`rms_norm` of every head."""
    scale = jax.lax.rsqrt(jnp.mean(x_HKBT * x_HKBT, axis=1, keepdims=True) + epsilon)
    return x_HKBT * scale * gain_K[:, None, None]


def rotate(x_HKBT: jax.Array, base: float) -> jax.Array:
    """Rotary positions, as in `rows.rotate`."""
    cosine, sine = (table.T[:, None, :] for table in rotary.tables(x_HKBT.shape[3], x_HKBT.shape[1], base))
    first, second = jnp.split(x_HKBT, 2, axis=1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=1)


def _product(left: jax.Array, right: jax.Array, contract: tuple[int, int]) -> jax.Array:
    """Matrix product for each group and sequence (axes 0 and 1), over one axis of either side."""
    return jax.lax.dot_general(left, right, (((contract[0],), (contract[1],)), ((0, 1), (0, 1))))


def _columns_of(x_GBKRT: jax.Array, start: int, stop: int) -> jax.Array:
    """Positions start to stop of all R queries of a group, side by side."""
    return x_GBKRT[..., start:stop].reshape(*x_GBKRT.shape[:3], -1)


def _attend_forward(query_GBKRT, key_GBKT, value_GBKT):  # type: ignore[no-untyped-def]
    outputs, weights, totals = [], [], []
    repeats, length = query_GBKRT.shape[3:]
    for start, stop in query_blocks(length):
        scores = _product(key_GBKT[..., :stop], _columns_of(query_GBKRT, start, stop), (2, 2))  # keys x queries
        position = jnp.tile(jnp.arange(start, stop), repeats)
        scores = jnp.where(jnp.arange(stop)[:, None] <= position, scores, FORBIDDEN)
        weight = jnp.exp(scores - jnp.max(scores, axis=2, keepdims=True))
        total = jnp.sum(weight, axis=2, keepdims=True)
        output = _product(value_GBKT[..., :stop], weight, (3, 2)) / total
        outputs.append(output.reshape(*output.shape[:3], repeats, -1))
        weights.append(weight)
        totals.append(total)
    output_GBKRT = jnp.concatenate(outputs, axis=-1)
    return output_GBKRT, (query_GBKRT, key_GBKT, value_GBKT, output_GBKRT, weights, totals)


def _attend_backward(kept, cotangent_GBKRT):  # type: ignore[no-untyped-def]
    # With weights w = e / total: d value = w^T d, and d score = w (value^T d - sum_k d output) (Dao et al. 2022,
    # arXiv 2205.14135, appendix B.2). Dividing d by the total once replaces dividing every weight.
    query_GBKRT, key_GBKT, value_GBKT, output_GBKRT, weights, totals = kept
    repeats, length = query_GBKRT.shape[3:]
    query_parts = []
    d_key, d_value = jnp.zeros_like(key_GBKT), jnp.zeros_like(value_GBKT)
    for (start, stop), weight, total in zip(query_blocks(length), weights, totals, strict=True):
        cotangent = _columns_of(cotangent_GBKRT, start, stop) / total
        overlap = jnp.sum(cotangent * _columns_of(output_GBKRT, start, stop), axis=2, keepdims=True)
        d_scores = weight * (_product(value_GBKT[..., :stop], cotangent, (2, 2)) - overlap)
        d_query = _product(key_GBKT[..., :stop], d_scores, (3, 2))
        query_parts.append(d_query.reshape(*d_query.shape[:3], repeats, -1))
        later = [(0, 0, 0)] * 3 + [(0, length - stop, 0)]
        zero = jnp.zeros((), weight.dtype)
        query = _columns_of(query_GBKRT, start, stop)
        d_key += jax.lax.pad(_product(query, d_scores, (3, 3)), zero, later)
        d_value += jax.lax.pad(_product(cotangent, weight, (3, 3)), zero, later)
    return jnp.concatenate(query_parts, axis=-1), d_key, d_value


@jax.custom_vjp
def attend(query_GBKRT: jax.Array, key_GBKT: jax.Array, value_GBKT: jax.Array) -> jax.Array:
    """Causal softmax attention of R scaled queries for each of G key heads; returns (G, B, K, R, T)."""
    return _attend_forward(query_GBKRT, key_GBKT, value_GBKT)[0]


attend.defvjp(_attend_forward, _attend_backward)


def attention(
    config: ModelConfig,
    gains: tuple[jax.Array, jax.Array] | None,
    projections: tuple[jax.Array, jax.Array, jax.Array],
    shape_BT: tuple[int, ...],
) -> jax.Array:
    """Causal attention with grouped queries over projected queries, keys and values; returns (H K, N)."""
    groups, head_width = config.kv_heads, config.resolved_head_width
    query, key, value = (x.reshape(-1, head_width, *shape_BT) for x in projections)
    if gains is not None:
        query = normalize_heads(query, gains[0], config.norm_epsilon)
        key = normalize_heads(key, gains[1], config.norm_epsilon)
    query = rotate(query, config.rope_base) / attention_divisor(config)
    key = rotate(key, config.rope_base)
    query_GBKRT = query.reshape(groups, -1, head_width, *shape_BT).transpose(0, 3, 2, 1, 4)
    key_GBKT, value_GBKT = key.swapaxes(1, 2), value.swapaxes(1, 2)
    mix = attend if shape_BT[1] <= LONGEST_KEPT else jax.checkpoint(attend)
    mixed_GBKRT = mix(query_GBKRT, key_GBKT, value_GBKT)
    return mixed_GBKRT.transpose(0, 3, 2, 1, 4).reshape(config.heads * head_width, -1)


def logits(x_DN: jax.Array, table_VD: jax.Array) -> jax.Array:
    """Scores of every next token, (V, N)."""
    return table_VD @ x_DN


def to_BTV(logits_VN: jax.Array, shape_BT: tuple[int, ...]) -> jax.Array:
    """Activations or logits of this layout as (B, T, V)."""
    return logits_VN.T.reshape(*shape_BT, -1)


def _losses_forward(logits_VN, targets_N):  # type: ignore[no-untyped-def]
    largest_N = jnp.max(logits_VN, axis=0)
    logz_N = largest_N + jnp.log(jnp.sum(jnp.exp(logits_VN - largest_N), axis=0))
    target_N = logits_VN[targets_N, jnp.arange(targets_N.size)]
    return (logz_N - target_N, logz_N), (logits_VN, logz_N, targets_N)


def _losses_backward(kept, cotangents):  # type: ignore[no-untyped-def]
    logits_VN, logz_N, targets_N = kept
    d_loss_N, d_logz_N = cotangents
    d_logits_VN = jnp.exp(logits_VN - logz_N) * (d_loss_N + d_logz_N)
    return d_logits_VN.at[targets_N, jnp.arange(targets_N.size)].add(-d_loss_N), None


@jax.custom_vjp
def _losses(logits_VN: jax.Array, targets_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _losses_forward(logits_VN, targets_N)[0]


_losses.defvjp(_losses_forward, _losses_backward)


def token_losses(logits_VN: jax.Array, targets_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T), nats."""
    nll_N, logz_N = _losses(logits_VN, targets_BT.reshape(-1))
    return nll_N.reshape(targets_BT.shape), logz_N.reshape(targets_BT.shape)
