"""Windows and recurrences: against float64 NumPy, against themselves in parts, and what a position sees."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import BadInput
from model.config import ModelConfig
from model.kernels import choose
from model.ledger import ledger
from model.mixers.linear_recurrence import linear_scan, rates
from model.transformer import Transformer
from model.window import whole
from tests.support.architectures import tiny
from tests.support.numpy_reference import norm, sigmoid

RECURRENCES = ("lstm", "linear_recurrence")

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def perturbed(config, seed=0):
    """Weights away from their start: gains are not one."""
    from model.initialize import init

    params = init(config, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, moved)


def tokens_of(config, length=9, batch=2):
    return np.random.default_rng(3).integers(0, config.vocabulary, (batch, length)).astype(np.int32)


def numpy_lstm(p, x_BTD):
    """One position after the other, gate by gate."""
    width = x_BTD.shape[2]
    h = c = np.zeros_like(x_BTD[:, 0])
    out = []
    for t in range(x_BTD.shape[1]):
        z = x_BTD[:, t] @ p["input"] + h @ p["recurrent"]
        i, f, o, g = (z[:, k * width : (k + 1) * width] for k in range(4))
        c = sigmoid(f + p["forget_bias"]) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h @ p["output"])
    return np.stack(out, axis=1)


def numpy_linear_recurrence(p, x_BTD):
    """One position after the other; a of the paper from the rates that Lambda starts at."""
    width = x_BTD.shape[2]
    a = 1 / (1 + np.exp(p["rate"] + np.log(np.linspace(0.9, 0.999, width) ** (-1 / 8) - 1) - 1))
    u = x_BTD @ p["input"]
    h = np.zeros_like(x_BTD[:, 0])
    out = []
    for t in range(x_BTD.shape[1]):
        x = x_BTD[:, t]
        mixed = sum(p["taps"][3 - ago] * u[:, t - ago] for ago in range(4) if t >= ago)
        a_t = a ** (8 * sigmoid(x @ p["recurrence_gate"]))
        h = a_t * h + np.sqrt(1 - a_t**2) * sigmoid(x @ p["input_gate"]) * mixed
        side = x @ p["side"]
        gelu = 0.5 * side * (1 + np.tanh(math.sqrt(2 / math.pi) * (side + 0.044715 * side**3)))
        out.append((gelu * h) @ p["output"])
    return np.stack(out, axis=1)


def numpy_loss(config, params, tokens_BS):
    """Mean next-token loss in float64."""
    mix = {"lstm": numpy_lstm, "linear_recurrence": numpy_linear_recurrence}[config.architecture]
    x = params["embedding"][tokens_BS[:, :-1]]
    for layer in range(config.depth):
        p = {name: leaf[layer] for name, leaf in params["blocks"].items()}
        x = x + mix(p, norm(x, p["recurrence_norm"], config.norm_epsilon)[0])
        y = norm(x, p["feed_forward_norm"], config.norm_epsilon)[0]
        gate = y @ p["gate"]
        x = x + (gate * sigmoid(gate) * (y @ p["up"])) @ p["down"]
    logits = norm(x, params["final_norm"], config.norm_epsilon)[0] @ params["embedding"].T
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, tokens_BS[:, 1:, None], axis=2).mean()


@pytest.mark.parametrize("name", RECURRENCES)
def test_loss_and_gradients_of_a_recurrence_equal_float64_numpy(name):
    config = tiny(name, width=12, depth=2)
    params, tokens = perturbed(config), tokens_of(config, length=8)

    def loss(params):
        model = Transformer(config, params)
        return model.head.objective(model.hidden(tokens[:, :-1]), tokens[:, 1:], 0.0)[0]

    found, gradients = quick_jit(jax.value_and_grad(loss))(params)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    assert float(found) == pytest.approx(numpy_loss(config, exact, tokens), rel=1e-6)
    leaves, tree = jax.tree.flatten(exact)
    generator, step = np.random.default_rng(0), 1e-5
    for number, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        direction = generator.normal(size=leaf.shape) + np.sign(np.asarray(gradient))  # not across the gradient

        def at(offset, number=number, direction=direction):
            moved = [one + offset * direction if place == number else one for place, one in enumerate(leaves)]
            return numpy_loss(config, jax.tree.unflatten(tree, moved), tokens)

        slope = (at(step) - at(-step)) / (2 * step)
        assert float(np.sum(gradient * direction)) == pytest.approx(slope, rel=2e-4, abs=1e-7), number


def test_a_state_keeps_between_a_tenth_less_and_a_thousandth_less_at_the_start():
    kept = np.exp(-8 * np.log1p(np.exp(1.0 + rates(64).astype(np.float64))))
    np.testing.assert_allclose(kept, np.linspace(0.9, 0.999, 64), rtol=1e-5)


def test_the_parallel_scan_is_the_loop_and_survives_extreme_gates():
    generator = np.random.default_rng(0)
    keep = generator.uniform(0, 1, (2, 300, 5))
    keep[:, ::7], keep[:, 3::11] = 0.0, 1.0  # products underflow, and states that never fade
    new, start = generator.normal(size=keep.shape), generator.normal(size=(2, 5))
    state, expected = start, []
    for t in range(300):
        state = keep[:, t] * state + new[:, t]
        expected.append(state)
    arrays = [jnp.asarray(array, jnp.float32) for array in (keep, new, start)]
    np.testing.assert_allclose(linear_scan(*arrays), np.stack(expected, axis=1), rtol=2e-5, atol=2e-5)
    gradients = jax.grad(lambda *all_of: jnp.sum(linear_scan(*all_of) ** 2), argnums=(0, 1, 2))(*arrays)
    assert all(jnp.isfinite(leaf).all() for leaf in gradients)


def test_gates_that_are_shut_have_finite_gradients():
    config = tiny("linear_recurrence")
    params = perturbed(config)
    params["blocks"]["recurrence_gate"] = -1e4 * jnp.abs(params["blocks"]["recurrence_gate"])
    tokens = tokens_of(config)
    gradients = jax.grad(lambda p: jnp.sum(Transformer(config, p)(tokens) ** 2))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def seen(config, length=12):
    """(T, T): whether logits of a position move with the token of another."""
    params = perturbed(config)
    tokens = tokens_of(config, length, batch=1)
    changed = np.repeat(tokens, length, axis=0)
    changed[np.arange(length), np.arange(length)] += 1
    changed %= config.vocabulary
    at = quick_jit(lambda tokens: Transformer(config, params)(tokens))
    moved = np.abs(np.asarray(at(changed)) - np.asarray(at(tokens))).max(axis=2) > 1e-6
    return moved.T


@pytest.mark.parametrize("window", [1, 2, 4, 5, 7, 11])
def test_a_layer_sees_exactly_the_window(window):
    ago = np.arange(12)[:, None] - np.arange(12)
    config = tiny("sliding_window", window=window, depth=1)
    np.testing.assert_array_equal(seen(config), (ago >= 0) & (ago < window))


def test_two_layers_reach_twice_as_far_and_recurrences_to_the_start():
    ago = np.arange(12)[:, None] - np.arange(12)
    np.testing.assert_array_equal(seen(tiny("sliding_window", window=3)), (ago >= 0) & (ago <= 4))
    for name in RECURRENCES:
        np.testing.assert_array_equal(seen(tiny(name)), ago >= 0)


@pytest.mark.parametrize("window", [9, 30])
def test_a_window_of_the_whole_text_is_the_decoder_bit_for_bit(window):
    decoder = tiny("decoder")
    config = tiny("sliding_window", window=window)
    params, tokens = perturbed(decoder), tokens_of(decoder)
    mine, its = (jax.jit(lambda p, c=c: Transformer(c, p)(tokens))(params) for c in (config, decoder))
    np.testing.assert_array_equal(mine, its)


def test_a_window_is_asked_for_and_refused_by_name():
    with pytest.raises(BadInput, match=r"^model.window=0: model.architecture=sliding_window needs one"):
        ModelConfig(architecture="sliding_window")
    with pytest.raises(BadInput, match=r"^model.window=4: model.architecture=decoder has no such setting"):
        ModelConfig(window=4)
    for name in RECURRENCES:
        with pytest.raises(
            BadInput, match=rf"^model.rope_base=500.0: model.architecture={name} does not read it"
        ):
            ModelConfig(architecture=name, rope_base=500.0)


@pytest.mark.parametrize(
    "device", [choose.Device("gpu", "NVIDIA H100", "9.0"), choose.Device("tpu", "TPU v5 lite")]
)
def test_no_kernel_of_causal_attention_is_chosen(device):
    for name in ("sliding_window", *RECURRENCES):
        config = dataclasses.replace(tiny(name), compute_dtype="bfloat16")
        assert choose.attention(config, device, 128).name == "own"


def test_pairs_of_a_window_are_counted_as_they_are():
    length = 64
    for window in (1, 8, 64, 100):
        config = tiny("sliding_window", window=window)
        flops, none = (ledger(c, length)["flops_per_token"] for c in (config, tiny("sliding_window", window=1)))
        width = min(window, length)
        pairs = sum(min(t + 1, width) for t in range(length))
        # A query's own key is counted half, as the decoder's ledger does: T^2 / 2 for T (T + 1) / 2.
        products = 6 * 2 * config.depth * config.width
        extra = (pairs - width / 2) - (length - 0.5)
        assert flops["exact"] - none["exact"] == pytest.approx(products * extra / length)
    assert ledger(tiny("sliding_window", window=64), 64) == ledger(tiny("decoder"), 64)


@pytest.mark.parametrize("name", RECURRENCES)
def test_products_of_a_recurrence_equal_a_literal_count(name):
    config = tiny(name)
    width, hidden = config.width, config.resolved_ff_width
    mixing = {"lstm": 4 * width + 4 * width + width, "linear_recurrence": 4 * width + 4 + width}[name] * width
    weights = config.depth * (mixing + 3 * width * hidden) + config.vocabulary * width
    found = ledger(config, 32, whole(32))["flops_per_token"]
    assert found["exact"] == found["palm"] == 6 * weights


@pytest.mark.parametrize("name", RECURRENCES)
def test_products_of_a_recurrence_are_the_compilers_count(name):
    # One position, so that the loop over positions is its body; the compiler counts element-wise work too.
    config = tiny(name, width=128, depth=1, ff_width=512, scan=False)
    from model.initialize import init

    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    tokens = jnp.zeros((16, 1), jnp.int32)

    def logits(params):
        return Transformer(config, params)(tokens)

    counted = quick_jit(logits).lower(params).compile().cost_analysis()["flops"] / 16
    forward = ledger(config, 1)["flops_per_token"]["exact"] / 3
    assert 1 <= counted / forward < 1.06
