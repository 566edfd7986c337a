"""The parameter tree: its shapes, the names of its axes, its scales, and its random start."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from model import parametrization
from model.config import ModelConfig
from model.parametrization import Scales

Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of the tree: its shape, its logical axes (model/sharding.py), and its row of the parametrization."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    scales: Scales


def layout(config: ModelConfig) -> dict[str, Any]:
    """The tree of `Leaf` that describes every parameter; blocks are stacked over a leading layer axis.

    Matrices start normal with deviation 1/sqrt(fan in), so that every product keeps the scale of what it
    reads (LeCun et al. 1998, "Efficient BackProp", section 4.6). The two that write to the residual stream
    are smaller by sqrt(2 L), so that the stream's variance at the end does not grow with depth (Radford et
    al. 2019, GPT-2, section 2.3). The embedding table has deviation 1/sqrt(D), so that its product with a
    normalized row is of order one and a tied head starts near the uniform distribution. model/parametrization.py has
    the numbers, and what mup changes.
    """
    vocabulary, width, depth = config.vocabulary, config.width, config.depth
    heads = config.heads * config.resolved_head_width
    kv_heads = config.kv_heads * config.resolved_head_width
    ff_width = config.resolved_ff_width
    base_fan_in = {"width": config.base_width, "heads": config.base_width, "ff_width": config.base_ff_width}

    def matrix(rows: int, columns: int, axes: tuple[str, str]) -> Leaf:
        scales = parametrization.matrix(config, rows, base_fan_in[axes[0]], writes=axes[1] == "width")
        return Leaf((depth, rows, columns), ("layers", *axes), scales)

    def gain(size: int, axis: str) -> Leaf:
        return Leaf((depth, size), ("layers", axis), parametrization.block_gain(config))

    blocks = {
        "attention_norm": gain(width, "width"),
        "query": matrix(width, heads, ("width", "heads")),
        "key": matrix(width, kv_heads, ("width", "kv_heads")),
        "value": matrix(width, kv_heads, ("width", "kv_heads")),
        "attention_output": matrix(heads, width, ("heads", "width")),
        "feed_forward_norm": gain(width, "width"),
        "up": matrix(width, ff_width, ("width", "ff_width")),
        "down": matrix(ff_width, width, ("ff_width", "width")),
    }
    if config.activation == "swiglu":
        blocks["gate"] = matrix(width, ff_width, ("width", "ff_width"))
    if config.qk_norm:
        blocks["query_norm"] = gain(config.resolved_head_width, "head_width")
        blocks["key_norm"] = gain(config.resolved_head_width, "head_width")
    table = Leaf((vocabulary, width), ("vocabulary", "width"), parametrization.table(config))
    tree: dict[str, Any] = {
        "embedding": table,
        "blocks": blocks,
        "final_norm": Leaf((width,), ("width",), parametrization.final_gain(config)),
    }
    if not config.tied:
        tree["head"] = table
    return tree


def is_leaf(value: Any) -> bool:
    """True for a `Leaf`: the stop of a map over `layout`."""
    return isinstance(value, Leaf)


def init(config: ModelConfig, key: jax.Array) -> Parameters:
    """Random parameters, float32, as a plain nested dict with the shapes and scales of `layout`."""
    leaves, structure = jax.tree.flatten(layout(config), is_leaf=is_leaf)
    keys = jax.random.split(key, len(leaves))

    def draw(leaf: Leaf, key: jax.Array) -> jax.Array:
        if leaf.scales.deviation is None:
            return jnp.ones(leaf.shape, jnp.float32)
        return leaf.scales.deviation * jax.random.normal(key, leaf.shape, jnp.float32)

    return jax.tree.unflatten(structure, [draw(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def learning_rate_multipliers(config: ModelConfig) -> Parameters:
    """What each parameter's Adam step is multiplied by: a tree of floats like the parameters."""
    return jax.tree.map(lambda leaf: leaf.scales.learning_rate, layout(config), is_leaf=is_leaf)


def epsilon_multipliers(config: ModelConfig) -> Parameters:
    """What Adam's epsilon is multiplied by for each parameter: a tree of floats like the parameters."""
    return jax.tree.map(lambda leaf: leaf.scales.epsilon, layout(config), is_leaf=is_leaf)
