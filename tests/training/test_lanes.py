"""The lanes of a pack: what is in one never reaches another, and one that waits or diverges stays as it was."""

import jax
import numpy as np

from model.config import ModelConfig
from training.lanes import Placed
from training.pack_step import empty_lanes, make_pack_step, pack_mesh, put_lane, take_lane
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization

MODEL = ModelConfig(width=16, depth=1, heads=1, kv_heads=1, scan=False)


def test_the_state_of_a_diverging_member_is_frozen_and_reaches_no_other_lane():
    mesh = pack_mesh(MODEL, 3)
    step = make_pack_step(Program(MODEL), mesh)
    initialize, target = make_initialization(MODEL, mesh)
    batch_MBT = np.random.default_rng(0).integers(0, 256, (3, 8, 33)).astype(np.int32)

    def two_steps(rate: float):
        state = empty_lanes(target, 3, mesh)
        for lane in range(3):
            state = put_lane(state, lane, initialize(np.uint32(lane)), mesh)
        hyper = {key: np.full(3, value, np.float32) for key, value in hyperparameters(OptimConfig()).items()}
        hyper["learning_rate"] = np.array([1e-2, rate, 1e-2], np.float32)
        history = []
        for _ in range(4):
            state, metrics = step(state, batch_MBT, hyper, np.ones(3, bool))
            history.append((jax.device_get(state), jax.device_get(metrics)))
        return history

    calm, wild = two_steps(1e-2), two_steps(np.inf)
    assert not np.isfinite(wild[1][1]["loss"][1])
    for (state, _), (other, metrics) in zip(calm, wild, strict=True):
        for lane in (0, 2):
            mine, its = jax.tree.leaves(take(state, lane)), jax.tree.leaves(take(other, lane))
            assert all((a == b).all() for a, b in zip(mine, its, strict=True))
            assert np.isfinite(metrics["loss"][lane])
    (after_first, _), (after_last, _) = wild[0], wild[-1]
    frozen, last = jax.tree.leaves(take(after_first, 1)), jax.tree.leaves(take(after_last, 1))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(frozen, last, strict=True))
    assert int(after_last.step[1]) == 1
    assert int(after_last.step[0]) == 4


def take(state, lane: int):
    return jax.tree.map(lambda leaf: leaf[lane], state)


def test_a_lane_that_waits_does_not_move_and_comes_back_as_it_was_put():
    mesh = pack_mesh(MODEL, 2)
    initialize, target = make_initialization(MODEL, mesh)
    state = empty_lanes(target, 2, mesh)
    for lane in range(2):
        state = put_lane(state, lane, initialize(np.uint32(lane)), mesh)
    hyper = {key: np.full(2, value, np.float32) for key, value in hyperparameters(OptimConfig()).items()}
    hyper["learning_rate"] = np.full(2, 1e-2, np.float32)
    batch_MBT = np.zeros((2, 8, 33), np.int32)
    state, _ = make_pack_step(Program(MODEL), mesh)(state, batch_MBT, hyper, np.array([True, False]))
    moved, waited = (
        all(
            np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(take_lane(state, lane, target)),
                jax.tree.leaves(initialize(np.uint32(lane))),
                strict=True,
            )
        )
        for lane in range(2)
    )
    assert waited
    assert not moved


def test_a_number_that_stays_is_sent_to_the_devices_once():
    sent = []
    placed = Placed(lambda number: sent.append(number) or jax.numpy.asarray(number))
    for step in range(10):
        found = placed({"beta1": 0.9, "epsilon": 1e-8, "learning_rate": 1e-3 * step})
        assert float(found["learning_rate"]) == np.float32(1e-3 * step)
        assert float(found["beta1"]) == np.float32(0.9)
    assert len(sent) == 2 + 10
    for rates in ([1.0, 2.0], [1.0, 2.0], [1.0, 3.0]):
        assert np.array_equal(placed({"learning_rate": rates})["learning_rate"], np.float32(rates))
    assert len(sent) == 2 + 10 + 2
