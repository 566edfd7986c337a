"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) after clipping by the global norm."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model.config import ModelConfig
from model.parameters import epsilon_multipliers, learning_rate_multipliers
from training.optimizers import Tree, clipped_and_decayed, common_hyperparameters
from training.spec import OptimConfig

READS = ("beta1", "beta2", "epsilon")
MOMENTS = 2
MUP = True


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """Of Adam, clipping and decay."""
    own = {"beta1": optim.beta1, "beta2": optim.beta2, "epsilon": optim.epsilon}
    return own | common_hyperparameters(optim)


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """Clip, Adam, decoupled decay.

    Under mup each parameter's Adam step has its own multiplier, and so has epsilon: dividing a gradient by c before
    Adam is the same as multiplying epsilon by c.
    """
    adam = optax.scale_by_adam(b1=hyper["beta1"], b2=hyper["beta2"], eps=hyper["epsilon"])
    steps, epsilons = learning_rate_multipliers(config), epsilon_multipliers(config)
    if all(multiplier == 1 for multiplier in jax.tree.leaves((steps, epsilons))):
        return clipped_and_decayed(hyper, config, decay_all, adam)
    inverse = jax.tree.map(lambda epsilon: 1 / epsilon, epsilons)
    return clipped_and_decayed(hyper, config, decay_all, _multiplied(inverse), adam, _multiplied(steps))


def _multiplied(multipliers: Tree) -> optax.GradientTransformation:
    """Each leaf times its number."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, multipliers))
