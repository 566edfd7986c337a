"""What a block hands to the objective besides the residual stream, and how that is joined over the layers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Extras(NamedTuple):
    """Of one block, or joined over all.

    Attributes:
      penalty: training makes the loss plus this small, a scalar; over the layers the mean.
      logged: scalars by name, for metrics.jsonl; over the layers their means.
      kept: arrays by name, for `after_step`; over the layers stacked, (L, ...).
    """

    penalty: jax.Array
    logged: dict[str, jax.Array]
    kept: dict[str, jax.Array]


def joined(stacked: Extras) -> Extras:
    """Of all layers, from arrays with a leading layer axis."""
    penalty, logged = jax.tree.map(lambda array: jnp.mean(array, axis=0), (stacked.penalty, stacked.logged))
    return Extras(penalty, logged, stacked.kept)
