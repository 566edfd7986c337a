"""Mixtures of experts against the dense sum over the chosen ones in float64 NumPy, and against the dense network."""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.condition import _of_ledger
from core.errors import BadInput
from model import experts, sharding
from model.config import ModelConfig
from model.expert_rows import block_count, rows_a_token, rows_of_block
from model.initialize import init
from model.ledger import ledger
from model.parameters import layout, leaves
from tests.support.numpy_reference import activate, activate_backward
from training.objectives.next_token import loss
from training.processes.mesh import shape_asked
from training.program import Program
from training.spec import OptimConfig, RunSpec
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(
    architecture="mixture_of_experts", vocabulary=32, width=16, depth=2, experts=6, experts_per_token=2,
    expert_ff_width=12, shared_experts=1, router_z_loss=1e-2,
)  # fmt: skip
TOKENS_BS = np.random.default_rng(0).integers(0, 32, (4, 17)).astype(np.int32)


def dense_sum(config, x_ND, chosen_NJ, weight_NJ, up, down, gate, d_ND):
    """Each token through its experts one by one, float64: the sum, and the gradients of sum(d * result)."""
    y, dx, dw = np.zeros_like(x_ND), np.zeros_like(x_ND), np.zeros_like(weight_NJ)
    d_up, d_down, d_gate = (np.zeros_like(one) if one is not None else None for one in (up, down, gate))
    for n, x in enumerate(x_ND):
        for j, e in enumerate(chosen_NJ[n]):
            u, g = x @ up[e], None if gate is None else x @ gate[e]
            hidden = activate(config, u, g)
            out = hidden @ down[e]
            y[n] += weight_NJ[n, j] * out
            dw[n, j] = d_ND[n] @ out
            d_out = weight_NJ[n, j] * d_ND[n]
            d_down[e] += np.outer(hidden, d_out)
            d_u, d_g = activate_backward(config, u, g, down[e] @ d_out)
            d_up[e] += np.outer(x, d_u)
            dx[n] += up[e] @ d_u
            if gate is not None:
                d_gate[e] += np.outer(x, d_g)
                dx[n] += gate[e] @ d_g
    return y, [one for one in (dx, dw, d_up, d_down, d_gate) if one is not None]


