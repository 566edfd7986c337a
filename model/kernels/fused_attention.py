"""Attention through the fused kernel of an accelerator, which never holds the weights of a head whole."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from model import transformer
from model.sharding import on_each_device

# Blocks of queries and keys of the TPU kernel: the largest of these that divide the sequence. Larger blocks keep the
# matrix unit busy and 512 fit the on-chip memory at any head width to 256; not measured here.
SPLASH_BLOCKS = (512, 384, 256, 128)


class Cudnn(transformer.Attention):
    """NVIDIA GPUs."""

    def mix(self, q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
        return cudnn(q_BTHK, k_BTGK, v_BTGK, scale)


class Splash(transformer.Attention):
    """TPUs, on each device over its own sequences and heads: the partitioner cannot cut a kernel.

    `interpret` runs the kernel's program step by step on any device, for tests.
    """

    interpret = False

    def mix(self, q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
        return splash(q_BTHK, k_BTGK, v_BTGK, scale, interpret=self.interpret)


def cudnn(q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
    """As `Attention.mix`."""
    return jax.nn.dot_product_attention(
        q_BTHK, k_BTGK, v_BTGK, scale=scale, is_causal=True, implementation="cudnn"
    )


def splash(
    q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float, *, interpret: bool = False
) -> jax.Array:
    """Causal attention with grouped queries, (B, T, H, K), as `Attention.mix`."""
    everywhere = on_each_device(
        functools.partial(_splash_here, interpret=interpret), ("batch", "position", "heads", "head_width")
    )
    return everywhere(q_BTHK * jnp.asarray(scale, q_BTHK.dtype), k_BTGK, v_BTGK)


def _splash_here(q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, *, interpret: bool) -> jax.Array:
    kernel = _splash_kernel(q_BTHK.shape[1], q_BTHK.shape[2], interpret)
    per_sequence: Any = jax.vmap(kernel)
    mixed_BHTK = per_sequence(*(array.swapaxes(1, 2) for array in (q_BTHK, k_BTGK, v_BTGK)))
    return mixed_BHTK.swapaxes(1, 2)


def _splash_kernel(length: int, heads: int, interpret: bool) -> Any:
    # Pallas, 0.5 s: a TPU alone needs it
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
