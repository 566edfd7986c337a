"""Which devices train a run, along which axes."""

import math
from typing import Any

import jax

from core.errors import BadInput
from model.config import ModelConfig
from model.mesh_shape import Shape, batch_parts
from model.sharding import MESH_AXES, batch_sharding, divides, make_mesh, refuse_uncut
from training.objectives import Batch
from training.processes.allocator import STATE_SHARE, state_bytes
from training.processes.cores import MOST_ROWS, cores_may_share
from training.spec import RunSpec


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


def shape_for(
    config: ModelConfig,
    sequences: int,
    devices: int,
    *,
    memory_bytes: float = math.inf,
    local_devices: int | None = None,
    use_all: bool = False,
) -> tuple[int, int, int] | None:
    """(data, fsdp, tensor) for a run: the rule.

    Every device holds a copy of the state and a part of the batch (data) while the state takes no more than
    STATE_SHARE of a device's memory. A larger state is cut over as few devices as make it fit, first along fsdp (each
    layer's weights are gathered when they are used), and along tensor (every product is split, with sums between them)
    only where the sequences of the batch do not suffice for that, and within one host. Of the shapes that are equally
    good so, the one with the most devices. Where nothing fits, the state is cut as finely as possible.

    Args:
      sequences: that are computed at once, cut over data x fsdp.
      devices: how many there are.
      memory_bytes: of one device.
      local_devices: devices of one host; None for all.
      use_all: leave no device out.

    Returns:
      None where no shape divides batch and model.
    """
    whole = state_bytes(config)

    def preference(shape: tuple[int, int, int]) -> tuple[float, ...]:
        held = whole / (shape[1] * shape[2])
        too_much = held if held > STATE_SHARE * memory_bytes else 0.0
        return (-too_much, -shape[2], math.prod(shape), -shape[1])

    sizes = [size for size in range(1, devices + 1)]
    shapes = [
        (data, fsdp, tensor)
        for tensor in sizes
        if tensor <= (local_devices or devices) and divides(config, "tensor", tensor)
        for fsdp in sizes
        if fsdp * tensor <= devices and divides(config, "fsdp", fsdp)
        for data in sizes
        if data * fsdp * tensor <= devices and sequences % (data * fsdp) == 0
        if not use_all or data * fsdp * tensor == devices
    ]
    return max(shapes, key=preference, default=None)


def devices_may_share(config: ModelConfig) -> bool:
    """Whether this process may compute the model on several of its devices at once (`cores.cores_may_share`)."""
    return jax.default_backend() != "cpu" or jax.local_device_count() == 1 or cores_may_share(config)


def shape_here(config: ModelConfig, sequences: int) -> tuple[int, int, int] | None:
    """The rule (`shape_for`) over the devices that JAX finds; those of several processes are all taken."""
    return shape_for(
        config,
        sequences,
        jax.device_count() if devices_may_share(config) or jax.process_count() > 1 else 1,
        memory_bytes=(jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf),
        local_devices=jax.local_device_count(),
        use_all=jax.process_count() > 1,
    )


def sequences_at_once(spec: RunSpec) -> int:
    """Sequences of a microbatch: what data and fsdp cut."""
    return (spec.optim.microbatch_tokens or spec.batch_tokens) // spec.data.sequence_length


def shape_asked(text: str, spec: RunSpec, devices: float = math.inf) -> Shape:
    """(data, fsdp, tensor), and expert where it is above 1, as `text` says.

    Raises:
      BadInput: `text` cannot be read or asks for more than `devices`, or the batch does not divide over data and fsdp
        (and expert), or the model over fsdp and tensor (and expert).
    """
    sizes = parse_mesh(text)
    shape = tuple(sizes.get(axis, 1) for axis in MESH_AXES)
    if shape[3] == 1:
        shape = shape[:3]
    elif spec.model.resolved_experts == 1:
        raise BadInput(
            f"--mesh={text}: model.architecture={spec.model.architecture} has no experts to cut; expert must be 1"
        )
    if math.prod(shape) > devices:
        raise BadInput(f"--mesh={text}: asks for {math.prod(shape)} devices, {devices} are here")
    sequences = sequences_at_once(spec)
    if sequences % batch_parts(shape):
        raise BadInput(
            f"--mesh={text}: data x fsdp{' x expert' if len(shape) == 4 else ''} must divide the {sequences} "
            f"sequences of a batch (batch_tokens={spec.batch_tokens})"
        )
    refuse_uncut(spec.model, dict(zip(MESH_AXES, shape, strict=False)))
    return shape


def choose_mesh(text: str, spec: RunSpec) -> jax.sharding.Mesh:
    """The mesh that `text` asks for, or where it is empty the one of the rule (`shape_for`).

    Raises:
      BadInput: more devices than there are, a batch that does not divide over data and fsdp, devices of one of
        several processes left out, or several CPU devices of one process for a model that they compute wrong.
    """
    devices = jax.devices()
    processes = jax.process_count()
    if text:
        shape: Shape = shape_asked(text, spec, len(devices))
    else:
        sequences = sequences_at_once(spec)
        chosen = shape_here(spec.model, sequences)
        if chosen is None:
            raise BadInput(
                f"batch_tokens={spec.batch_tokens}: its {sequences} sequences must divide over the {len(devices)} "
                f"devices of {processes} processes, or the model over some of them"
            )
        shape = chosen
    count = math.prod(shape)
    if count > 1 and not devices_may_share(spec.model):
        raise BadInput(
            f"--mesh={text}: this model has products of more than {MOST_ROWS} rows, which XLA computes wrong on "
            "several CPU devices of one process; take one device (--mesh=data=1), or processes of one core each"
        )
    if processes > 1 and count < len(devices):
        raise BadInput(
            f"--mesh={text}: takes {count} devices; must take all {len(devices)} of the {processes} processes"
        )
    return make_mesh(shape, devices[:count])


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


def place_batch(mesh: jax.sharding.Mesh, batch: Batch, sequences: int) -> Batch:
    """A batch of `sequences` over all processes, from the share that this process has read."""
    if jax.process_count() == 1:
        return batch  # the compiled step places it
    return jax.tree.map(
        lambda local: jax.make_array_from_process_local_data(
            batch_sharding(mesh), local, (sequences, *local.shape[1:])
        ),
        batch,
    )
