"""Cores as devices: how many there are, and that a run's process has them."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.cores import MOST_DEVICES, device_count

SHOW = """
import os
os.sched_getaffinity = lambda process: set(range({cores}))
from training.cores import use_cores_as_devices
use_cores_as_devices()
import jax
print(jax.device_count())
"""


@given(st.integers(1, 512))
def test_devices_share_the_cores_out_evenly(cores):
    count = device_count(cores)
    assert cores % count == 0
    assert count <= MOST_DEVICES
    assert cores > MOST_DEVICES or count == cores


@pytest.mark.parametrize(
    ("cores", "flags", "devices"),
    [(1, "", 1), (6, "", 6), (6, "--xla_force_host_platform_device_count=3", 3)],
)
def test_a_process_has_a_device_for_each_core_unless_flags_say_how_many(cores, flags, devices):
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(cores=cores)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == devices
