"""Tests run on the CPU whatever else the machine has, and share what they compile: most of a small run's time."""

import importlib.metadata
import os
import shutil
import tempfile

import hypothesis
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# How long an example takes says what else the machine does, not whether it is right.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

COMPILED = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """One folder of compiled programs for this call of pytest: of its workers, and of every process that a test starts.

    `tests.support.small.cache_folder` hands it to those that are told a cache folder of their own.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:  # has inherited the variables
        return
    config.stash[COMPILED] = tempfile.mkdtemp(prefix="compiled-by-tests-")
    version = importlib.metadata.version("jax")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(config.stash[COMPILED], f"jax-{version}")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


def pytest_unconfigure(config: pytest.Config) -> None:
    if COMPILED in config.stash:
        shutil.rmtree(config.stash[COMPILED], ignore_errors=True)
