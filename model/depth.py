"""Blocks one after the other: scanned or unrolled, keeping what the backward pass reads or computing it again."""

from typing import TypeVar

import jax
from flax import nnx

from model.config import ModelConfig
from model.sharding import constrain

Module = TypeVar("Module", bound=nnx.Module)


def in_turn(
    blocks: nnx.Module, config: ModelConfig, x: jax.Array, stream: tuple[str, ...], *more: jax.Array
) -> jax.Array:
    """The residual stream after every block.

    Args:
      blocks: one module whose arrays have a leading layer axis.
      x: the stream before the first block; `stream` are its logical axes.
      more: what every block reads besides.
    """

    def step(x: jax.Array, block: nnx.Module, *more: jax.Array) -> jax.Array:
        return constrain(block(constrain(x, stream), *more), stream)

    if config.remat != "none":
        dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        step = jax.checkpoint(step, policy=dots if config.remat == "dots" else None)
    if config.scan:
        return jax.lax.scan(lambda x, block: (step(x, block, *more), None), x, blocks)[0]
    for layer in range(config.depth):
        x = step(x, of_layer(blocks, layer), *more)
    return x


def of_layer(blocks: Module, layer: int) -> Module:
    """The block of one layer."""
    return jax.tree.map(lambda stacked: stacked[layer], blocks)
