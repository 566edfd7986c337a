"""The optimizer step against a float64 NumPy AdamW, accumulation against one batch, decay masks."""

import dataclasses

import jax
import numpy as np
import pytest

from model.config import ModelConfig
from model.sharding import make_mesh
from training.objectives import next_token
from training.optimizers import decay_mask
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters, initial_state
from training.step import make_evaluation_step, make_initialization, make_train_step

CONFIG = ModelConfig(vocabulary=32, width=16, depth=2, heads=2, kv_heads=1, tied=False, scan=False)
OPTIM = OptimConfig(learning_rate=1e-2, weight_decay=0.3, clip_norm=0.5, z_loss=1e-3)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh((1, 1, 1), jax.devices()[:1])


def batches(count: int, sequences: int = 8) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 32, (sequences, 17)).astype(np.int32) for _ in range(count)]


def numpy_adamw(params, gradients, moments, step, optim, decays):
    """Kingma & Ba 2015, algorithm 1, with decoupled decay and global-norm clipping, in float64."""
    norm = np.sqrt(sum(float((g**2).sum()) for g in gradients))
    scale = min(1.0, optim.clip_norm / norm)
    updated = []
    for index, (p, g, decay) in enumerate(zip(params, gradients, decays, strict=True)):
        g = g * scale
        m, v = moments[index]
        m = optim.beta1 * m + (1 - optim.beta1) * g
        v = optim.beta2 * v + (1 - optim.beta2) * g * g
        moments[index] = (m, v)
        hat_m, hat_v = m / (1 - optim.beta1**step), v / (1 - optim.beta2**step)
        direction = hat_m / (np.sqrt(hat_v) + optim.epsilon) + (optim.weight_decay * p if decay else 0.0)
        updated.append(p - optim.learning_rate * direction)
    return updated, norm


def test_ten_steps_equal_a_float64_adamw(mesh):
    initialize, _ = make_initialization(CONFIG, mesh)
    step = make_train_step(Program(CONFIG), mesh)
    gradient = jax.jit(jax.grad(lambda p, b: next_token.loss(CONFIG, p, b, {"z_loss": OPTIM.z_loss})[0]))
    hyper = {**hyperparameters(OPTIM), "learning_rate": OPTIM.learning_rate}
    with jax.set_mesh(mesh):
        state = initialize(np.uint32(3))
        leaves, tree = jax.tree.flatten(state.params)
        ours = [np.asarray(leaf, np.float64) for leaf in leaves]
        decays = jax.tree.leaves(decay_mask(CONFIG, False))
        moments = [(np.zeros_like(p), np.zeros_like(p)) for p in ours]
        for number, batch in enumerate(batches(10), start=1):
            current = jax.tree.unflatten(tree, [p.astype(np.float32) for p in ours])
            grads = [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient(current, batch))]
            ours, norm = numpy_adamw(ours, grads, moments, number, OPTIM, decays)
            state, metrics = step(state, batch, hyper)
            assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-3)
        for mine, theirs in zip(ours, jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(np.asarray(theirs), mine, rtol=2e-3, atol=2e-4)
    assert int(state.step) == 10


def test_decay_spares_norms_and_embeddings_unless_asked():
    mask = decay_mask(CONFIG, False)
    assert mask["embedding"] is False
    assert mask["final_norm"] is False
    assert mask["blocks"]["attention_norm"] is False
    assert mask["blocks"]["query"] is True
    assert mask["head"] is True
    assert all(jax.tree.leaves(decay_mask(CONFIG, True)))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_equal_the_whole_batch(mesh, parts):
    hyper = {**hyperparameters(OPTIM), "learning_rate": 1e-2}
    initialize, _ = make_initialization(CONFIG, mesh)
    with jax.set_mesh(mesh):
        results = []
        for count in (1, parts):
            state = initialize(np.uint32(0))
            for batch in batches(3):
                state, metrics = make_train_step(Program(CONFIG, microbatches=count), mesh)(state, batch, hyper)
            results.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_runs_that_differ_in_numbers_only_share_one_program(mesh):
    step = make_train_step(Program(CONFIG), mesh)
    initialize, _ = make_initialization(CONFIG, mesh)
    with jax.set_mesh(mesh):
        for optim in (OPTIM, dataclasses.replace(OPTIM, weight_decay=0.0, clip_norm=0.0, beta2=0.99)):
            step(initialize(np.uint32(0)), batches(1)[0], {**hyperparameters(optim), "learning_rate": 0.1})
    assert step._cache_size() == 1
    assert make_train_step(Program(CONFIG), mesh) is step


def test_evaluation_sums_nats_of_weighted_targets(mesh):
    evaluation = make_evaluation_step(CONFIG, mesh)
    batch = batches(1)[0]
    weights = np.zeros((8, 16), np.float32)
    weights[0, :4] = 1.0
    with jax.set_mesh(mesh):
        params = initial_state(CONFIG, OPTIM, 0).params
        sums = np.asarray(evaluation(params, batch, weights))
        everything = np.asarray(evaluation(params, batch, np.ones((8, 16), np.float32)))
        mean = float(next_token.loss(CONFIG, params, batch, {"z_loss": 0.0})[1]["loss"])
    assert np.all(sums[1:] == 0)
    assert 0 < sums[0] < everything[0]
    assert everything.sum() / (8 * 16) == pytest.approx(mean, rel=1e-5)


def test_initialization_is_a_function_of_the_seed(mesh):
    initialize, _ = make_initialization(CONFIG, mesh)
    first, again, other = (initialize(np.uint32(seed)).params["blocks"]["query"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
