"""Causal attention over feature-major arrays, block by block of queries: half of the scores are mostly never computed.

Axes besides those of model/transformer.py: R queries of one key head, N heads of all sequences.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from model.kernels.choose import heads_at_once, query_blocks
from model.sharding import on_each_device

FORBIDDEN = -1e30  # finite, so that a difference of two stays a number


def _product(left: jax.Array, right: jax.Array, contract: tuple[int, int]) -> jax.Array:
    """Matrix product for each head (axis 0), over one axis of either side."""
    return jax.lax.dot_general(left, right, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _turned(x_NKT: jax.Array) -> jax.Array:
    """(N, T, K), written out: products whose left side is turned as they read it take half as long again.

    Before the loop over heads and not inside, where XLA turns every block's share anew.
    """
    return jax.lax.optimization_barrier(x_NKT.swapaxes(1, 2))


def _side_by_side(x_NKRT: jax.Array, start: int, stop: int) -> jax.Array:
    """Positions start to stop of all R queries of a head, side by side."""
    return x_NKRT[..., start:stop].reshape(*x_NKRT.shape[:2], -1)


def _scores(key_NTK: jax.Array, query_NKRT: jax.Array, start: int, stop: int) -> jax.Array:
    """(N, keys, R x queries) of the queries from start to stop, with the keys after them forbidden."""
    scores = _product(key_NTK[:, :stop], _side_by_side(query_NKRT, start, stop), (2, 1))
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
        cotangent = _side_by_side(cotangent_NKRT, start, stop)
        overlap = jnp.sum(cotangent * _side_by_side(output_NKRT, start, stop), axis=1, keepdims=True)
        d_scores = weight * (_product(value_NTK[:, :stop], cotangent, (2, 1)) - overlap)
        d_query = _product(key_NKT[..., :stop], d_scores, (2, 1))
        query_parts.append(d_query.reshape(*d_query.shape[:2], repeats, -1))
        later = [(0, 0, 0)] * 2 + [(0, length - stop, 0)]
        zero = jnp.zeros((), weight.dtype)
        d_key += jax.lax.pad(_product(_side_by_side(query_NKRT, start, stop), d_scores, (2, 2)), zero, later)
        d_value += jax.lax.pad(_product(cotangent, weight, (2, 2)), zero, later)
    return jnp.concatenate(query_parts, axis=-1), d_key, d_value


def _in_turn(function: Callable[..., Any], arrays: Any) -> Any:
    """`function` of N heads, as many at a time as `choose.heads_at_once` says."""
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
