"""Cross-entropy whose logits are never held whole: blocks of positions, one after the other.

With V = 50,000 the float32 logits of a step take more memory than all other activations together. Here each block's
logits live only until its losses are known. For training the gradients are computed in the same pass, since the
objective is linear in the loss: the softmax is at hand, and nothing is computed twice (the idea of fused linear
cross-entropy kernels, Hsu et al. 2024, arXiv 2410.10989, section 3.2, written here over a scan).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from model.kernels import feature_major
from model.loss import Pair, cross_entropy
from model.sharding import partitioned, places
from model.transformer import Head


class InBlocks(Head):
    """Over blocks of `positions` positions of every sequence."""

    positions = 0

    def token_losses(self, x: jax.Array, targets_BT: jax.Array) -> Pair:
        x_BTD = self.token_major(x)
        return token_losses(x_BTD, self.table[...], targets_BT, softcap=self.softcap, positions=self.positions)

    def objective(self, x: jax.Array, targets_BT: jax.Array, z_loss: jax.Array | float) -> Pair:
        """As `Head.objective`, but the mean loss alone carries no gradient."""
        x_BTD, weight = self.token_major(x), jnp.asarray(z_loss, jnp.float32)
        total, nll, _ = sums(self.softcap, self.positions, x_BTD, self.table[...], targets_BT, weight)
        return total / targets_BT.size, nll / targets_BT.size

    def token_major(self, x: jax.Array) -> jax.Array:
        """The stream as x_BTD."""
        return x


class FeatureMajorInBlocks(InBlocks, feature_major.Head):
    """From a feature-major stream."""

    def token_major(self, x: jax.Array) -> jax.Array:
        return x.T.reshape(-1, self.length, x.shape[0])


def _logits(x_BSD: jax.Array, table_VD: jax.Array, softcap: float) -> jax.Array:
    """Float32 scores of S positions, capped, as `Head`."""
    table_VD = table_VD.astype(x_BSD.dtype)
    logits = jnp.einsum("bsd,vd->bsv", x_BSD, table_VD, preferred_element_type=jnp.float32)
    return softcap * jnp.tanh(logits / softcap) if softcap else logits


def _blocks(array: jax.Array, positions: int) -> jax.Array:
    """(B, T, ...) as (blocks, B, positions, ...), the last block filled up with zeros."""
    missing = -array.shape[1] % positions
    array = jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))
    return jnp.moveaxis(array.reshape(array.shape[0], -1, positions, *array.shape[2:]), 1, 0)


def _joined(blocks: jax.Array, length: int) -> jax.Array:
    """The inverse of `_blocks`."""
    array = jnp.moveaxis(blocks, 0, 1)
    return array.reshape(array.shape[0], -1, *array.shape[3:])[:, :length]


def token_losses(
    x_BTD: jax.Array, table_VD: jax.Array, targets_BT: jax.Array, *, softcap: float, positions: int
) -> Pair:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T) float32, nats.

    Differentiable: the backward pass computes each block's logits again.

    Args:
      x_BTD: the normalized residual stream.
      table_VD: the head.
      softcap: cap of the logits, 0 for none.
      positions: of each sequence whose logits are held at once.
    """

    @jax.checkpoint
    def block(parts: Any) -> Pair:
        x_BSD, targets_BS = parts
        return cross_entropy(_logits(x_BSD, table_VD, softcap), targets_BS)

    nll, logz = jax.lax.map(block, (_blocks(x_BTD, positions), _blocks(targets_BT, positions)))
    return _joined(nll, targets_BT.shape[1]), _joined(logz, targets_BT.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def sums(
    softcap: float,
    positions: int,
    x_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    z_loss: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over all positions of nll + z_loss logz^2, of nll, and of logz^2, float32.

    Only the first carries a gradient (to x, table and z_loss); the others are for reporting.
    """
    nll_BT, logz_BT = token_losses(x_BTD, table_VD, targets_BT, softcap=softcap, positions=positions)
    nll, square = jnp.sum(nll_BT), jnp.sum(logz_BT * logz_BT)
    return nll + z_loss * square, nll, square


def _forward(
    softcap: float,
    positions: int,
    x_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    z_loss: jax.Array,
) -> tuple[Any, Any]:
    """The sums, and their gradients from the same pass over the blocks."""
    every_block = _over_devices(functools.partial(_every_block, softcap, positions))
    (nll, square, d_table_VD), d_x_BTD = every_block(x_BTD, table_VD, targets_BT, z_loss)
    return (nll + z_loss * square, nll, square), (d_x_BTD, d_table_VD.astype(table_VD.dtype), square)


def _backward(softcap: float, positions: int, kept: Any, cotangents: Any) -> Any:
    d_x_BTD, d_table_VD, square = kept
    scale = cotangents[0]
    return (scale * d_x_BTD).astype(d_x_BTD.dtype), scale * d_table_VD, None, scale * square


sums.defvjp(_forward, _backward)


def _every_block(
    softcap: float,
    positions: int,
    x_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    z_loss: jax.Array,
    axes: tuple[str, ...] = (),
) -> Any:
    """((sum of nll, sum of logz^2, d table), d x) of the sequences of this device, summed over the mesh's `axes`."""
    length = targets_BT.shape[1]
    counts_BT = jnp.ones(targets_BT.shape, jnp.float32)  # 0 where a last block is filled up

    def block(carry: Any, parts: Any) -> Any:
        nll, square, d_table_VD = carry
        x_BSD, targets_BS, counts_BS = parts
        logits_BSV = _logits(x_BSD, table_VD, softcap)
        nll_BS, logz_BS = cross_entropy(logits_BSV, targets_BS)
        # d nll = softmax - one-hot of the target; d logz^2 = 2 logz softmax.
        share_BSV = jnp.exp(logits_BSV - logz_BS[..., None]) * (1 + 2 * z_loss * logz_BS)[..., None]
        is_target_BSV = jax.lax.broadcasted_iota(jnp.int32, share_BSV.shape, 2) == targets_BS[..., None]
        d_logits_BSV = (share_BSV - is_target_BSV) * counts_BS[..., None]
        if softcap:
            d_logits_BSV *= 1 - jnp.square(logits_BSV / softcap)
        d_logits_BSV = d_logits_BSV.astype(x_BSD.dtype)
        d_x_BSD = d_logits_BSV @ table_VD.astype(x_BSD.dtype)
        d_table_VD += jax.lax.dot_general(
            d_logits_BSV, x_BSD, (((0, 1), (0, 1)), ((), ())), preferred_element_type=jnp.float32
        )
        nll, square = nll + jnp.sum(nll_BS * counts_BS), square + jnp.sum(logz_BS * logz_BS * counts_BS)
        return (nll, square, d_table_VD), d_x_BSD

    parts = (_blocks(x_BTD, positions), _blocks(targets_BT, positions), _blocks(counts_BT, positions))
    zero = jnp.zeros((), jnp.float32)
    totals, d_x = jax.lax.scan(block, (zero, zero, jnp.zeros(table_VD.shape, jnp.float32)), parts)
    return (jax.lax.psum(totals, axes) if axes else totals), _joined(d_x, length)


def _over_devices(every_block: Any) -> Any:
    """On a mesh each device adds up the head's gradient over its own sequences, and the sums meet once at the end;
    left to the partitioner they would meet in every block."""
    mesh = partitioned()
    axes = () if mesh is None else tuple(axis for axis in places("batch", mesh) if mesh.shape[axis] > 1)
    if not axes:
        return every_block
    sequences, everywhere = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        functools.partial(every_block, axes=axes),
        in_specs=(sequences, everywhere, sequences, everywhere),
        out_specs=(everywhere, sequences),
        axis_names=set(axes),
        check_vma=False,
    )
