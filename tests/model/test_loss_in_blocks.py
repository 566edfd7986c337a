"""The loss in blocks against float64 NumPy, its memory, and the rule of size that uses it."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from model.initialize import init
from model.kernels import choose, loss_in_blocks
from tests.support import network, numpy_reference

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def numpy_sums(softcap, x, table, targets, z_loss):
    """sum nll + z_loss logz^2 and its derivatives by hand, in float64."""
    x, table = np.asarray(x, np.float64), np.asarray(table, np.float64)
    logits = x @ table.T
    capped = softcap * np.tanh(logits / softcap) if softcap else logits
    logz = np.log(np.exp(capped).sum(-1))
    hot = np.eye(table.shape[0])[targets]
    nll = logz - (capped * hot).sum(-1)
    d_logits = np.exp(capped - logz[..., None]) * (1 + 2 * z_loss * logz)[..., None] - hot
    if softcap:
        d_logits *= 1 / np.cosh(logits / softcap) ** 2
    d_table = np.einsum("btv,btd->vd", d_logits, x)
    return nll.sum() + z_loss * (logz**2).sum(), nll, logz, d_logits @ table, d_table


@pytest.mark.parametrize(
    ("batch", "length", "positions", "softcap", "z_loss"),
    [(2, 9, 4, 0.0, 0.3), (3, 8, 1, 1.5, 0.3), (1, 5, 5, 1.5, 0.0), (2, 4, 9, 0.0, 0.0)],
)
def test_sums_and_gradients_equal_float64_numpy(batch, length, positions, softcap, z_loss):
    generator = np.random.default_rng(length)
    x = generator.normal(size=(batch, length, 5)).astype(np.float32)
    table = generator.normal(size=(11, 5)).astype(np.float32)
    targets = generator.integers(0, 11, (batch, length)).astype(np.int32)
    want, _, want_logz, want_dx, want_dtable = numpy_sums(softcap, x, table, targets, z_loss)

    def total(x, table, z_loss):
        return 0.5 * loss_in_blocks.sums(softcap, positions, x, table, targets, z_loss)[0]

    value, gradients = jax.value_and_grad(total, argnums=(0, 1, 2))(x, table, jnp.float32(z_loss))
    np.testing.assert_allclose(2 * value, want, rtol=1e-5)
    np.testing.assert_allclose(2 * gradients[0], want_dx, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(2 * gradients[1], want_dtable, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(2 * gradients[2], (want_logz**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_token_losses_and_their_gradients_equal_float64_numpy(softcap):
    generator = np.random.default_rng(2)
    x = generator.normal(size=(2, 9, 5)).astype(np.float32)
    table = generator.normal(size=(11, 5)).astype(np.float32)
    targets = generator.integers(0, 11, (2, 9)).astype(np.int32)
    _, want_nll, want_logz, want_dx, want_dtable = numpy_sums(softcap, x, table, targets, 0.0)
    losses = functools.partial(loss_in_blocks.token_losses, softcap=softcap, positions=4)
    nll, logz = losses(x, table, targets)
    np.testing.assert_allclose(nll, want_nll, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logz, want_logz, rtol=1e-4, atol=1e-5)
    dx, dtable = jax.grad(lambda x, table: jnp.sum(losses(x, table, targets)[0]), argnums=(0, 1))(x, table)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(dtable, want_dtable, rtol=1e-4, atol=2e-5)


def small_limit(monkeypatch, limit):
    monkeypatch.setattr(choose, "LARGEST_LOGITS", limit)


@pytest.mark.parametrize("layout", ["token-major", "feature-major"])
def test_the_network_with_blocks_equals_float64_numpy(monkeypatch, layout):
    config = ModelConfig(vocabulary=37, width=24, depth=1, heads=2, kv_heads=1, tied=False, logit_softcap=1.5)
    small_limit(monkeypatch, 37 * 2 * 4)  # 9 positions as 3, 3, 3
    params = init(config, jax.random.key(0))
    tokens = np.random.default_rng(1).integers(0, 37, (2, 10)).astype(np.int32)
    want_loss, want_nll, _, want = numpy_reference.loss_and_gradients(
        config, params, tokens[:, :-1], tokens[:, 1:], 0.05
    )

    def objective(params):
        return network.objective(config, params, tokens[:, :-1], tokens[:, 1:], 0.05, layout)

    text = str(jax.make_jaxpr(jax.grad(lambda p: objective(p)[0]))(params))
    assert "f32[2,3,37]" in text and "f32[2,9,37]" not in text
    (value, loss), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    assert float(value) == pytest.approx(want_loss, rel=1e-5)
    assert float(loss) == pytest.approx(want_nll.mean(), rel=1e-5)
    for mine, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(want), strict=True):
        assert np.linalg.norm(mine - theirs) / np.linalg.norm(theirs) < 1e-5
    nll, _ = network.token_losses(config, params, tokens[:, :-1], tokens[:, 1:], layout)
    np.testing.assert_allclose(nll, want_nll, rtol=1e-4, atol=1e-5)


def test_compiled_memory_falls_by_the_logits(monkeypatch):
    config = ModelConfig(vocabulary=8192, width=16, depth=1, heads=1, kv_heads=1)
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    batch = jax.ShapeDtypeStruct((4, 257), jnp.int32)

    def scratch_bytes():
        def gradient(params, batch):
            loss = functools.partial(network.objective, config, z_loss=1e-4, layout="token-major")
            return jax.grad(lambda p: loss(p, batch[:, :-1], batch[:, 1:])[0])(params)

        return jax.jit(gradient).lower(params, batch).compile().memory_analysis().temp_size_in_bytes

    whole = scratch_bytes()
    small_limit(monkeypatch, 2**18)  # 8 positions at once
    in_blocks = scratch_bytes()
    logits = 4 * 256 * 8192 * 4
    assert whole > logits
    assert in_blocks < logits / 4


@given(vocabulary=st.integers(1, 300_000), sequences=st.integers(1, 4096), length=st.integers(1, 8192))
def test_blocks_stay_below_the_limit_and_are_the_fewest(vocabulary, sequences, length):
    positions = choose.loss_positions(vocabulary, sequences, length)
    assert 1 <= positions <= length
    assert positions == 1 or positions * sequences * vocabulary <= choose.LARGEST_LOGITS
    blocks = -(-length // positions)
    if blocks > 1:
        fewer = -(-length // (blocks - 1))
        assert fewer * sequences * vocabulary > choose.LARGEST_LOGITS


def test_the_rule_says_its_size():
    assert choose.loss(256, 32, 128).name == "whole"
    choice = choose.loss(50_304, 16, 2048)
    assert choice.name == "blocks of 82 positions"
    assert "1,648,361,472 logits" in choice.reason


PROGRAM = """
import json, sys
import jax, numpy as np
from model import sharding
from model.config import ModelConfig
from model.initialize import init
from tests.support import network
from model.kernels import choose
config = ModelConfig(vocabulary=64, width=16, depth=1, heads=2, kv_heads=2, tied=False)
tokens = np.random.default_rng(0).integers(0, 64, (8, 17)).astype(np.int32)
params = init(config, jax.random.key(0))
def objective(params, batch):
    return network.objective(config, params, batch[:, :-1], batch[:, 1:], 1e-2)
