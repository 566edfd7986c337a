"""Where arrays live: one table from logical axes to the axes of a device mesh (data, fsdp, tensor, expert)."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from core.errors import BadInput
from model.config import ModelConfig
from model.parameters import each, layout, leaves

MESH_AXES = ("data", "fsdp", "tensor", "expert")
USUAL_AXES = MESH_AXES[:3]  # of a mesh that does not cut experts

# Parameters are cut along model width over fsdp (ZeRO stage 3, Rajbhandari et al. 2020, arXiv 1910.02054),
# and along heads, feed-forward width or vocabulary over tensor (Shoeybi et al. 2019, arXiv 1909.08053).
# The experts of a layer are cut over expert, and gathered where they are used; everything else lies whole along it.
# Activations are cut over their sequences by data, fsdp and expert together; their width stays whole.
RULES: dict[str, tuple[str, ...]] = {
    "layers": (),
    "width": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_width": (),
    "ff_width": ("tensor",),
    "state": ("tensor",),
    "vocabulary": ("tensor",),
    "experts": ("expert",),
    "all_experts": (),
    "scores": (),
    "batch": ("data", "fsdp", "expert"),
    "position": (),
    "activation_width": (),
}


def make_mesh(shape: tuple[int, ...], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x fsdp x tensor devices, or of data x fsdp x tensor x expert.

    Enter it with `jax.set_mesh(mesh)` around the calls of jitted functions, so that `constrain` sees it.

    Raises:
      BadInput: the shape does not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(shape) not in (3, 4) or min(shape) < 1 or math.prod(shape) != len(devices):
        raise BadInput(f"mesh={shape}: data x fsdp x tensor must be the number of devices, {len(devices)}")
    axes = MESH_AXES[: len(shape)]
    return jax.make_mesh(shape, axes, (AxisType.Auto,) * len(axes), devices=devices)


@functools.lru_cache(maxsize=256)  # the rule of meshes asks for hundreds of shapes
def _pieces(config: ModelConfig) -> dict[str, set[int]]:
    """Into how many pieces each axis of the parameters can be cut at most: its length, and for heads their number."""
    pieces: dict[str, set[int]] = {}
    for leaf in leaves(layout(config)):
        for axis, length in zip(leaf.axes, leaf.shape, strict=True):
            of_one = config.resolved_head_width if axis in ("heads", "kv_heads") else 1
            pieces.setdefault(axis, set()).add(length // of_one)
    return pieces


def _uncut(config: ModelConfig, shape: Mapping[str, int]) -> Iterator[tuple[str, int, str]]:
    """Every (axis, its pieces, mesh axis) of the parameters that a mesh of this shape cannot cut evenly."""
    pieces = _pieces(config)
    for name, places in RULES.items():
        for most in sorted(pieces.get(name, ())):
            yield from ((name, most, place) for place in places if most % shape.get(place, 1))


def divides(config: ModelConfig, axis: str, count: int) -> bool:
    """Whether everything that is cut over a mesh axis can be cut into `count` parts."""
    return not any(_uncut(config, {axis: count}))


def refuse_uncut(config: ModelConfig, shape: Mapping[str, int]) -> None:
    """Refuse a model that a mesh with so many devices along each axis cannot cut.

    Raises:
      BadInput: a size of the model is not a multiple of the mesh axis that it is cut over.
    """
    for name, size, axis in _uncut(config, shape):
        field = "width" if name == "state" else name  # a recurrence's state is as wide as the stream
        raise BadInput(f"model.{field}={size}: must be a multiple of the mesh's {axis}={shape[axis]}")


def specification(names: Sequence[str], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """The mesh axes of an array with these logical axes; one that is not in RULES is whole on every device."""
    return PartitionSpec(*(places(name, mesh) or None for name in names))


def places(name: str, mesh: Mesh | AbstractMesh) -> tuple[str, ...]:
    """The axes of a mesh that cut a logical axis."""
    return tuple(axis for axis in RULES.get(name, ()) if axis in mesh.shape)


def parameter_shardings(config: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    """A tree like the parameters with a `NamedSharding` at each leaf.

    Raises:
      BadInput: a size of the model is not a multiple of the mesh axis that it is cut over.
    """
    refuse_uncut(config, mesh.shape)
    return each(layout(config), lambda leaf: NamedSharding(mesh, specification(leaf.axes, mesh)))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of tokens_BT: sequences over data and fsdp together."""
    return NamedSharding(mesh, specification(("batch", "position"), mesh))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh, batch: np.ndarray) -> np.ndarray | jax.Array:
    """A batch that every process holds whole, (B, ...): each gives its own devices their sequences.

    With one process it stays as it is, for the compiled function to place.
    """
    if jax.process_count() == 1:
        return batch
    place = NamedSharding(mesh, specification(("batch",), mesh))
    return jax.make_array_from_callback(batch.shape, place, lambda index: batch[index])


def partitioned() -> AbstractMesh | None:
    """The mesh that the partitioner spreads arrays over; None where none is set, or inside `shard_map`."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.are_all_axes_manual else mesh


def constrain(x: jax.Array, names: Sequence[str]) -> jax.Array:
    """Hold an activation to the sharding of its logical axes; no change where no mesh is set."""
    mesh = partitioned()
    return x if mesh is None else jax.lax.with_sharding_constraint(x, specification(names, mesh))


def on_each_device(
    function: Callable[..., Any], names: Sequence[str], reads: Sequence[Sequence[str]] | None = None
) -> Callable[..., Any]:
    """`function` on each device over its own part of arrays.

    For what the partitioner cannot cut. `function` itself where there is one device or no mesh is set.

    Args:
      names: logical axes of every result, and of every argument where `reads` does not say.
      reads: logical axes of each argument.
    """
    mesh = partitioned()
    if mesh is None or mesh.size == 1:
        return function
    place = specification(names, mesh)
    places = place if reads is None else tuple(specification(one, mesh) for one in reads)
    return jax.shard_map(function, in_specs=places, out_specs=place, check_vma=False)


def shards(name: str) -> int:
    """Into how many parts the current mesh cuts the logical axis `name`; 1 where no mesh is set."""
    mesh = partitioned()
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in places(name, mesh))
