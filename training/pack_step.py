"""The compiled programs of a pack: one optimizer step of M runs, and the way of a run into and out of its lane."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from model.config import ModelConfig
from model.sharding import make_mesh
from training.objectives import Batch
from training.processes.mesh import devices_may_share
from training.program import Program
from training.state import TrainState
from training.step import Hyper, Metrics, Step, exploded_loss, train_step_function

PackStep = Callable[[TrainState, Batch, Hyper, Any], tuple[TrainState, Metrics]]


def pack_mesh(config: ModelConfig, members: int) -> jax.sharding.Mesh:
    """As many of this process's devices as divide the members, which are shared out among them; one device for a model
    that several must not compute at once."""
    devices = jax.devices() if devices_may_share(config) else jax.devices()[:1]
    return make_mesh((data := math.gcd(members, len(devices)), 1, 1), devices[:data])


def lanes(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The sharding of every array with a leading member axis: members lie whole on one device each."""
    return NamedSharding(mesh, PartitionSpec("data"))


@functools.lru_cache(maxsize=32)
def make_pack_step(program: Program, mesh: jax.sharding.Mesh) -> PackStep:
    """Compile-once-per-M `(state_M, batch_M, hyper_M, active_M) -> (state_M, metrics_M)`; memory is reused.

    The state of a member stays as it was where `active_M` is false, and where its loss or gradient norm is not finite
    or its loss has exploded: a diverging member is frozen before the bad update. Call it outside `jax.set_mesh`:
    activations follow their member.
    """
    step_M: Step = jax.vmap(train_step_function(program))
    if mesh.size > 1:  # a kernel cannot be cut by the partitioner; here each device has its own members whole
        place_M = PartitionSpec("data")
        step_M = jax.shard_map(step_M, mesh=mesh, in_specs=place_M, out_specs=place_M, check_vma=False)
    # A little above what the log calls diverged, so that rounding never freezes a member that goes on.
    most = exploded_loss(program.model) * (1 + 1e-5)

    def step(
        state_M: TrainState, batch_M: Batch, hyper_M: Hyper, active_M: jax.Array
    ) -> tuple[TrainState, Metrics]:
        following_M, metrics_M = step_M(state_M, batch_M, hyper_M)
        loss_M, norm_M = metrics_M["loss"], metrics_M["grad_norm"]
        moves_M = active_M & jnp.isfinite(loss_M) & jnp.isfinite(norm_M) & (loss_M <= most)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(moves_M.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, following_M, state_M), metrics_M

    place = lanes(mesh)
    return jax.jit(
        step, in_shardings=(place, place, place, place), out_shardings=(place, None), donate_argnums=0
    )


@functools.lru_cache(maxsize=32)
def _put(mesh: jax.sharding.Mesh) -> Callable[..., TrainState]:
    def put(state_M: TrainState, lane: jax.Array, state: TrainState) -> TrainState:
        return jax.tree.map(lambda all_, own: all_.at[lane].set(own), state_M, state)

    return jax.jit(put, out_shardings=lanes(mesh), donate_argnums=0)


def empty_lanes(target: TrainState, members: int, mesh: jax.sharding.Mesh) -> TrainState:
    """A state of zeros with a leading axis of `members`; `target` is the abstract state of one."""
    zeros = jax.jit(
        lambda: jax.tree.map(lambda leaf: jnp.zeros((members, *leaf.shape), leaf.dtype), target),
        out_shardings=lanes(mesh),
    )
    return zeros()


def put_lane(state_M: TrainState, lane: int, state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """`state_M`, whose memory is reused, with `state` in one lane."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return _put(mesh)(state_M, np.int32(lane), jax.device_put(state, everywhere))


@jax.jit
def _take(state_M: TrainState, lane: jax.Array) -> TrainState:
    return jax.tree.map(lambda all_: all_[lane], state_M)


def take_lane(state_M: TrainState, lane: int, target: TrainState) -> TrainState:
    """The state of one lane, placed as the same run alone has it."""
    place: Any = state_M.step.sharding
    with jax.set_mesh(place.mesh):  # the caller is on the devices of the run, which may be others
        own = _take(state_M, np.int32(lane))
    return jax.device_put(own, jax.tree.map(lambda leaf: leaf.sharding, target))
