"""What changes during training, as one tree: parameters, the optimizer's state, the count of steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model import sharding
from model.config import ModelConfig
from model.initialize import init
from training import objectives, optimizers
from training.spec import OptimConfig, RunSpec

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step reads and writes on the device.

    Attributes:
      params: the model's parameter tree, float32.
      moments: the state of the optimizer; what mirrors the parameters is float32 and cut over devices as they are.
      key: random key of the run (consumed by initialization; saved so that a restart keeps it).
      step: optimizer steps taken, int32.
    """

    params: Tree
    moments: Tree
    key: jax.Array | Tree
    step: jax.Array | Tree


def hyperparameters(optim: OptimConfig, objective: str = RunSpec.objective) -> dict[str, float]:
    """The numbers of a run that enter the compiled step as arguments, but for its learning rate."""
    return {
        **optimizers.load(optim.name).hyperparameters(optim),
        **objectives.load(objective).hyperparameters(optim),
    }


def optimizer(optim: OptimConfig, config: ModelConfig) -> optax.GradientTransformation:
    """The transformation of a run, whose numbers are not arguments: to build its state, not to step."""
    chosen = optimizers.load(optim.name)
    return chosen.transformation(chosen.hyperparameters(optim), config, optim.decay_all)


def initial_state(config: ModelConfig, optim: OptimConfig, seed: jax.Array | int) -> TrainState:
    """State before the first step, a function of the seed alone."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    params = init(config, init_key)
    return TrainState(
        params=params,
        moments=optimizer(optim, config).init(params),
        key=jax.random.key_data(run_key),
        step=jnp.zeros((), jnp.int32),
    )


def state_shardings(
    config: ModelConfig, optim: OptimConfig, abstract: TrainState, mesh: jax.sharding.Mesh
) -> TrainState:
    """Shardings of a state: what has the shape of a parameter lies where that lies, everything else everywhere."""
    everywhere = sharding.everywhere(mesh)
    params = sharding.parameter_shardings(config, mesh)

    def place_of(moment: Any, parameter: Any, place: Any) -> Any:
        if isinstance(
            moment, optax.MaskedNode
        ):  # a parameter of which this part of the optimizer keeps nothing
            return moment
        return place if moment.shape == parameter.shape else everywhere

    moments = optax.tree_map_params(
        optimizer(optim, config),
        place_of,
        abstract.moments,
        abstract.params,
        params,
        transform_non_params=lambda _: everywhere,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    return TrainState(params=params, moments=moments, key=everywhere, step=everywhere)
