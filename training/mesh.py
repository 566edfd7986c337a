"""Which devices train a run, along which axes."""

import math
from typing import Any

import jax
import numpy as np

from errors import BadInput
from model.sharding import MESH_AXES, batch_sharding, make_mesh
from training.config import RunSpec


def parse_mesh(text: str) -> dict[str, int]:
    """{"data": 2, "fsdp": 4} from data=2,fsdp=4.

    Raises:
      BadInput: an unknown axis, a repeated one, or a size that is no positive whole number.
    """
    sizes: dict[str, int] = {}
    for item in text.split(","):
        axis, _, size = item.partition("=")
        if axis not in MESH_AXES or axis in sizes or not size.isdigit() or int(size) < 1:
            raise BadInput(
                f"--mesh={text}: must be AXIS=SIZE,..., axes {', '.join(MESH_AXES)}, each at most once"
            )
        sizes[axis] = int(size)
    return sizes


def choose_mesh(text: str, spec: RunSpec) -> jax.sharding.Mesh:
    """The mesh that `text` asks for, or as many of this process's devices along data as divide the batch.

    Raises:
      BadInput: more devices than there are, or a batch that does not divide over data and fsdp.
    """
    devices = jax.devices()
    sequences = (spec.optim.microbatch_tokens or spec.batch_tokens) // spec.data.sequence_length
    if not text:
        data = math.gcd(sequences, len(devices))
        if jax.process_count() > 1 and data < len(devices):
            raise BadInput(
                f"batch_tokens={spec.batch_tokens}: its {sequences} sequences must divide over the {len(devices)} "
                f"devices of {jax.process_count()} processes, or --mesh must spread the model over some of them"
            )
        return make_mesh((data, 1, 1), devices[:data])
    sizes = parse_mesh(text)
    shape = (sizes.get("data", 1), sizes.get("fsdp", 1), sizes.get("tensor", 1))
    if math.prod(shape) > len(devices):
        raise BadInput(f"--mesh={text}: asks for {math.prod(shape)} devices, {len(devices)} are here")
    if jax.process_count() > 1 and math.prod(shape) < len(devices):
        raise BadInput(
            f"--mesh={text}: takes {math.prod(shape)} devices; must take all {len(devices)} of the "
            f"{jax.process_count()} processes"
        )
    if sequences % (shape[0] * shape[1]):
        raise BadInput(
            f"--mesh={text}: data x fsdp must divide the {sequences} sequences of a batch "
            f"(batch_tokens={spec.batch_tokens})"
        )
    return make_mesh(shape, devices[: math.prod(shape)])


def data_share(mesh: jax.sharding.Mesh, sequences: int) -> tuple[int, int]:
    """(index, count): this process reads share `index` of `count` equal shares of every batch.

    Processes whose devices differ only along tensor read the same share.

    Args:
      sequences: of a batch over all processes.
    """
    rows: dict[int, set[int]] = {}
    places: Any = batch_sharding(mesh).devices_indices_map((sequences, 1))
    for device, (span, _) in places.items():
        rows.setdefault(device.process_index, set()).add(span.start or 0)
    shares = sorted({tuple(sorted(starts)) for starts in rows.values()})
    return shares.index(tuple(sorted(rows[jax.process_index()]))), len(shares)


def place_batch(mesh: jax.sharding.Mesh, local_BT: np.ndarray, sequences: int) -> np.ndarray | jax.Array:
    """A batch of `sequences` over all processes, from the share that this process has read."""
    if jax.process_count() == 1:
        return local_BT  # the compiled step places it
    shape = (sequences, *local_BT.shape[1:])
    return jax.make_array_from_process_local_data(batch_sharding(mesh), local_BT, shape)
