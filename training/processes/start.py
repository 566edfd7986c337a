"""How a process that trains begins: its cores, its compiled programs."""

import os
from pathlib import Path

from core.errors import BadInput
from training.processes.allocator import MEMORY_SHARE, SHARE_VARIABLES


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

    give_gpu_memory()
    # By its own path, not a link's: JAX's keys hold the path, so under another name nothing would be found.
    folder = (cache_root / "xla").resolve() / f"jax-{jax.__version__}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def give_gpu_memory() -> None:
    """Let JAX take MEMORY_SHARE of a GPU, which a process that trains has alone; before JAX touches a device."""
    if not any(name in os.environ for name in SHARE_VARIABLES):
        os.environ[SHARE_VARIABLES[0]] = str(MEMORY_SHARE)


def check_platform() -> None:
    """Refuse a process whose devices are not those that JAX_PLATFORMS asks for.

    Raises:
      BadInput: JAX cannot start there, with its reason.
    """
    import jax  # here, as in `configure_jax`

    asked = os.environ.get("JAX_PLATFORMS", "")
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # JAX asserts where it has no plugin for the platform
        why = (str(error).strip().splitlines() or ["JAX has no such device"])[0]
        raise BadInput(
            f"JAX_PLATFORMS={asked}: {why}; install the JAX of that device, or "
            "JAX_PLATFORMS=cpu to train on the processor"
        ) from None
    wanted = asked.split(",")[0]
    if found == "cpu" and wanted not in ("", "cpu"):
        raise BadInput(f"JAX_PLATFORMS={asked}: JAX found the processor alone")