@pytest.mark.parametrize(
    ("activation", "count", "met", "tokens"), [("swiglu", 6, 2, 90), ("gelu", 5, 3, 40), ("swiglu", 3, 1, 400)]
)
def test_the_dense_sum_over_chosen_experts_and_its_gradients(activation, count, met, tokens):
    config = ModelConfig(activation=activation)
    rng = np.random.default_rng(met)
    x, d = rng.normal(size=(2, tokens, 10))
    # The last expert is chosen by nobody, the first by many.
    chosen = np.array([rng.permutation(max(met, count - 1))[:met] for _ in range(tokens)])
    chosen[: tokens // 2, 0] = np.where((chosen[: tokens // 2, 1:] == 0).any(1), chosen[: tokens // 2, 0], 0)
    weight = rng.uniform(0.1, 1, (tokens, met))
    up, gate = rng.normal(size=(2, count, 10, 7)) / np.sqrt(10)
    down = rng.normal(size=(count, 7, 10)) / np.sqrt(7)
    gate = gate if activation == "swiglu" else None
    want, gradients = dense_sum(config, x, chosen, weight, up, down, gate, d)

    def computed(x, weight, up, down, gate=None):
        y, placed = experts.feed_forward(x, jnp.asarray(chosen, jnp.int32), weight, up, down, gate)
        return jnp.sum(y * d.astype(np.float32)), (y, placed)

    given_ = [one.astype(np.float32) for one in (x, weight, up, down, gate) if one is not None]
    program = jax.jit(jax.value_and_grad(computed, argnums=range(len(given_)), has_aux=True))
    (_, (y, placed)), found = program(*given_)
    assert placed.all()  # nothing is dropped
    for mine, its in zip((y, *found), (want, *gradients), strict=True):
        assert np.abs(mine - its).max() < 1e-6 * np.abs(its).max()


@given(
    tokens=st.integers(1, 80), count=st.integers(1, 40), met=st.integers(1, 4), seed=st.integers(0, 9),
    skew=st.sampled_from([0.0, 1.0, 9.0]),
)  # fmt: skip
@settings(max_examples=6, deadline=None)
def test_every_choice_has_a_row_of_its_own_in_a_block_of_its_expert(tokens, count, met, seed, skew):
    met = min(met, count)
    scores = np.random.default_rng(seed).normal(size=(tokens, count)) + skew * (np.arange(count) == 0)
    chosen_NJ = np.argsort(-scores, axis=1)[:, :met].astype(np.int32)
    where = jax.tree.map(np.asarray, experts.places(jnp.asarray(chosen_NJ), count))
    rows = rows_of_block(chosen_NJ.size, count)
    assert len(where.choice_R) == rows * len(where.expert_P) == rows * block_count(chosen_NJ.size, count, rows)
    assert len(set(where.row_NJ.ravel())) == chosen_NJ.size
    assert (where.choice_R[where.row_NJ].ravel() == np.arange(chosen_NJ.size)).all()
    assert (where.expert_P[where.row_NJ // rows] == chosen_NJ).all()
    assert (where.choice_R < chosen_NJ.size).sum() == chosen_NJ.size


def test_router_penalties_and_logged_numbers():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(50, 6))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = np.argsort(-share, axis=1)[:, :2]
    routes = experts.route(jnp.asarray(logits, jnp.float32), 2)
    assert (np.asarray(routes.chosen_NJ) == chosen).all()
    top = np.take_along_axis(share, chosen, 1)
    assert np.allclose(routes.weight_NJ, top / top.sum(1, keepdims=True), atol=1e-6)
    single = experts.route(jnp.asarray(logits, jnp.float32), 1)  # else nothing would train the router
    assert np.allclose(single.weight_NJ, top[:, :1], atol=1e-6)
    found = experts.extras_of(dataclasses.replace(SMALL, balance_weight=0.5), routes, jnp.ones((50, 2), bool))
    load = np.bincount(chosen.ravel(), minlength=6)
    want = {
        "router_z": np.mean(np.log(np.exp(logits).sum(1)) ** 2),
        "balance": 6 * np.sum(load / 100 * share.mean(0)),
        "load_entropy": -np.sum(load / 100 * np.log(load / 100)) / math.log(6),
        "load_largest": 6 * load.max() / 100,
        "dropped_share": 0.0,
    }
    assert {name: float(value) for name, value in found.logged.items()} == pytest.approx(want, rel=1e-5)
    assert float(found.penalty) == pytest.approx(1e-2 * want["router_z"] + 0.5 * want["balance"], rel=1e-5)
    assert (np.asarray(found.kept["load"]) == load).all()
    # A bias decides who is chosen, never with which weight.
    biased = experts.route(jnp.asarray(logits, jnp.float32), 2, jnp.asarray([9.0, 8, 0, 0, 0, 0]))
    assert (np.sort(biased.chosen_NJ, axis=1) == [0, 1]).all()
    assert np.allclose(biased.weight_NJ.sum(1), 1) and biased.weight_NJ.max() < 1


# Without LLVM's optimizations: the same operations, compiled in a third of the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def objective(config, params, tokens_BS=TOKENS_BS):
    return jax.value_and_grad(lambda params: loss(config, params, tokens_BS, {"z_loss": 0.0}), has_aux=True)(
        params
    )


def worst(mine, its):
    """The largest error of an array, relative to its norm."""
    return max(
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(its), strict=True)
    )


@pytest.mark.long
def test_the_same_in_a_scan_with_remat_in_a_pack_and_near_it_in_bfloat16():
    params = [init(SMALL, jax.random.key(seed)) for seed in range(2)]
    alone = [quick_jit(lambda params: objective(SMALL, params))(one) for one in params]
    for changes in ({"scan": False, "remat": "dots"}, {"remat": "block"}):
        other = dataclasses.replace(SMALL, **changes)
        assert (
            worst(quick_jit(lambda params, other=other: objective(other, params))(params[0]), alone[0]) < 1e-5
        )
    stacked = jax.tree.map(lambda *both: jnp.stack(both), *params)
    pack = quick_jit(jax.vmap(lambda params: objective(SMALL, params)))(stacked)
    for member in range(2):
        assert worst(jax.tree.map(lambda leaf, member=member: leaf[member], pack), alone[member]) < 1e-5
    half = dataclasses.replace(SMALL, compute_dtype="bfloat16")
    (_, metrics), _ = quick_jit(lambda params: objective(half, params))(params[0])
    assert float(metrics["loss"]) == pytest.approx(float(alone[0][0][1]["loss"]), rel=0.02)


@pytest.mark.slow
def test_one_expert_is_the_dense_network_to_the_last_bit():
    dense = ModelConfig(vocabulary=32, width=16, depth=2)
    single = dataclasses.replace(dense, architecture="mixture_of_experts", experts=1)
    assert ledger(single, 16) == ledger(dense, 16)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    hyper = {**hyperparameters(OptimConfig()), "learning_rate": 1e-2}
    states = []
    for config in (dense, single):
        state = make_initialization(config, mesh)[0](np.uint32(0))
        with jax.set_mesh(mesh):
            for _ in range(3):
                state, metrics = make_train_step(Program(config), mesh)(state, TOKENS_BS, hyper)
        states.append((state.params, metrics))
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    assert all(map(np.array_equal, jax.tree.leaves(states[0]), jax.tree.leaves(states[1])))


@pytest.mark.long
def test_a_bias_moves_against_the_load_and_evens_it_out():
    config = dataclasses.replace(SMALL, balance="bias", balance_weight=0.02, depth=1, shared_experts=0)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    hyper = {**hyperparameters(OptimConfig()), "learning_rate": 1e-3}
    state = make_initialization(config, mesh)[0](np.uint32(0))
    load = objective(config, state.params)[0][1]["kept"]["load"]
    step = make_train_step(Program(config, microbatches=2), mesh)
    largest = []
    with jax.set_mesh(mesh):
        for number in range(40):
            state, metrics = step(state, TOKENS_BS, hyper)
            assert "kept" not in metrics
            largest.append(float(metrics["load_largest"]))
            if number == 0:
                want = 0.02 * np.sign(load.mean() - load)
                assert np.allclose(state.params["blocks"]["router_bias"], want, atol=1e-7)
    assert np.mean(largest[-10:]) < 1.0 + 0.6 * (largest[0] - 1)


@pytest.mark.slow
def test_counts_are_those_of_the_tree_and_of_the_compiler():
    config = dataclasses.replace(SMALL, width=64, expert_ff_width=96, experts=8, scan=False)
    found = ledger(config, 32)
    one_expert, depth = 3 * 64 * 96, 2
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found["params"]["total"] == total
    assert found["params"]["active"] == total - depth * 6 * one_expert
    assert (
        found["params"]["non_embedding_plus_head"] == total - depth * 6 * one_expert
    )  # tied: the table is the head
    block = 4 * 64 * 64 + 64 * 8 + (2 + 1) * one_expert  # attention, router, two chosen and a shared one
    weights = depth * block + 32 * 64
    assert found["flops_per_token"]["palm"] == 6 * weights + 12 * depth * 64 * 32
    assert found["flops_per_token"]["6N_total"] == 6 * found["params"]["active"]
    assert not any("6N" in str(note) for note in _of_ledger(found, {}))  # readers do not take it for damaged
    assert sum(leaf.active for leaf in leaves(layout(config))) == found["params"]["active"]
    # The compiler counts the rows that fill up blocks as well, all of attention, and a little element-wise work.
    tokens = np.zeros((8, 33), np.int32)
    forward = jax.jit(lambda params: loss(config, params, tokens, {"z_loss": 0.0})[0])
    counted = forward.lower(params).compile().cost_analysis()["flops"] / (8 * 32)
    padding = depth * (rows_a_token(config, 8 * 32) - 2) * one_expert
    known = found["flops_per_token"]["palm"] / 3 + 2 * padding
    assert 0.95 < counted / known < 1.15


MESHES = ((1, 1, 1, 8), (2, 1, 1, 4), (2, 1, 2, 2), (1, 2, 1, 4))


@pytest.mark.long
def test_an_expert_axis_of_eight_devices_equals_one():
    """Losses and gradients to float tolerance. Exact is who is chosen."""
    program = f"from tests.model.test_experts import *; print(json.dumps(on_meshes({MESHES})))"
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for shape, (error, held, loads_equal) in zip(MESHES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert error < 1e-5
        assert held == 1 / (shape[1] * shape[2] * shape[3])
        assert loads_equal


def on_meshes(shapes):
    config = dataclasses.replace(SMALL, experts=8)
    params = init(config, jax.random.key(0))
    tokens_BS = np.random.default_rng(0).integers(0, 32, (8, 17)).astype(np.int32)
    alone = jax.tree.map(np.asarray, jax.jit(lambda params: objective(config, params, tokens_BS))(params))
    found = []
    for shape in shapes:
        mesh = sharding.make_mesh(shape)
        places = sharding.parameter_shardings(config, mesh)
        placed = jax.device_put(params, places)
        with jax.set_mesh(mesh):
            batch = jax.device_put(tokens_BS, sharding.batch_sharding(mesh))
            got = jax.jit(lambda params, batch: objective(config, params, batch))(placed, batch)
        got = jax.tree.map(np.asarray, got)
        up = placed["blocks"]["experts_up"]
        held = up.addressable_shards[0].data.size / up.size
        loads = np.array_equal(got[0][1]["kept"]["load"], alone[0][1]["kept"]["load"])
        found.append((worst(got, alone), held, bool(loads)))
    return found


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architecture": "decoder"}, "model.experts=6: model.architecture=decoder has no such setting"),
        ({"experts_per_token": 7}, "model.experts_per_token=7: must be at most model.experts=6"),
        (
            {"balance": "none", "balance_weight": 0.1},
            "model.balance_weight=0.1: model.balance=none has no weight",
        ),
        ({"balance": "even"}, "model.balance='even': must be one of auxiliary, bias, none"),
        ({"experts": -1}, "model.experts=-1: must be at least 1, or 0 for 8"),
        ({"router_z_loss": 2.0}, "model.router_z_loss=2.0: must be between"),
        ({"parametrization": "mup"}, "model.parametrization=mup: how model.architecture=mixture_of_experts"),
    ],
)
def test_bad_settings_are_refused_by_name(fields, said):
    with pytest.raises(BadInput) as refused:
        dataclasses.replace(SMALL, **fields)
    assert str(refused.value).startswith(said)


def test_refusals_of_a_run():
    with pytest.raises(BadInput, match=r"^--mesh=expert=2: model.architecture=decoder has no experts"):
        shape_asked("expert=2", RunSpec())
    with pytest.raises(BadInput, match=r"^model.experts=6: must be a multiple of the mesh's expert=4"):
        shape_asked("expert=4", RunSpec(model=SMALL))
    assert shape_asked("expert=2", RunSpec(model=SMALL)) == (1, 1, 1, 2)
    with pytest.raises(BadInput, match=r"^model.balance=bias: moves after every step"):
        RunSpec(
            model=dataclasses.replace(SMALL, balance="bias"),
            optim=OptimConfig(name="schedule_free", schedule="constant"),
        )
