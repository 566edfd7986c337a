"""Schedule-free AdamW: an average of weights replaces the cooldown (Defazio et al. 2024, arXiv 2405.15682).

Three points per parameter: z moves by Adam's steps (without momentum), x is the average of all z and is the model,
and gradients are taken at y between them:

    y = (1 - beta1) z + beta1 x
    z' = z - rate * (g(y) / (sqrt(v) + epsilon) + weight_decay y)
    x' = (1 - c) x + c z',  c = w / (sum of w so far),  w = (largest rate so far)^2

The parameters of a run's state are x, so that evaluations, checkpoints and whoever reads them see the average. z is
part of the optimizer's state. Logged training losses are at y.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from model.config import ModelConfig
from training.optimizers import Tree, clipped_and_decayed, common_hyperparameters
from training.spec import OptimConfig

READS = ("beta1", "beta2", "epsilon")
MOMENTS = 2
COOLDOWN = False


class ScheduleFreeState(NamedTuple):
    """z, the state of Adam's step, the largest learning rate so far, and the sum of weights so far."""

    z: Tree
    inner: Any
    largest: Any
    total: Any


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """beta1 weighs x against z; beta2 and epsilon are Adam's."""
    own = {"beta1": optim.beta1, "beta2": optim.beta2, "epsilon": optim.epsilon}
    return own | common_hyperparameters(optim)


def gradient_at(hyper: Mapping[str, Any], params: Tree, moments: ScheduleFreeState) -> Tree:
    """y."""
    return _between(params, moments.z, hyper["beta1"])


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """From the gradient at y to (x - x') / learning_rate."""
    adam = optax.scale_by_rms(
        decay=hyper["beta2"], eps=hyper["epsilon"], eps_in_sqrt=False, bias_correction=True
    )
    inner = clipped_and_decayed(hyper, config, decay_all, adam)

    def init(params: Tree) -> ScheduleFreeState:
        z = jax.tree.map(lambda x: jnp.array(x, copy=True), params)
        return ScheduleFreeState(z, inner.init(params), jnp.zeros(()), jnp.zeros(()))

    def update(grads: Tree, state: ScheduleFreeState, params: Tree = None) -> tuple[Tree, ScheduleFreeState]:
        rate = hyper["learning_rate"]
        direction, following = inner.update(grads, state.inner, gradient_at(hyper, params, state))
        z = jax.tree.map(lambda z, d: z - rate * d, state.z, direction)
        largest = jnp.maximum(state.largest, rate)
        total = state.total + largest**2
        share = largest**2 / total / rate
        updates = jax.tree.map(lambda x, z: share * (x - z), params, z)
        return updates, ScheduleFreeState(z, following, largest, total)

    return optax.GradientTransformation(init, update)


def _between(x: Tree, z: Tree, weight: Any) -> Tree:
    """(1 - weight) z + weight x."""
    return jax.tree.map(lambda x, z: (1 - weight) * z + weight * x, x, z)
