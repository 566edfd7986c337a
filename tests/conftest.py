"""Tests run on the CPU whatever else the machine has, and share what they compile: most of a small run's time."""

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# How long an example takes says what else the machine does, not whether it is right.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

COMPILED = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """One folder of compiled programs for this call of pytest: of its workers, and of every process that a test starts.

    It begins with what earlier calls have compiled, but for -p no:cacheprovider. `tests.support.small.cache_folder`
    hands it to those that are told a cache folder of their own.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:  # has inherited the variables
        return
    version = importlib.metadata.version("jax")
    config.stash[COMPILED] = Path(tempfile.mkdtemp(prefix="compiled-by-tests-")) / f"jax-{version}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.stash[COMPILED])
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    # Else the folder's path is in the key of each program, and no later call would find it.
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
    if (kept := kept_folder(config)) is not None:
        from tests.support import compiled

        compiled.take(kept, config.stash[COMPILED])


def kept_folder(config: pytest.Config) -> Path | None:
    """Where programs are kept from one call of pytest to the next, if anywhere."""
    if not hasattr(config, "cache"):
        return None
    from tests.support import compiled  # here: it loads JAX, whose variables are set before

    return compiled.kept_folder(config.cache.mkdir("compiled"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if COMPILED not in config.stash:
        return
    if (kept := kept_folder(config)) is not None:
        from tests.support import compiled

        compiled.keep(config.stash[COMPILED], kept)
    shutil.rmtree(config.stash[COMPILED].parent, ignore_errors=True)
