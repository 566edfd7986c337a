"""The decoder's block with a recurrence in the place of attention: everything else stays."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from model import parametrization
from model.config import ModelConfig
from model.parameters import Parameters
from model.transformer import FeedForward, Norm


class RecurrentBlock(nnx.Module):
    """Pre-normalization: x + recurrence, then x + feed-forward. A subclass says which recurrence."""

    mixer: Callable[[ModelConfig, Parameters], nnx.Module]

    def __init__(self, config: ModelConfig, params: Parameters):
        self.branch = parametrization.branch_multiplier(config)
        self.recurrence_norm = Norm(params["recurrence_norm"], config.norm_epsilon)
        self.recurrence: Any = type(self).mixer(config, params)
        self.feed_forward_norm = Norm(params["feed_forward_norm"], config.norm_epsilon)
        self.feed_forward = FeedForward(config, params)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.branch * self.recurrence(self.recurrence_norm(x_BTD))
        return x_BTD + self.branch * self.feed_forward(self.feed_forward_norm(x_BTD))


class Resumed(nnx.Module):
    """A recurrence that goes on from the state that each row has kept; mixed into its module.

    Attributes:
      count_B: how many of each row's new tokens are not padding. kept: the state, replaced by the one after them.
    """

    count_B: jax.Array
    kept: Any
    run: Callable[..., tuple[jax.Array, Any]]

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        y_BSD, self.kept = self.run(x_BSD, self.kept, self.count_B)
        return y_BSD
