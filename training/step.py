"""The compiled programs of a run: its first state, one optimizer step, one evaluation batch.

Call them inside `jax.set_mesh(mesh)`, so that the model's activations find the mesh they are spread over.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model import sharding
from model.config import ModelConfig
from model.kernels.device import products_as
from model.parameters import architecture
from training import objectives, optimizers
from training.objectives import Batch, Params
from training.program import Program
from training.spec import OptimConfig, RunSpec
from training.state import TrainState, initial_state, state_shardings

Metrics = dict[str, jax.Array]
Hyper = Mapping[str, Any]
Step = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]

# A loss this many times that of a uniform guess will not come back.
EXPLODED = 3.0


def exploded_loss(config: ModelConfig) -> float:
    """The loss, in nats per token, from which a run counts as diverged."""
    return EXPLODED * math.log(config.vocabulary)


def train_step_function(program: Program) -> Step:
    """The train step `(state, batch, hyper) -> (state, metrics)` of one run, not compiled.

    `hyper` holds `state.hyperparameters` and the step's learning_rate, all scalars. metrics: what the objective logs,
    its loss among them (nats per token, without penalties), and grad_norm (before clipping), on the device.
    """
    objective, optimizer = objectives.load(program.objective), optimizers.load(program.optimizer)
    gradient = jax.value_and_grad(objective.loss, argnums=1, has_aux=True)

    def accumulate(params: Params, batch: Batch, hyper: Hyper) -> tuple[Metrics, Params]:
        """Metrics and gradients, each the mean over the batch, whose equal parts are computed one after the other."""
        if program.microbatches == 1:
            (_, metrics), grads = gradient(program.model, params, batch, hyper)
            return mean(metrics, grads, 1)
        parts = jax.tree.map(lambda array: array.reshape(program.microbatches, -1, *array.shape[1:]), batch)

        def add(total: Any, part: Batch) -> tuple[Any, None]:
            (_, metrics), grads = gradient(program.model, params, part, hyper)
            return jax.tree.map(jnp.add, total, (metrics, grads)), None

        part = jax.tree.map(lambda array: array[0], parts)
        _, metrics = jax.eval_shape(functools.partial(objective.loss, program.model), params, part, hyper)
        zero = (
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics),
            jax.tree.map(jnp.zeros_like, params),
        )
        total, _ = jax.lax.scan(add, zero, parts)
        return mean(*total, program.microbatches)

    def step(state: TrainState, batch: Batch, hyper: Hyper) -> tuple[TrainState, Metrics]:
        with products_as(program.model):
            place = optimizers.gradient_point(optimizer, hyper, state.params, state.moments)
            metrics, grads = accumulate(place, batch, hyper)
            grad_norm = optax.global_norm(grads)
            transformation = optimizer.transformation(hyper, program.model, program.decay_all)
            updates, moments = transformation.update(grads, state.moments, state.params)
        params = jax.tree.map(lambda p, u: p - hyper["learning_rate"] * u, state.params, updates)
        kept: Any = metrics.pop("kept", None)
        if kept is not None:
            rule = architecture(program.model).after_step
            blocks = rule(program.model, state.params["blocks"], params["blocks"], kept)
            params = {**params, "blocks": blocks}
        following = TrainState(params=params, moments=moments, key=state.key, step=state.step + 1)
        return following, {**metrics, "grad_norm": grad_norm}

    return step


def mean(metrics: Metrics, grads: Params, parts: int) -> tuple[Metrics, Params]:
    """What the step reports and moves by: sums over their weight, or the mean of the means of equal `parts`."""
    if "weight" not in metrics:
        total = (metrics, grads)
        return total if parts == 1 else jax.tree.map(lambda leaf: leaf / parts, total)
    weight = jnp.where(
        metrics["weight"] > 0, metrics["weight"], 1
    )  # a batch in which nothing counts moves nothing
    sums = {name: value for name, value in metrics.items() if name != "weight"}
    return jax.tree.map(lambda leaf: leaf / weight, (sums, grads))


@functools.lru_cache(maxsize=32)
def make_train_step(program: Program, mesh: jax.sharding.Mesh) -> Step:
    """`train_step_function`, compiled once; the state's memory is reused."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(program.model, mesh, program.optimizer))
    return jax.jit(
        train_step_function(program),
        in_shardings=(places, sharding.batch_sharding(mesh), sharding.everywhere(mesh)),
        out_shardings=(places, sharding.everywhere(mesh)),
        donate_argnums=0,
    )


@functools.lru_cache(maxsize=32)
def make_evaluation_step(
    config: ModelConfig, mesh: jax.sharding.Mesh, objective: str = RunSpec.objective
) -> Callable[[Params, Batch, Any], jax.Array]:
    """Compile-once `(params, batch, weights_BT) -> nats_B`: summed loss of each sequence."""
    losses = objectives.load(objective).held_out_nats

    def step(params: Params, batch: Batch, weights_BT: jax.Array) -> jax.Array:
        with products_as(config):
            return jnp.sum(losses(config, params, batch) * weights_BT, axis=1)

    place = sharding.batch_sharding(mesh)
    compiled = jax.jit(
        step,
        in_shardings=(sharding.parameter_shardings(config, mesh), place, place),
        out_shardings=sharding.everywhere(mesh),
    )
    return lambda params, *read: compiled(params, *jax.tree.map(functools.partial(sharding.spread, mesh), read))


@functools.lru_cache(maxsize=32)
def abstract_state(
    config: ModelConfig, mesh: jax.sharding.Mesh, optimizer: str = OptimConfig.name
) -> TrainState:
    """Shapes and shardings of a state: what a checkpoint is restored into."""
    optim = OptimConfig(name=optimizer)
    abstract = jax.eval_shape(lambda: initial_state(config, optim, 0))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        abstract,
        state_shardings(config, optim, abstract, mesh),
    )


@functools.lru_cache(maxsize=32)
def make_initialization(
    config: ModelConfig, mesh: jax.sharding.Mesh, optimizer: str = OptimConfig.name
) -> tuple[Callable[[Any], TrainState], TrainState]:
    """Compile-once `seed -> TrainState`, each shard made on its own device, and `abstract_state`."""
    target = abstract_state(config, mesh, optimizer)
    initialize = jax.jit(
        lambda seed: initial_state(config, OptimConfig(name=optimizer), seed),
        in_shardings=sharding.everywhere(mesh),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, target),
    )
    return initialize, target
