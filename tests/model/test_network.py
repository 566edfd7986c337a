"""The network against float64 NumPy, against itself in another form, and against causality."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.config import ModelConfig
from model.initialize import init
from tests.support import network, numpy_reference

BASE = ModelConfig(vocabulary=37, width=24, depth=2, heads=4, kv_heads=2, head_width=6)
CONFIGS = {
    "grouped": BASE,
    "one_kv_head_wide_heads": dataclasses.replace(BASE, kv_heads=1, head_width=10),
    "untied": dataclasses.replace(BASE, tied=False),
    "gelu": dataclasses.replace(BASE, activation="gelu", kv_heads=4),
    "softcap": dataclasses.replace(BASE, logit_softcap=2.0),
    "no_qk_norm": dataclasses.replace(BASE, qk_norm=False),
    "unrolled": dataclasses.replace(BASE, scan=False),
    "remat": dataclasses.replace(BASE, remat="block"),
    "remat_dots": dataclasses.replace(BASE, remat="dots"),
    "everything": dataclasses.replace(
        BASE, tied=False, activation="gelu", logit_softcap=1.5, qk_norm=False, scan=False, remat="block"
    ),
}
WINDOWS = {  # of 9 positions: in windows of 4, by a mask, and all of them
    f"window_{size}": dataclasses.replace(BASE, architecture="sliding_window", window=size)
    for size in (4, 6, 9)
}
CONFIGS |= WINDOWS
Z_LOSS = 0.05  # large, so that an error in it shows


# Without LLVM's optimizations: the same operations, compiled in a third of the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def perturbed(config, seed=0):
    """Random parameters with gains away from one, where a lost gain would not show."""
    params = init(config, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def example(config, batch=2, length=9, seed=3):
    tokens = np.random.default_rng(seed).integers(0, config.vocabulary, (batch, length + 1))
    return tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int32)


def loss(config, params, tokens, targets, layout=""):
    nll, logz = network.token_losses(config, params, tokens, targets, layout)
    return jnp.mean(nll) + Z_LOSS * jnp.mean(logz**2)


def relative_errors(actual, expected):
    return jax.tree.map(
        lambda a, e: float(np.linalg.norm(np.asarray(a, np.float64) - e) / np.linalg.norm(e)), actual, expected
    )


# What the layouts share (activations, caps, scan, remat) is tested in one; what they do apart, in both.
CASES = [(name, "feature-major") for name in CONFIGS if name not in WINDOWS] + [
    (name, "token-major") for name in ("grouped", "one_kv_head_wide_heads", "everything", *WINDOWS)
]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_forward_and_gradients_equal_float64_numpy(name, layout):
    config = CONFIGS[name]
    params = perturbed(config)
    tokens, targets = example(config)
    want_loss, want_nll, want_logits, want_gradients = numpy_reference.loss_and_gradients(
        config, params, tokens, targets, Z_LOSS
    )

    @quick_jit
    def everything(params):
        nll, _ = network.token_losses(config, params, tokens, targets, layout)
        value = jax.value_and_grad(lambda p: loss(config, p, tokens, targets, layout))(params)
        return *value, network.apply(config, params, tokens, layout), nll

    value, gradients, logits, nll = everything(params)
    assert logits.dtype == nll.dtype == jnp.float32
    assert relative_errors(logits, want_logits) < 1e-5
    assert relative_errors(nll, want_nll) < 1e-5
    assert abs(float(value) - want_loss) / want_loss < 1e-5
    errors = relative_errors(gradients, want_gradients)
    assert max(jax.tree.leaves(errors)) < 1e-5, errors


def test_numpy_gradients_equal_finite_differences():
    config = CONFIGS["everything"]
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), perturbed(config))
    tokens, targets = example(config, length=5)
    _, _, _, gradients = numpy_reference.loss_and_gradients(config, params, tokens, targets, Z_LOSS)
    direction = jax.tree.map(lambda x: np.random.default_rng(x.size).normal(size=x.shape), params)

    def along(step):
        moved = jax.tree.map(lambda x, d: x + step * d, params, direction)
        return numpy_reference.loss_and_gradients(config, moved, tokens, targets, Z_LOSS)[0]

    slope = sum(
        np.sum(g * d) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True)
    )
    assert slope == pytest.approx((along(1e-6) - along(-1e-6)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize(("length", "heads"), [(257, 1), (257, 2), (130, 6), (700, 3)])
def test_attention_in_blocks_equals_plain_attention(length, heads, monkeypatch):
    # 257 is cut into 4 uneven blocks; `heads` of the batch's 6 key heads are taken at a time.
    config = dataclasses.replace(BASE, depth=1)
    monkeypatch.setattr("model.kernels.causal_blocks.heads_at_once", lambda count, *_: min(heads, count))
    params = perturbed(config)
    tokens, targets = example(config, batch=6 // config.kv_heads, length=length)
    results = [
        quick_jit(jax.value_and_grad(lambda p, layout=layout: loss(config, p, tokens, targets, layout)))(params)
        for layout in ("token-major", "feature-major")
    ]
    errors = relative_errors(results[1], jax.tree.map(lambda x: np.asarray(x, np.float64), results[0]))
    assert max(jax.tree.leaves(errors)) < 1e-5, errors


@pytest.mark.parametrize("layout", ["token-major", "feature-major"])
def test_a_changed_token_changes_no_earlier_logit(layout):
    length = 130
    tokens, _ = example(BASE, length=length)
    params = perturbed(BASE)
    forward = jax.jit(lambda tokens: network.apply(BASE, params, tokens, layout))
    before = np.asarray(forward(tokens))
    for position in (0, 1, 63, 64, 65, 129):
        changed = tokens.copy()
        changed[:, position] = (changed[:, position] + 1) % BASE.vocabulary
        after = np.asarray(forward(changed))
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert np.all(np.abs(after[:, position:] - before[:, position:]).max(axis=(0, 2)) > 0)


def test_scan_and_remat_change_nothing_but_rounding():
    params = perturbed(BASE)
    tokens, targets = example(BASE)

    def gradients(**change):
        config = dataclasses.replace(BASE, **change)
        return quick_jit(jax.value_and_grad(lambda p: loss(config, p, tokens, targets)))(params)

    scanned = jax.tree.map(lambda x: np.asarray(x, np.float64), gradients(scan=True))
    for change in ({"scan": False}, {"remat": "block"}, {"remat": "dots"}):
        errors = relative_errors(gradients(**change), scanned)
        assert max(jax.tree.leaves(errors)) < 2e-6, (change, errors)


def test_bfloat16_stays_near_float32():
    params = init(BASE, jax.random.key(0))
    tokens, _ = example(BASE)
    half_config = dataclasses.replace(BASE, compute_dtype="bfloat16")
    half, full = (quick_jit(functools.partial(network.apply, c))(params, tokens) for c in (half_config, BASE))
    assert half.dtype == jnp.float32
    assert 1e-5 < relative_errors(half, np.asarray(full)) < 0.03


def test_a_new_model_predicts_nearly_uniformly_and_keeps_its_scale():
    config = ModelConfig(vocabulary=256, width=128, depth=6, heads=4, kv_heads=4)
    params = init(config, jax.random.key(0))
    tokens, targets = example(config, batch=4, length=64)
    logits = np.asarray(quick_jit(functools.partial(network.apply, config))(params, tokens))
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    assert 0.8 < logits.std() < 1.2
    assert np.log(256) < (np.log(np.exp(logits).sum(axis=-1)) - chosen).mean() < np.log(256) + 0.8
