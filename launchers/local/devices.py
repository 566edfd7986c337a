"""Which worker processes to start here, found without starting JAX in the launcher."""

import dataclasses
import importlib.metadata
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.cores import usable_cores
from core.errors import BadInput
from training.processes import allocator
from training.processes.allocator import fits_any_tpu
from training.spec import RunSpec


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
    if _platform().startswith("cpu"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:  # CUDA ends the list at the first entry that names none, such as -1
        entries = [entry.strip() for entry in chosen.split(",")]
        return list(itertools.takewhile(lambda entry: entry and entry not in NO_GPU, entries))
    return listed_gpus()


NO_GPU = ("-1", "none", "void", "NoDevFiles")


def listed_gpus() -> list[str]:
    """Indices of the GPUs that nvidia-smi lists, whatever this process may use of them."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(
        ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


def tpu_chips() -> int:
    """TPU chips that are attached to this host, by their device nodes."""
    if _platform().startswith("cpu"):
        return 0
    nodes = [path for pattern in ("accel[0-9]*", "vfio/[0-9]*") for path in sorted(DEVICES.glob(pattern))]
    return len(nodes)


DEVICES = Path("/dev")


def _platform() -> str:
    return os.environ.get("JAX_PLATFORMS", "")


def require_cuda(gpus: Sequence[str]) -> None:
    """Refuse GPUs that the installed JAX cannot use: it would train on the processor without a word.

    Raises:
      BadInput: no plugin for CUDA is installed, and JAX finds no GPU without one.
    """
    names = (str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions())
    if any(name.startswith("jax-cuda") for name in names):
        return  # whether it loads, a worker finds out
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "JAX_PLATFORMS": "cuda"}, capture_output=True, check=False,
    )  # fmt: skip
    if asked.returncode:
        raise BadInput(
            f"this machine has {len(gpus)} GPU{'s' * (len(gpus) > 1)}, and the installed JAX no CUDA: pip install "
            '"jax[cuda12]" (or cuda13), or JAX_PLATFORMS=cpu to train on the processor'
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
      devices: accelerators of each worker; 0 for all of a TPU host (`devices_of_a_run`).

    Raises:
      BadInput: `workers` is below 1, there are fewer accelerators than `devices`, or `cores_per_worker` is not
        between 1 and the cores of this machine.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"--workers={workers}: must be at least 1")
    gpus = visible_gpus()
    if gpus:
        require_cuda(gpus)
        devices = devices or 1
        if devices > len(gpus):
            raise BadInput(f"--mesh: asks for {devices} devices a run; {len(gpus)} GPUs are here")
        shares = [",".join(gpus[first : first + devices]) for first in range(0, len(gpus), devices)]
        shares = shares[: len(gpus) // devices]
        platform = _platform() or "cuda"  # else JAX falls back to the processor where CUDA does not load
        return [
            Place(f"gpu {share}", {"CUDA_VISIBLE_DEVICES": share, "JAX_PLATFORMS": platform})
            for share in shares[: min(workers or runs, runs)]
        ]
    if chips := tpu_chips():
        return _tpu_places(chips, min(workers or runs, runs), devices)
    if _platform():
        refuse_missing(_platform())
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


def _tpu_places(chips: int, workers: int, devices: int) -> list[Place]:
    """One worker a chip where a run takes one, else one worker for all chips of the host."""
    if devices != 1 or workers == 1 or chips == 1 or "TPU_VISIBLE_CHIPS" in os.environ:
        return [Place("tpu", {"JAX_PLATFORMS": "tpu"})]
    return [
        Place(
            f"tpu {chip}",
            {
                "JAX_PLATFORMS": "tpu",
                "TPU_VISIBLE_CHIPS": str(chip),
                "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
                "TPU_PROCESS_BOUNDS": "1,1,1",
            },
        )
        for chip in range(min(chips, workers))
    ]


def refuse_missing(asked: str) -> None:
    """Refuse a platform that JAX_PLATFORMS asks for where no such device is found.

    Raises:
      BadInput: always but for `cpu`.
    """
    if not asked.startswith("cpu"):
        raise BadInput(
            f"JAX_PLATFORMS={asked}: no such device is here (nvidia-smi lists no GPU, /dev has no TPU); leave it out, "
            "or cpu to train on the processor"
        )


def devices_of_a_run(specs: Iterable[RunSpec]) -> int:
    """Accelerators that each run is given by rule: one, or 0 for all of a TPU host whose chips cannot hold a model."""
    return 1 if tpu_chips() < 2 or all(fits_any_tpu(spec.model) for spec in specs) else 0
