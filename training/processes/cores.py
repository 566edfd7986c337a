"""CPU cores as devices: a process with several cores trains one share of every batch on each.

XLA's CPU compiler shares out single operations among threads, and the operations of a small model are too short for
that. Cut over sequences instead, each core computes its share of the whole step alone, and the cores meet once, at
the sum of the gradients (docs/performance.md).
"""

import contextlib
import os

from core.cores import usable_cores
from model.config import ModelConfig
from model.kernels.choose import longest_side

COUNT_FLAG = "xla_force_host_platform_device_count"
# Where several devices of one process compute at once, XLA's CPU products of many rows can come out wrong: they are
# cut into blocks of about 200 rows, and from 16 blocks on a packed block is overwritten before it is used. Seen from
# 3,424 rows on, never at 3,072 and below, and never on one device alone (docs/performance.md).
MOST_ROWS = 3072
# Each device holds the whole state and sums all gradients, so that more of them pay only for large batches (a choice).
MOST_DEVICES = 8


def device_count(cores: int) -> int:
    """CPU devices of a process with so many cores: one a core, and at most MOST_DEVICES that divide them evenly."""
    return max(count for count in range(1, min(cores, MOST_DEVICES) + 1) if cores % count == 0)


def cores_may_share(config: ModelConfig) -> bool:
    """Whether several CPU devices of one process compute this model correctly at once: no product is too large."""
    return longest_side(config) <= MOST_ROWS


def use_cores_as_devices() -> None:
    """Make each core that this process may use a device of its own; call before JAX touches a device.

    Where XLA_FLAGS says how many CPU devices there are, that stays; and so do the devices of a process that has used
    JAX already. Accelerators are not concerned.
    """
    import jax  # here: planning reads the rules of this file without JAX

    if COUNT_FLAG in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # JAX has its devices: this is a call within a process
        jax.config.update("jax_num_cpu_devices", device_count(usable_cores()))
