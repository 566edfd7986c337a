"""Bytes of every shape on each device of its mesh, for `python launch.py plan`, and what cannot fit."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.spec import RunSpec
from planning import memory
from planning.flags import PlanFlags
from planning.memory_form import ONE_DEVICE, Bytes, Mesh
from training.processes.cores import cores_may_share, device_count
from training.program import shape_of


def mesh_of(spec: RunSpec, device: str, flags: PlanFlags) -> Mesh:
    """Devices along data, fsdp and tensor that `run` with the same flags gives this run; of a GPU or TPU one.

    Raises:
      BadInput: --mesh cannot be read, or cannot cut this run.
    """
    shared = device.startswith("cpu") and cores_may_share(spec.model)
    devices = device_count(flags.cores_per_worker) if shared else 1
    if not flags.mesh and devices == 1:
        return ONE_DEVICE
    # JAX takes a second to import, which a plan without a mesh is spared.
    from training.processes.mesh import sequences_at_once, shape_asked, shape_for

    if flags.mesh:
        return shape_asked(flags.mesh, spec)
    return shape_for(spec.model, sequences_at_once(spec), devices) or ONE_DEVICE


def refuse_too_large(
    specs: Sequence[RunSpec], shapes: Sequence[dict[str, Any]], device: str, flags: PlanFlags
) -> None:
    """Refuse a sweep of which a run needs more memory than a device has, where that is known.

    Args:
      shapes: a row of the plan for each shape of `specs`, in the order in which they come first.

    Raises:
      BadInput: what cannot fit, or a flag that cannot be read.
    """
    limit = memory.device_memory(device) if flags.device else memory.device_memory_here(device)
    if flags.device_memory is not None:
        limit = memory.parse_bytes(flags.device_memory)
    if limit is None:
        return
    firsts: dict[Any, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(shape_of(spec), spec)
    needs = []
    for spec, row in zip(firsts.values(), shapes, strict=True):
        # The devices of a CPU process share the machine's memory.
        together = math.prod(row["mesh"]) if device.startswith("cpu") and flags.device_memory is None else 1
        state, total = row["state_bytes"] * together, row["memory_bytes"] * together
        needs.append((spec, Bytes(state, total - state, row["memory_basis"])))
    memory.refuse_what_cannot_fit(needs, limit)
