"""Bytes that a plan promises, against the arrays themselves and against what the compiler asks for."""

import jax
import numpy as np
import pytest

from experiments.scaling import ScalingRule
from model import sharding
from training.shape_bytes import estimate_bytes
from training.state import initial_state
from training.step import make_initialization, make_train_step

RULE = ScalingRule()


def test_state_bytes_are_those_of_the_arrays():
    spec = RULE.run(50_000, 65_536)
    state = jax.eval_shape(lambda: initial_state(spec.model, spec.optim, 0))
    arrays = [leaf for leaf in jax.tree.leaves((state.params, state.moments)) if leaf.ndim]
    assert estimate_bytes(spec).state == sum(leaf.size * 4 for leaf in arrays)


def test_the_estimate_is_within_a_factor_two_of_the_compiled_step():
    spec = RULE.run(0, 65_536, model=RULE.shape(48, 2))
    mesh = sharding.make_mesh((1, 1, 1))
    with jax.set_mesh(mesh):
        _, target = make_initialization(spec.model, mesh)
        batch_BT = jax.ShapeDtypeStruct((8, 129), np.int32)
        hyper = {
            name: 0.1
            for name in ("beta1", "beta2", "epsilon", "weight_decay", "clip_norm", "z_loss", "learning_rate")
        }
        step = make_train_step(spec.model, False, 1, mesh)
        analysis = step.lower(target, batch_BT, hyper).compile().memory_analysis()
    needed = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    assert needed / 2 < estimate_bytes(spec).total < needed * 2


@pytest.mark.parametrize(("field", "value"), [("remat", "block"), ("compute_dtype", "bfloat16")])
def test_what_saves_activations_lowers_the_estimate(field, value):
    import dataclasses

    spec = RULE.run(500_000, 65_536)
    saving = dataclasses.replace(spec, model=dataclasses.replace(spec.model, **{field: value}))
    assert estimate_bytes(saving).activations < estimate_bytes(spec).activations
    assert estimate_bytes(saving).state == estimate_bytes(spec).state
