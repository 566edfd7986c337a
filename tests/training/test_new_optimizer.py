"""An optimizer is one new file: it trains, resumes to the same bits, packs and is cut over devices."""

import pytest

from core.codec import from_json
from tests.support.dropped import assert_trains_resumes_and_packs, call, small_run, train_everywhere, write_copy
from training.spec import RunSpec

pytestmark = pytest.mark.slow

# Momentum (Polyak 1964) as a stranger would add it.
MOMENTUM = '''
"""Stochastic gradient descent with momentum."""

import optax


def hyperparameters(optim):
    return {"momentum": optim.beta1}


def transformation(hyper, config, decay_all):
    return optax.trace(decay=hyper["momentum"])
'''

# The state of each matrix is a row and a column, and not of the matrix's shape (Shazeer and Stern 2018).
FACTORED = '''
"""Gradients over a factored estimate of their root mean square."""

import optax


def hyperparameters(optim):
    return {}


def transformation(hyper, config, decay_all):
    return optax.scale_by_factored_rms(min_dim_size_to_factor=8)
'''

SHARDINGS = """
import json, jax
from model.config import ModelConfig
from model.sharding import make_mesh
from training.step import abstract_state
mesh = make_mesh((1, 2, 1), jax.devices())
state = abstract_state(ModelConfig(width=16, depth=1, heads=1, kv_heads=1), mesh, "momentum")
print(json.dumps([
    [str(leaf.sharding.spec) for leaf in jax.tree.leaves(tree)] for tree in (state.params, state.moments)
]))
"""

REFUSED = """
import json
from training.spec import OptimConfig
try:
    OptimConfig(name="adam")
except ValueError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def momentum(tmp_path_factory):
    return write_copy(tmp_path_factory.mktemp("momentum"), "training/optimizers/momentum.py", MOMENTUM)


def test_it_trains_resumes_to_the_same_bits_and_packs(momentum):
    optim = {"name": "momentum", "learning_rate": 0.3, "warmup_tokens": 1024}
    numbers = train_everywhere(momentum, optim=optim)
    assert_trains_resumes_and_packs(numbers)
    usual = from_json(RunSpec, small_run(momentum, optim={**optim, "name": "adamw"}))
    assert usual.run_id != numbers["whole"]["run"]


def test_its_state_lies_where_the_parameters_lie(momentum):
    params, moments = call(momentum, SHARDINGS)
    assert moments == params
    assert any("fsdp" in place for place in moments)


def test_an_unknown_name_is_refused_with_those_that_there_are(momentum):
    allowed = "adamw, lion, momentum, muon, schedule_free, sgd"
    assert call(momentum, REFUSED) == f"optim.name='adam': must be one of {allowed}"


def test_a_state_of_another_shape_than_the_parameters_trains_too(tmp_path):
    copy = write_copy(tmp_path, "training/optimizers/factored.py", FACTORED)
    optim = {"name": "factored", "learning_rate": 0.01, "warmup_tokens": 1024}
    assert_trains_resumes_and_packs(train_everywhere(copy, optim=optim), relative=1e-3)