step = jax.value_and_grad(objective, has_aux=True)
single = jax.tree.map(np.asarray, jax.jit(step)(params, tokens))
choose.LARGEST_LOGITS = 64 * 4
answer, place = {}, jax.sharding.PartitionSpec("data")
def off(result):
    errors = jax.tree.map(lambda a, b: float(np.linalg.norm(a - b) / np.linalg.norm(b)), result, single)
    return max(jax.tree.leaves(errors))
for shape in ((8, 1, 1), (1, 4, 2), (2, 2, 2)):
    mesh = sharding.make_mesh(shape)
    places = sharding.parameter_shardings(config, mesh)
    with jax.set_mesh(mesh):
        compiled = jax.jit(step, in_shardings=(places, sharding.batch_sharding(mesh)),
                           out_shardings=(None, places)).lower(params, tokens).compile()
        result = compiled(jax.device_put(params, places), jax.device_put(tokens, sharding.batch_sharding(mesh)))
    answer[str(shape)] = off(result)
# A pack: each device has a member of its own.
each = lambda tree: jax.tree.map(lambda leaf: np.stack([leaf] * 8), tree)
mesh = sharding.make_mesh((8, 1, 1))
pack = jax.shard_map(jax.vmap(step), mesh=mesh, in_specs=place, out_specs=place, check_vma=False)
members = jax.jit(pack)(each(params), each(tokens))
answer["pack"] = max(off(jax.tree.map(lambda leaf: leaf[lane], members)) for lane in range(8))
print(json.dumps(answer))
"""


def test_blocks_on_meshes_equal_one_device():
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    errors = json.loads(finished.stdout.splitlines()[-1])
    assert len(errors) == 4
    assert max(errors.values()) < 1e-5, errors
