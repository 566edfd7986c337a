"""Which mesh a run gets: by size of its state, devices, and what divides."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from model.ledger import parameter_counts
from training.processes.mesh import shape_for

SMALL = ModelConfig(vocabulary=256, width=64, depth=2, heads=4, kv_heads=4)
GIB = 2**30
# 7.2 billion parameters: 16 bytes each are 107 GiB of state.
LARGE = ModelConfig(vocabulary=32_000, width=4096, depth=35, heads=32, kv_heads=32)


def test_a_state_that_fits_is_copied_to_every_device():
    assert shape_for(SMALL, 64, 8, memory_bytes=80 * GIB) == (8, 1, 1)


def test_a_batch_that_does_not_divide_leaves_devices_out():
    assert shape_for(SMALL, 12, 8, memory_bytes=80 * GIB) == (6, 1, 1)
    assert shape_for(SMALL, 12, 8, memory_bytes=80 * GIB, use_all=True) == (4, 1, 2)


def test_a_state_that_does_not_fit_is_cut_as_little_as_makes_it_fit():
    assert 100 * GIB < 16 * parameter_counts(LARGE)["total"] < 120 * GIB
    assert shape_for(LARGE, 64, 8, memory_bytes=80 * GIB) == (2, 4, 1)
    assert shape_for(LARGE, 64, 64, memory_bytes=80 * GIB) == (16, 4, 1)
    assert shape_for(LARGE, 64, 8, memory_bytes=30 * GIB) == (1, 8, 1)


def test_tensor_is_for_batches_too_small_for_fsdp_and_stays_in_a_host():
    assert shape_for(LARGE, 2, 8, memory_bytes=30 * GIB) == (1, 2, 4)
    assert shape_for(LARGE, 2, 8, memory_bytes=30 * GIB, local_devices=2) == (1, 2, 2)


def test_no_shape_at_all_is_none():
    odd = ModelConfig(vocabulary=255, width=63, depth=2, heads=3, kv_heads=3, head_width=8, ff_width=9)
    assert shape_for(odd, 3, 8, use_all=True) is None


@given(
    sequences=st.integers(1, 64),
    devices=st.integers(1, 16),
    heads=st.sampled_from([1, 2, 3, 4, 8]),
    memory=st.sampled_from([1e5, 1e6, 1e7, math.inf]),
)
def test_the_rule_finds_the_best_of_all_shapes(sequences, devices, heads, memory):
    config = ModelConfig(
        vocabulary=96, width=48, depth=2, heads=heads, kv_heads=heads, head_width=4, ff_width=144
    )
    shape = shape_for(config, sequences, devices, memory_bytes=memory)
    assert shape is not None
    data, fsdp, tensor = shape
    assert data * fsdp * tensor <= devices
    assert sequences % (data * fsdp) == 0
    assert 48 % fsdp == 0 and heads % tensor == 0 and 96 % tensor == 0
    state = 16 * parameter_counts(config)["total"]
    possible = [
        (f, t)
        for f, t in itertools.product(range(1, devices + 1), repeat=2)
        if f * t <= devices and sequences % f == 0 and 48 % f == 0 and heads % t == 0 and 96 % t == 0
    ]
    least = min(state / (f * t) for f, t in possible)
    if least <= memory / 2:
        assert state / (fsdp * tensor) <= memory / 2
    else:
        assert state / (fsdp * tensor) == pytest.approx(least)
    if state <= memory / 2:
        assert (fsdp, tensor) == (1, 1)
        assert data == max(d for d in range(1, devices + 1) if sequences % d == 0)
