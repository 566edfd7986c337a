"""Blocks one after the other: scanned or unrolled, keeping what the backward pass reads or computing it again."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from model.config import ModelConfig
from model.extras import Extras, joined
from model.sharding import constrain

Module = TypeVar("Module", bound=nnx.Module)


def in_turn(
    blocks: nnx.Module, config: ModelConfig, x: jax.Array, stream: tuple[str, ...], *more: jax.Array
) -> tuple[jax.Array, Extras | None]:
    """The residual stream after every block, and what the blocks hand to the objective, where they do.

    Args:
      blocks: one module whose arrays have a leading layer axis.
      x: the stream before the first block; `stream` are its logical axes.
      more: what every block reads besides.
    """
    has_extras = hasattr(blocks, "with_extras")

    def step(x: jax.Array, block: Any, *more: jax.Array) -> tuple[jax.Array, Any]:
        x = constrain(x, stream)
        x, extras = block.with_extras(x, *more) if has_extras else (block(x, *more), None)
        return constrain(x, stream), extras

    if config.remat != "none":
        dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        step = jax.checkpoint(step, policy=dots if config.remat == "dots" else None)
    if config.scan:
        x, stacked = jax.lax.scan(lambda x, block: step(x, block, *more), x, blocks)
        return x, joined(stacked) if has_extras else None
    of_layers = []
    for layer in range(config.depth):
        x, extras = step(x, of_layer(blocks, layer), *more)
        of_layers.append(extras)
    if not has_extras:
        return x, None
    return x, joined(jax.tree.map(lambda *layers: jnp.stack(layers), *of_layers))


def of_layer(blocks: Module, layer: int) -> Module:
    """The block of one layer."""
    return jax.tree.map(lambda stacked: stacked[layer], blocks)
