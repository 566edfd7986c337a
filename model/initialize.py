"""The random start of the parameters."""

import jax
import jax.numpy as jnp

from model.config import ModelConfig
from model.parameters import Leaf, Parameters, layout


def init(config: ModelConfig, key: jax.Array) -> Parameters:
    """Random parameters, float32, as a plain nested dict with the shapes and scales of `parameters.layout`."""
    leaves, structure = jax.tree.flatten(layout(config))
    keys = jax.random.split(key, len(leaves))

    def draw(leaf: Leaf, key: jax.Array) -> jax.Array:
        if leaf.scales.deviation is None:
            return jnp.ones(leaf.shape, jnp.float32)
        return leaf.scales.deviation * jax.random.normal(key, leaf.shape, jnp.float32)

    return jax.tree.unflatten(structure, [draw(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])
