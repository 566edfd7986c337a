"""The rules that pick implementations, and the TPU kernel, interpreted here, against plain attention."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from model.kernels import choose, fused_attention
from model.kernels.choose import Device
from model.transformer import Attention

ROOT = Path(__file__).parents[2]
CPU, TPU = Device("cpu", "cpu"), Device("tpu", "TPU v5 lite")
HOPPER = Device("gpu", "NVIDIA H100 80GB HBM3", "9.0")
AMPERE = Device("gpu", "NVIDIA A100-SXM4-80GB", "8.0")
HALF = ModelConfig(width=512, heads=4, kv_heads=4, compute_dtype="bfloat16")  # K = 128


@pytest.mark.parametrize(
    ("config", "device", "length", "name", "words"),
    [
        (HALF, HOPPER, 2048, "cudnn", "head width 128"),
        (dataclasses.replace(HALF, head_width=256), HOPPER, 2048, "cudnn", "256"),
        (dataclasses.replace(HALF, head_width=256), AMPERE, 2048, "xla", "multiples of 8 up to 128, not 256"),
        (dataclasses.replace(HALF, head_width=12), HOPPER, 2048, "xla", "not 12"),
        (
            dataclasses.replace(HALF, compute_dtype="float32"),
            HOPPER,
            2048,
            "xla",
            "model.compute_dtype=bfloat16",
        ),
        (HALF, Device("gpu", "Tesla T4", "7.5"), 2048, "xla", "NVIDIA GPU, not Tesla T4"),
        (HALF, Device("gpu", "NVIDIA Tesla V100", "7.0"), 2048, "xla", "capability 8.0, not 7.0"),
        (HALF, Device("gpu", "AMD Instinct MI300X"), 2048, "xla", "not AMD Instinct MI300X"),
        (HALF, TPU, 2048, "splash", "Pallas"),
        (HALF, TPU, 200, "xla", "multiples of 128, not 200"),
        (HALF, CPU, 2048, "xla", "cpu has no fused kernel"),
        (dataclasses.replace(HALF, compute_dtype="float32"), CPU, 2048, "blocks", "CPU, float32"),
    ],
)
def test_attention_by_shape_and_device(config, device, length, name, words):
    choice = choose.attention(config, device, length)
    assert choice.name == name
    assert words in choice.reason


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 3000))
def test_heads_are_taken_in_equal_parts_that_fit_the_cache(heads, repeats, length):
    at_once = choose.heads_at_once(heads, repeats, length)
    assert heads % at_once == 0
    weights = choose.weights_of_block(repeats, length)
    assert weights == repeats * max((stop - start) * stop for start, stop in choose.query_blocks(length))
    assert at_once == 1 or at_once * weights <= choose.WEIGHTS_AT_ONCE
    larger = [count for count in range(at_once + 1, heads + 1) if heads % count == 0]
    assert all(count * weights > choose.WEIGHTS_AT_ONCE for count in larger)


def plain_attention(query, key, value, scale):
    """Causal softmax attention by its definition, float64, one head at a time."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.zeros(query.shape)
    for b, h in np.ndindex(query.shape[0], query.shape[2]):
        group = h * key.shape[2] // query.shape[2]
        scores = query[b, :, h] @ key[b, :, group].T * scale
        scores[np.triu_indices(len(scores), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[b, :, h] = weights / weights.sum(-1, keepdims=True) @ value[b, :, group]
    return out


def example(batch=1, length=128, heads=2, groups=1, width=16):
    generator = np.random.default_rng(0)
    shapes = ((batch, length, heads, width),) + ((batch, length, groups, width),) * 2
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def definition(query, key, value, scale):
    """`Attention.mix`, which reads nothing of its module."""
    return Attention.mix(None, query, key, value, scale)  # type: ignore[arg-type]


@pytest.mark.parametrize("attend", [functools.partial(fused_attention.splash, interpret=True), definition])
def test_kernels_equal_plain_attention(attend):
    query, key, value = example()
    np.testing.assert_allclose(
        attend(query, key, value, 0.3), plain_attention(query, key, value, 0.3), atol=2e-5
    )


def test_the_interpreted_kernel_has_the_gradients_of_plain_attention():
    arrays = example()
    direction = np.random.default_rng(1).normal(size=arrays[0].shape).astype(np.float32)

    def along(attend):
        return jax.jit(jax.grad(lambda arrays: (attend(*arrays) * direction).sum()))(tuple(arrays))

    mine = along(lambda q, k, v: fused_attention.splash(q, k, v, 0.3, interpret=True))
    theirs = along(lambda q, k, v: definition(q, k, v, 0.3))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


PROGRAM = """
import json
import jax, numpy as np
from model import sharding
from model.kernels import fused_attention
from tests.model.test_choose import example, plain_attention
arrays = example(batch=2, heads=4, groups=2)
mesh = sharding.make_mesh((2, 1, 2))
with jax.set_mesh(mesh):
    mixed = jax.jit(lambda *a: fused_attention.splash(*a, 0.3, interpret=True))(*arrays)
print(json.dumps(float(np.abs(np.asarray(mixed) - plain_attention(*arrays, 0.3)).max())))
"""


def test_the_kernel_on_a_mesh_works_on_its_own_sequences_and_heads():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert json.loads(finished.stdout.splitlines()[-1]) < 2e-5


def test_an_accelerator_without_its_kernel_says_so():
    single = dataclasses.replace(HALF, compute_dtype="float32")

    def said(config, device):
        return choose.slow(choose.attention(config, device, 2048), device, 2048)

    assert said(HALF, HOPPER) is None
    assert said(single, CPU) is None
    warning = said(single, HOPPER)
    assert warning is not None
    assert "2048 x 2048" in warning
    assert "model.compute_dtype=bfloat16" in warning
