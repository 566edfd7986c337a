"""How a process that trains begins: its cores, its compiled programs."""

import os
from pathlib import Path

from core.errors import BadInput


def pin_to_cores(count: int) -> None:
    """Use `count` of the CPU cores that this process may use: as many threads, whose number decides the last bits.

    Where there are more, processes that start after each other take different ones.

    Raises:
      BadInput: `count` is not between 1 and the cores that this process may use.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(cores):
        raise BadInput(
            f"--cores={count}: must be between 1 and the {len(cores)} cores that this process may use"
        )
    first = os.getpid() % len(cores)
    os.sched_setaffinity(0, {cores[(first + index) % len(cores)] for index in range(count)})


def configure_jax(cache_root: Path) -> None:
    """Keep compiled programs on disk under `cache_root`, one folder per processor type and JAX version."""
    import jax  # here: it loads slowly, and a bad flag is refused before

    # By its own path, not a link's: JAX's keys hold the path, so under another name nothing would be found.
    folder = (cache_root / "xla").resolve() / f"jax-{jax.__version__}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
