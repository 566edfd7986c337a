"""Layers over feature-major activations x_DN, N = B T tokens side by side: the layout of the CPU.

XLA's CPU compiler vectorizes along the last axis and adds up slowly over it. With the tokens last, every
normalization, softmax and loss adds over an earlier axis, rotary positions turn whole rows, and every weight meets
all tokens in one matrix product. Attention goes block by block of queries, so that the half of the scores that
causality forbids is mostly never computed. `rows` holds the same layers for accelerators.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from model.config import ModelConfig
from model.kernels import rotary
from model.kernels.choose import heads_at_once, query_blocks
from model.parametrization import attention_divisor
from model.sharding import on_each_device, shards

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


def gated(x_DN: jax.Array, gate_DF: jax.Array, up_DF: jax.Array) -> jax.Array:
    """silu of one product times the other, (F, N)."""
    # A cut over ff_width would fall between the two and not across each; one over width has each gathered by itself.
    if shards("ff_width") > 1 or shards("width") > 1:
        return jax.nn.silu(project(x_DN, gate_DF)) * project(x_DN, up_DF)
    return _side_by_side(x_DN, gate_DF, up_DF)


def _side_by_side_forward(x_DN, gate_DF, up_DF):  # type: ignore[no-untyped-def]
    weight_DE = jnp.concatenate([gate_DF, up_DF], axis=1)
    product_EN = jax.lax.optimization_barrier(project(x_DN, weight_DE))
    gate_FN, up_FN = jnp.split(product_EN, 2)
    return jax.nn.silu(gate_FN) * up_FN, (x_DN, weight_DE, product_EN)


def _side_by_side_backward(kept, cotangent_FN):  # type: ignore[no-untyped-def]
    x_DN, weight_DE, product_EN = kept
    # Behind a barrier the sigmoid is computed again: that costs less than to write it and read it.
    gate_FN, up_FN = jnp.split(jax.lax.optimization_barrier(product_EN), 2)
    share_FN = jax.nn.sigmoid(gate_FN)
    d_gate_FN = cotangent_FN * up_FN * (share_FN * (1 + gate_FN * (1 - share_FN)))
    d_up_FN = cotangent_FN * (gate_FN * share_FN)
    d_product_EN = jax.lax.optimization_barrier(jnp.concatenate([d_gate_FN, d_up_FN]))
    d_weight_DE = jax.lax.dot_general(x_DN, d_product_EN, (((1,), (1,)), ((), ())))
    return weight_DE @ d_product_EN, *jnp.split(d_weight_DE, 2, axis=1)


@jax.custom_vjp
def _side_by_side(x_DN: jax.Array, gate_DF: jax.Array, up_DF: jax.Array) -> jax.Array:
    """`gated` with both products as one, E = 2 F, so that the work in between passes over memory once each way.

    As two products, XLA writes the sigmoid, what it multiplies and either gradient as arrays of their own.
    """
    return _side_by_side_forward(x_DN, gate_DF, up_DF)[0]


_side_by_side.defvjp(_side_by_side_forward, _side_by_side_backward)


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
    """Matrix product for each head (axis 0), over one axis of either side."""
    return jax.lax.dot_general(left, right, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _turned(x_NKT: jax.Array) -> jax.Array:
    """(N, T, K), written out: products whose left side is turned as they read it take half as long again.

    Before the loop over heads and not inside, where XLA turns every block's share anew.
    """
    return jax.lax.optimization_barrier(x_NKT.swapaxes(1, 2))


def _columns_of(x_NKRT: jax.Array, start: int, stop: int) -> jax.Array:
    """Positions start to stop of all R queries of a head, side by side."""
    return x_NKRT[..., start:stop].reshape(*x_NKRT.shape[:2], -1)


def _scores(key_NTK: jax.Array, query_NKRT: jax.Array, start: int, stop: int) -> jax.Array:
    """(N, keys, R x queries) of the queries from start to stop, with the keys after them forbidden."""
    scores = _product(key_NTK[:, :stop], _columns_of(query_NKRT, start, stop), (2, 1))
    position = jnp.tile(jnp.arange(start, stop), query_NKRT.shape[2])
    return jnp.where(jnp.arange(stop)[:, None] <= position, scores, FORBIDDEN)


def _mix(query_NKRT: jax.Array, key_NTK: jax.Array, value_NKT: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Attention of N heads, (N, K, R, T), and the log of every query's partition sum, of each block of queries."""
    outputs, logz = [], []
    repeats, length = query_NKRT.shape[2:]
    for start, stop in query_blocks(length):
        scores = _scores(key_NTK, query_NKRT, start, stop)
        largest = jnp.max(scores, axis=1, keepdims=True)
        weight = jnp.exp(scores - largest)
        total = jnp.sum(weight, axis=1, keepdims=True)
        output = _product(value_NKT[..., :stop], weight, (2, 1)) / total
        outputs.append(output.reshape(*output.shape[:2], repeats, -1))
        logz.append(largest + jnp.log(total))
    return jnp.concatenate(outputs, axis=-1), logz


