"""Meshes of fake devices against one device, and the sharding table against the parameter tree."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from core.errors import BadInput
from model import sharding
from model.config import ModelConfig
from model.initialize import init
from model.parameters import each, layout

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_every_mesh_of_eight_devices_equals_one_device():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    finished = subprocess.run(
        [sys.executable, "-m", "tests.support.model_mesh_program"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    for name, worst in json.loads(finished.stdout.splitlines()[-1]).items():
        assert max(error for mesh, error in worst.items() if "share" not in mesh) < 1e-5, (name, worst)
        # What one device holds: everything under data parallelism, an eighth (gains apart) where all is cut.
        assert worst["share 8x1x1"] == 1
        assert worst["share 1x8x1"] < 0.14
        assert worst["share 1x1x8"] < 0.14
        assert 0.25 <= worst["share 2x2x2"] < 0.26


def test_logical_axes_name_every_axis_of_every_parameter():
    config = ModelConfig(tied=False, kv_heads=1)
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    axes = each(layout(config), lambda leaf: leaf.axes)
    named = jax.tree.map(lambda leaf, names: leaf.ndim == len(names), params, axes)
    assert all(jax.tree.leaves(named))
    used = set(jax.tree.leaves(axes))
    assert used <= set(sharding.RULES)


def test_constrain_without_a_mesh_is_the_same_array():
    x = jax.numpy.ones((2, 3, 4))
    assert sharding.constrain(x, ("batch", "position", "activation_width")) is x


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
    with pytest.raises(BadInput, match=r"mesh=\(3, 1, 1\): data x fsdp x tensor must be the number of devices"):
        sharding.make_mesh((3, 1, 1), devices=jax.devices()[:1])


def test_a_model_that_a_mesh_cannot_cut_is_refused():
    mesh: Any = jax.sharding.AbstractMesh((1, 1, 3), sharding.USUAL_AXES)
    with pytest.raises(BadInput, match=r"model.heads=2: must be a multiple of the mesh's tensor=3"):
        sharding.parameter_shardings(ModelConfig(), mesh)
