"""The compiled programs of training: one optimizer step, one evaluation batch.

Call them inside `jax.set_mesh(mesh)`, so that the model's activations find the mesh they are spread over.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model import network as functional
from model import sharding
from model.config import ModelConfig
from training.spec import OptimConfig
from training.state import TrainState, initial_state, optimizer, state_shardings

Metrics = dict[str, jax.Array]


def loss_and_metrics(
    params: Any, config: ModelConfig, batch_BT: jax.Array, z_loss: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean next-token loss plus z-loss penalty, and the loss alone; nats per token.

    Args:
      batch_BT: int32 (B, T + 1) tokens; the first T are inputs, the last T targets.
    """
    return functional.objective(config, params, batch_BT[:, :-1], batch_BT[:, 1:], z_loss)


def train_step_function(
    config: ModelConfig, decay_all: bool, microbatches: int
) -> Callable[[TrainState, Any, dict[str, Any]], tuple[TrainState, Metrics]]:
    """The train step `(state, batch_BT, hyper) -> (state, metrics)` of one run, not compiled.

    `hyper` holds `state.hyperparameters` and the step's learning_rate, all scalars. Gradients are averaged
    over `microbatches` equal parts of the batch, one after the other. metrics: loss (nats per token,
    without penalty) and grad_norm (before clipping), on the device.
    """
    gradient = jax.value_and_grad(loss_and_metrics, has_aux=True)

    def accumulate(params: Any, batch_BT: jax.Array, z_loss: jax.Array) -> tuple[jax.Array, Any]:
        if microbatches == 1:
            (_, loss), grads = gradient(params, config, batch_BT, z_loss)
            return loss, grads
        parts_MBT = batch_BT.reshape(microbatches, -1, batch_BT.shape[-1])

        def add(total: tuple[jax.Array, Any], part_BT: jax.Array) -> tuple[tuple[jax.Array, Any], None]:
            (_, loss), grads = gradient(params, config, part_BT, z_loss)
            return jax.tree.map(jnp.add, total, (loss, grads)), None

        zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
        total, _ = jax.lax.scan(add, zero, parts_MBT)
        return jax.tree.map(lambda leaf: leaf / microbatches, total)

    def step(state: TrainState, batch_BT: jax.Array, hyper: dict[str, Any]) -> tuple[TrainState, Metrics]:
        loss, grads = accumulate(state.params, batch_BT, hyper["z_loss"])
        grad_norm = optax.global_norm(grads)
        updates, moments = optimizer(hyper, config, decay_all).update(grads, state.moments, state.params)
        params = jax.tree.map(lambda p, u: p - hyper["learning_rate"] * u, state.params, updates)
        following = TrainState(params=params, moments=moments, key=state.key, step=state.step + 1)
        return following, {"loss": loss, "grad_norm": grad_norm}

    return step


@functools.lru_cache(maxsize=32)
def make_train_step(
    config: ModelConfig, decay_all: bool, microbatches: int, mesh: jax.sharding.Mesh
) -> Callable[[TrainState, Any, dict[str, Any]], tuple[TrainState, Metrics]]:
    """`train_step_function`, compiled once; the state's memory is reused."""
    abstract = jax.eval_shape(lambda: initial_state(config, OptimConfig(), 0))
    places = state_shardings(config, abstract, mesh)
    return jax.jit(
        train_step_function(config, decay_all, microbatches),
        in_shardings=(places, sharding.batch_sharding(mesh), sharding.everywhere(mesh)),
        out_shardings=(places, sharding.everywhere(mesh)),
        donate_argnums=0,
    )


@functools.lru_cache(maxsize=32)
def make_evaluation_step(
    config: ModelConfig, mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """Compile-once `(params, batch_BT, weights_BT) -> nats_B`: summed loss of each sequence of T + 1 tokens."""

    def step(params: Any, batch_BT: jax.Array, weights_BT: jax.Array) -> jax.Array:
        nll_BT, _ = functional.token_losses(config, params, batch_BT[:, :-1], batch_BT[:, 1:])
        return jnp.sum(nll_BT * weights_BT, axis=1)

    place = sharding.batch_sharding(mesh)
    compiled = jax.jit(
        step,
        in_shardings=(sharding.parameter_shardings(config, mesh), place, place),
        out_shardings=sharding.everywhere(mesh),
    )
    return lambda params, *batch: compiled(params, *(sharding.spread(mesh, array) for array in batch))


@functools.lru_cache(maxsize=32)
def make_initialization(
    config: ModelConfig, mesh: jax.sharding.Mesh
) -> tuple[Callable[[Any], TrainState], TrainState]:
    """Compile-once `seed -> TrainState`, each shard made on its own device, and the abstract state with
    shardings that a checkpoint is restored into."""
    abstract = jax.eval_shape(lambda: initial_state(config, OptimConfig(), 0))
    places = state_shardings(config, abstract, mesh)
    target = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract, places
    )
    initialize = jax.jit(
        lambda seed: initial_state(config, OptimConfig(), seed),
        in_shardings=sharding.everywhere(mesh),
        out_shardings=places,
    )
    return initialize, target
