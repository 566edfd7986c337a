"""Which worker processes to start here, found without starting JAX in the launcher."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

from core.cores import usable_cores
from core.errors import BadInput
from training.processes import allocator


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one worker runs: an accelerator or a set of CPU cores.

    Attributes:
      name: as shown in progress, such as gpu 0 or cores 0-1.
      environment: variables of the worker process.
      cores: CPU cores to pin to; empty for all.
    """

    name: str
    environment: dict[str, str]
    cores: tuple[int, ...] = ()


def visible_gpus() -> list[str]:
    """Indices of the GPUs that a process started here would see."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [index for index in chosen.split(",") if index.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


def has_tpu() -> bool:
    """Whether this host has TPU chips attached (their device nodes)."""
    return not os.environ.get("JAX_PLATFORMS", "").startswith("cpu") and any(
        Path(node).exists() for node in ("/dev/accel0", "/dev/vfio/0")
    )


def places(runs: int, workers: int | None = None, cores_per_worker: int = 1, devices: int = 1) -> list[Place]:
    """One place an accelerator; on a CPU as many single-threaded workers as there are cores.

    Two single-threaded processes train more tokens a second in total than one with two threads (docs/performance.md,
    "Workers"), because the products of a small model are too small to share. The number of threads of a run never
    depends on how many runs are left: sums in another order are other numbers in the last bit.

    Args:
      runs: runs to be trained.
      workers: most workers to start; None for one an accelerator or share of cores.
      cores_per_worker: CPU cores, and so threads, of each worker.
      devices: accelerators of each worker.

    Raises:
      BadInput: `workers` is below 1, there are fewer accelerators than `devices`, or `cores_per_worker` is not
        between 1 and the cores of this machine.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"--workers={workers}: must be at least 1")
    gpus = visible_gpus()
    if gpus:
        if devices > len(gpus):
            raise BadInput(f"--mesh: asks for {devices} devices a run; {len(gpus)} GPUs are here")
        shares = [",".join(gpus[first : first + devices]) for first in range(0, len(gpus), devices)]
        shares = shares[: len(gpus) // devices]
        return [Place(f"gpu {share}", {"CUDA_VISIBLE_DEVICES": share}) for share in shares][
            : min(workers or runs, runs)
        ]
    if has_tpu():
        return [Place("tpu", {})]
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= cores_per_worker <= len(cores):
        raise BadInput(
            f"--cores-per-worker={cores_per_worker}: must be between 1 and the {len(cores)} cores here"
        )
    # Cores beyond a container's quota only wait for each other; who asks for more workers gets them.
    count = min(workers or max(1, usable_cores() // cores_per_worker), runs)
    return [
        Place(f"core {','.join(map(str, share))}", {"JAX_PLATFORMS": "cpu", **allocator.environment()}, share)
        for share in (
            tuple(cores[(worker * cores_per_worker + index) % len(cores)] for index in range(cores_per_worker))
            for worker in range(count)
        )
    ]
