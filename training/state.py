"""What changes during training, as one pytree: parameters, optimizer moments, step count."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model import sharding
from model.config import ModelConfig
from model.initialize import init
from model.parameters import epsilon_multipliers, learning_rate_multipliers
from training.spec import OptimConfig

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step reads and writes on the device.

    Attributes:
      params: the model's parameter tree, float32.
      moments: the state of `optimizer`, float32, sharded like the parameters.
      key: random key of the run (consumed by initialization; saved so that a restart keeps it).
      step: optimizer steps taken, int32.
    """

    params: Tree
    moments: Tree
    key: jax.Array | Tree
    step: jax.Array | Tree


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """The numbers of `optim` that enter the compiled step as arguments, so that runs that differ only in
    them share one compiled program.

    The step removes learning_rate * weight_decay of a parameter, so an independent decay is divided by the peak.
    """
    independent = optim.decay == "independent"
    return {
        "beta1": optim.beta1,
        "beta2": optim.beta2,
        "epsilon": optim.epsilon,
        "weight_decay": optim.weight_decay / optim.learning_rate if independent else optim.weight_decay,
        "clip_norm": optim.clip_norm if optim.clip_norm > 0 else float("inf"),
        "z_loss": optim.z_loss,
    }


def decay_mask(config: ModelConfig, decay_all: bool) -> Tree:
    """True for each parameter that weight decay shrinks: matrices, but not embeddings, unless asked."""

    def decays(path: tuple[Any, ...], axes: tuple[str | None, ...]) -> bool:
        is_embedding = any("embed" in str(getattr(part, "key", part)) for part in path)
        return decay_all or (len([axis for axis in axes if axis != "layers"]) >= 2 and not is_embedding)

    return jax.tree_util.tree_map_with_path(
        decays, sharding.logical_axes(config), is_leaf=lambda node: isinstance(node, tuple)
    )


def optimizer(hyper: dict[str, Any], config: ModelConfig, decay_all: bool) -> optax.GradientTransformation:
    """AdamW without its learning rate: clip, Adam, decoupled decay. The step multiplies by -learning_rate.

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


def initial_state(config: ModelConfig, optim: OptimConfig, seed: int) -> TrainState:
    """State before the first step, a function of the seed alone."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    params = init(config, init_key)
    return TrainState(
        params=params,
        moments=optimizer(hyperparameters(optim), config, optim.decay_all).init(params),
        key=jax.random.key_data(run_key),
        step=jnp.zeros((), jnp.int32),
    )


def state_shardings(config: ModelConfig, abstract: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Shardings of a state: moments lie where their parameters lie, scalars everywhere."""
    everywhere = sharding.everywhere(mesh)
    params = sharding.parameter_shardings(config, mesh)
    moments = optax.tree_map_params(
        optimizer(hyperparameters(OptimConfig()), config, False),
        lambda _, place: place,
        abstract.moments,
        params,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(params=params, moments=moments, key=everywhere, step=everywhere)
