"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) after clipping by the global norm."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model.config import ModelConfig
from model.parameters import epsilon_multipliers, learning_rate_multipliers
from training.optimizers import Tree, decay_mask
from training.spec import OptimConfig


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """The step removes learning_rate * weight_decay of a parameter, so an independent decay is divided by the peak."""
    independent = optim.decay == "independent"
    return {
        "beta1": optim.beta1,
        "beta2": optim.beta2,
        "epsilon": optim.epsilon,
        "weight_decay": optim.weight_decay / optim.learning_rate if independent else optim.weight_decay,
        "clip_norm": optim.clip_norm if optim.clip_norm > 0 else float("inf"),
    }


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """Clip, Adam, decoupled decay.

    Under mup each parameter's Adam step has its own multiplier, and so has epsilon: dividing a gradient by c before
    Adam is the same as multiplying epsilon by c.
    """
    clip = optax.clip_by_global_norm(hyper["clip_norm"])
    adam = optax.scale_by_adam(b1=hyper["beta1"], b2=hyper["beta2"], eps=hyper["epsilon"])
    decay = optax.add_decayed_weights(hyper["weight_decay"], mask=decay_mask(config, decay_all))
    steps, epsilons = learning_rate_multipliers(config), epsilon_multipliers(config)
    if all(multiplier == 1 for multiplier in jax.tree.leaves((steps, epsilons))):
        return optax.chain(clip, adam, decay)
    inverse = jax.tree.map(lambda epsilon: 1 / epsilon, epsilons)
    return optax.chain(clip, _multiplied(inverse), adam, _multiplied(steps), decay)


def _multiplied(multipliers: Tree) -> optax.GradientTransformation:
    """Each leaf times its number."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, multipliers))
