"""Scanned layers: the program that is compiled does not grow with depth."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from model.config import ModelConfig
from model.sharding import make_mesh
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

CONFIG = ModelConfig(vocabulary=64, width=32, heads=2, kv_heads=2)


def operations(config: ModelConfig) -> int:
    """Lines of the step's program as it goes to the compiler, whose time follows them."""
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    _, state = make_initialization(config, mesh)
    batch_BT = jax.ShapeDtypeStruct((4, 33), jnp.int32)
    hyper = {**hyperparameters(OptimConfig()), "learning_rate": 1e-3}
    with jax.set_mesh(mesh):
        lowered = make_train_step(Program(config), mesh).lower(state, batch_BT, hyper)  # type: ignore[attr-defined]
    return len(lowered.as_text().splitlines())


@pytest.mark.parametrize("remat", ["none", "block", "dots"])
def test_sixteen_layers_are_the_program_of_two(remat):
    two, sixteen = (
        operations(dataclasses.replace(CONFIG, depth=depth, scan=True, remat=remat)) for depth in (2, 16)
    )
    assert sixteen == two


def test_unrolled_layers_are_not():
    two, four = (operations(dataclasses.replace(CONFIG, depth=depth, scan=False)) for depth in (2, 4))
    assert four > 1.4 * two
