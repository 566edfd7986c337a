"""Causal attention over token-major arrays through the kernel that `choices.attention` names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from model.sharding import on_each_device

# Blocks of queries and keys of the TPU kernel: the largest of these that divide the sequence. Larger blocks keep the
# matrix unit busy and 512 fit the on-chip memory at any head width to 256; not measured here.
SPLASH_BLOCKS = (512, 384, 256, 128)


def attend(
    name: str, query_BTHK: jax.Array, key_BTGK: jax.Array, value_BTGK: jax.Array, scale: float
) -> jax.Array:
    """Causal attention with grouped queries; (B, T, H, K).

    Args:
      name: of the implementation: cudnn, splash or xla.
      scale: of the scores.
    """
    if name == "splash":
        return splash(query_BTHK, key_BTGK, value_BTGK, scale)
    return jax.nn.dot_product_attention(
        query_BTHK,
        key_BTGK,
        value_BTGK,
        scale=scale,
        is_causal=True,
        implementation="cudnn" if name == "cudnn" else "xla",
    )


def splash(
    query_BTHK: jax.Array, key_BTGK: jax.Array, value_BTGK: jax.Array, scale: float, *, interpret: bool = False
) -> jax.Array:
    """The TPU kernel, on each device over its own sequences and heads: the partitioner cannot cut a kernel.

    Args:
      interpret: run the kernel's program step by step on any device, for tests.
    """
    everywhere = on_each_device(
        functools.partial(_splash_here, interpret=interpret), ("batch", "position", "heads", "head_width")
    )
    return everywhere(query_BTHK * jnp.asarray(scale, query_BTHK.dtype), key_BTGK, value_BTGK)


def _splash_here(
    query_BTHK: jax.Array, key_BTGK: jax.Array, value_BTGK: jax.Array, *, interpret: bool
) -> jax.Array:
    kernel = _splash_kernel(query_BTHK.shape[1], query_BTHK.shape[2], interpret)
    per_sequence: Any = jax.vmap(kernel)
    mixed_BHTK = per_sequence(*(array.swapaxes(1, 2) for array in (query_BTHK, key_BTGK, value_BTGK)))
    return mixed_BHTK.swapaxes(1, 2)


def _splash_kernel(length: int, heads: int, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    block = next(size for size in SPLASH_BLOCKS if length % size == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
    return kernels.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
