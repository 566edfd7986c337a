"""Which devices train a run, along which axes."""

import math

import jax

from errors import BadInput
from model.sharding import MESH_AXES, make_mesh
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
        return make_mesh((data := math.gcd(sequences, len(devices)), 1, 1), devices[:data])
    sizes = parse_mesh(text)
    shape = (sizes.get("data", 1), sizes.get("fsdp", 1), sizes.get("tensor", 1))
    if math.prod(shape) > len(devices):
        raise BadInput(f"--mesh={text}: asks for {math.prod(shape)} devices, {len(devices)} are here")
    if sequences % (shape[0] * shape[1]):
        raise BadInput(
            f"--mesh={text}: data x fsdp must divide the {sequences} sequences of a batch "
            f"(batch_tokens={spec.batch_tokens})"
        )
    return make_mesh(shape, devices[: math.prod(shape)])
