"""Memory settings for processes that train.

On a CPU, XLA takes one large scratch allocation for each execution of a program and gives it back after. The C
library maps that from the system each time, and every first touch of a page is a fault that clears 4 KiB: a quarter
to two fifths of the step time of a small model. With these settings the pages stay with the process, and are huge.
"""

import os

from model.config import ModelConfig
from model.ledger import parameter_counts

# Of a GPU's memory, that JAX takes when it starts. Its own default is 0.75; the rest is CUDA's context and libraries,
# which need 1 to 3 GB of a card.
MEMORY_SHARE = 0.9
SHARE_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")

# Parameters, their gradient and two moments in float32. They may take half of a device's memory: the rest is for
# activations and logits, whose size microbatches and rematerialization bring down (a choice).
STATE_BYTES = 16
STATE_SHARE = 0.5
SMALLEST_TPU = 16e9  # bytes of a v5e chip

HOST_MEMORY_KEPT = str(1 << 40)  # bytes of freed memory that stay with the process: all of it


def environment() -> dict[str, str]:
    """Variables to start a CPU worker with: glibc reads them when a process starts; elsewhere they do nothing."""
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": HOST_MEMORY_KEPT,
    }


def gpu_memory_share() -> float:
    """The share of a GPU's memory that a process started with this environment gets."""
    for name in SHARE_VARIABLES:
        try:
            return float(os.environ[name])
        except (KeyError, ValueError):
            continue
    return MEMORY_SHARE


def state_bytes(config: ModelConfig) -> int:
    """Of a run that is cut over no devices."""
    return STATE_BYTES * parameter_counts(config)["total"]


def fits_any_tpu(config: ModelConfig) -> bool:
    """Whether one chip of any TPU holds a run: which TPU it is, JAX alone knows, and the launcher starts no JAX."""
    return state_bytes(config) <= STATE_SHARE * SMALLEST_TPU
