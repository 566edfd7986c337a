"""Cores as devices: how many there are, and that a run's process has them."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from tests.support.small import run_launch
from training.processes.cores import MOST_DEVICES, MOST_ROWS, cores_may_share, device_count

pytestmark = pytest.mark.slow

SHOW = """
import os
os.sched_getaffinity = lambda process: set(range({cores}))
from training.processes.cores import use_cores_as_devices
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


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"width": 576, "heads": 9, "kv_heads": 9}, True),  # gate and up: 3,072 rows
        ({"width": 640, "heads": 10, "kv_heads": 10}, False),  # 3,424
        ({"width": 640, "heads": 10, "kv_heads": 10, "activation": "gelu"}, True),
        ({"vocabulary": MOST_ROWS + 1}, False),
    ],
)
def test_models_with_large_products_do_not_share_a_process(fields, may):
    assert cores_may_share(ModelConfig(**{"width": 64, "depth": 2, "heads": 4, "kv_heads": 4, **fields})) is may


TWO_DEVICES = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from core.errors import BadInput
from data.config import DataConfig
from model import sharding
from model.config import ModelConfig
from model.initialize import init
from tests.support.network import objective
from training.spec import RunSpec
from training.processes.mesh import choose_mesh
from training.pack_step import pack_mesh

def spec(**fields):
    model = ModelConfig(**{"width": 576, "depth": 2, "heads": 9, "kv_heads": 9, "scan": False, **fields})
    return RunSpec(model=model, data=DataConfig(sequence_length=1024), tokens=2048, batch_tokens=2048)

large = spec(width=640, heads=10, kv_heads=10)
assert choose_mesh("", large).size == choose_mesh("data=1", large).size == pack_mesh(large.model, 2).size == 1
try:
    choose_mesh("data=2", large)
except BadInput as refusal:
    print(refusal)

one = spec()
params = jax.device_get(init(one.model, jax.random.key(0)))
batch_BT = np.random.default_rng(0).integers(0, 256, (2, 1025)).astype(np.int32)

def gradient(mesh):
    with jax.set_mesh(mesh):
        everywhere, rows = sharding.everywhere(mesh), sharding.batch_sharding(mesh)
        loss = lambda params, x: objective(one.model, params, x[:, :-1], x[:, 1:], 0.0)[0]
        program = jax.jit(jax.value_and_grad(loss), in_shardings=(everywhere, rows))
        return jax.tree.leaves(jax.device_get(program(params, batch_BT)))

assert choose_mesh("", one).size == pack_mesh(one.model, 2).size == 2
for alone, shared in zip(gradient(choose_mesh("data=1", one)), gradient(choose_mesh("", one)), strict=True):
    assert np.abs(alone - shared).max() < 1e-4 * np.abs(alone).max()
print("equal")
"""


def test_the_largest_model_that_shares_a_process_has_the_gradient_of_one_device():
    done = run_launch([sys.executable, "-c", TWO_DEVICES], env={**os.environ, "XLA_FLAGS": ""})
    assert done.returncode == 0, done.stderr
    refusal, last = done.stdout.splitlines()
    assert refusal.startswith("--mesh=data=2: this model has products of more than 3072 rows")
    assert last == "equal"