def _mix_backward(kept, cotangent_NKRT):  # type: ignore[no-untyped-def]
    # With weights w = e^(score - logz), computed again: d value = w^T d, and d score = w (value^T d - sum_k d output)
    # (Dao et al. 2022, arXiv 2205.14135, appendix B.2).
    query_NKRT, key_NKT, key_NTK, value_NTK, output_NKRT, logz = kept
    repeats, length = query_NKRT.shape[2:]
    query_parts = []
    d_key, d_value = jnp.zeros_like(key_NKT), jnp.zeros_like(key_NKT)
    for (start, stop), block_logz in zip(query_blocks(length), logz, strict=True):
        weight = jnp.exp(_scores(key_NTK, query_NKRT, start, stop) - block_logz)
        cotangent = _columns_of(cotangent_NKRT, start, stop)
        overlap = jnp.sum(cotangent * _columns_of(output_NKRT, start, stop), axis=1, keepdims=True)
        d_scores = weight * (_product(value_NTK[:, :stop], cotangent, (2, 1)) - overlap)
        d_query = _product(key_NKT[..., :stop], d_scores, (2, 1))
        query_parts.append(d_query.reshape(*d_query.shape[:2], repeats, -1))
        later = [(0, 0, 0)] * 2 + [(0, length - stop, 0)]
        zero = jnp.zeros((), weight.dtype)
        d_key += jax.lax.pad(_product(_columns_of(query_NKRT, start, stop), d_scores, (2, 2)), zero, later)
        d_value += jax.lax.pad(_product(cotangent, weight, (2, 2)), zero, later)
    return jnp.concatenate(query_parts, axis=-1), d_key, d_value


def _in_turn(function: Callable[..., Any], arrays: Any) -> Any:
    """`function` of N heads, as many at a time as `choices.heads_at_once` says."""
    query = arrays[0]
    heads = heads_at_once(query.shape[0], query.shape[2], query.shape[3])
    parts = jax.tree.map(lambda x: x.reshape(-1, heads, *x.shape[1:]), arrays)
    done = jax.lax.map(lambda part: function(*part), parts)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), done)


def _attend_forward(query_NKRT, key_NKT, value_NKT):  # type: ignore[no-untyped-def]
    output_NKRT, logz = _in_turn(_mix, (query_NKRT, _turned(key_NKT), value_NKT))
    return output_NKRT, (query_NKRT, key_NKT, value_NKT, output_NKRT, logz)


def _attend_backward(kept, cotangent_NKRT):  # type: ignore[no-untyped-def]
    query_NKRT, key_NKT, value_NKT, output_NKRT, logz = kept
    arrays = (query_NKRT, key_NKT, _turned(key_NKT), _turned(value_NKT), output_NKRT, logz)
    return _in_turn(lambda *part: _mix_backward(part[:-1], part[-1]), (*arrays, cotangent_NKRT))


@jax.custom_vjp
def _attend(query_NKRT: jax.Array, key_NKT: jax.Array, value_NKT: jax.Array) -> jax.Array:
    return _attend_forward(query_NKRT, key_NKT, value_NKT)[0]


_attend.defvjp(_attend_forward, _attend_backward)


def _attend_here(query_GBKRT: jax.Array, *key_and_value: jax.Array) -> jax.Array:
    heads = (x.reshape(-1, *x.shape[2:]) for x in (query_GBKRT, *key_and_value))
    return _attend(*heads).reshape(query_GBKRT.shape)


def attend(query_GBKRT: jax.Array, key_GBKT: jax.Array, value_GBKT: jax.Array) -> jax.Array:
    """Causal softmax attention of R scaled queries for each of G key heads; returns (G, B, K, R, T).

    Few heads at a time, so that their weights stay in the processor's cache, and on each device over its own: the
    partitioner cannot cut a loop over heads.
    """
    return on_each_device(_attend_here, ("kv_heads", "batch"))(query_GBKRT, key_GBKT, value_GBKT)


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
    mixed_GBKRT = attend(query_GBKRT, key_GBKT, value_GBKT)
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
