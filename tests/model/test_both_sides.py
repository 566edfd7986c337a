"""Encoder and encoder-decoder against float64 NumPy: values, gradients along random directions, and who sees whom."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import BadInput
from model.config import ModelConfig
from model.initialize import init
from model.kernels import choose
from model.ledger import ledger
from model.transformer import Transformer
from model.window import Window
from tests.support import numpy_reference as reference

BASE = ModelConfig(vocabulary=19, width=16, depth=2, heads=4, kv_heads=2, head_width=4, scan=False)
CONFIGS = {name: dataclasses.replace(BASE, architecture=name) for name in ("encoder", "encoder_decoder")}
SOURCE, TARGET = 5, 4


def attend(config, p, x, source, *, causal, first=0):
    """Softmax attention of x (B, T, D) over source (B, U, D), one head after the other."""
    batch, length, _ = x.shape
    K, H, G = config.resolved_head_width, config.heads, config.kv_heads
    turn = reference.rotation(first + max(length, source.shape[1]), K, config.rope_base)
    q = (x @ p["query"]).reshape(batch, length, H, K)
    k, v = ((source @ p[name]).reshape(batch, -1, G, K) for name in ("key", "value"))
    q, _ = reference.norm(q, p["query_norm"], config.norm_epsilon)
    k, _ = reference.norm(k, p["key_norm"], config.norm_epsilon)
    q = np.einsum("tij,bthj->bthi", turn[first : first + length], q)
    k = np.einsum("tij,bthj->bthi", turn[: k.shape[1]], k)
    mixed = np.zeros((batch, length, H, K))
    for head in range(H):
        scores = np.einsum("btk,buk->btu", q[:, :, head], k[:, :, head * G // H]) / math.sqrt(K)
        if causal:
            scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed[:, :, head] = weights @ v[:, :, head * G // H]
    return mixed.reshape(batch, length, -1) @ p["attention_output"]


def layer(config, p, x, *, causal, source=None):
    def normed(name, y):
        return reference.norm(y, p[name], config.norm_epsilon)[0]

    h = normed("attention_norm", x)
    x = x + attend(config, p, h, h, causal=causal)
    if source is not None:
        own = {name.removeprefix("cross_"): value for name, value in p.items() if name.startswith("cross_")}
        memory = normed("source_norm", source)
        x = x + attend(config, own, normed("cross_norm", x), memory, causal=False, first=source.shape[1])
    h = normed("feed_forward_norm", x)
    return x + reference.activate(config, h @ p["up"], h @ p["gate"]) @ p["down"]


def numpy_loss(config, params, tokens, targets, source):
    """Mean loss, float64."""
    table, blocks = params["embedding"], params["blocks"]
    layers = [{name: value[index] for name, value in blocks.items()} for index in range(config.depth)]
    x, memory = table[tokens], None
    if source is not None:
        memory = table[source]
        for p in layers:
            own = {name[8:]: value for name, value in p.items() if name.startswith("encoder_")}
            memory = layer(config, own, memory, causal=False)
    for p in layers:
        x = layer(config, p, x, causal=source is not None, source=memory)
    x, _ = reference.norm(x, params["final_norm"], config.norm_epsilon)
    logits = x @ table.T
    top = logits.max(-1, keepdims=True)
    logz = (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))[..., 0]
    return float((logz - np.take_along_axis(logits, targets[..., None], -1)[..., 0]).mean())


def problem(config):
    """Parameters with every gain off one, and a batch."""
    chance = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf + 0.1 * chance.standard_normal(leaf.shape), np.float32),
        init(config, jax.random.key(0)),
    )
    tokens, targets = (chance.integers(0, config.vocabulary, (2, TARGET)) for _ in range(2))
    source = chance.integers(0, config.vocabulary, (2, SOURCE))
    return params, tokens, targets, source if config.architecture == "encoder_decoder" else None


@pytest.mark.parametrize("name", CONFIGS)
def test_values_and_gradients_are_those_of_numpy(name):
    config = CONFIGS[name]
    params, tokens, targets, source = problem(config)

    def loss(params):
        model = Transformer(config, params)
        return jnp.mean(model.head.token_losses(model.hidden(tokens, source), targets)[0])

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    assert value == pytest.approx(numpy_loss(config, wide, tokens, targets, source), rel=1e-6)
    chance = np.random.default_rng(2)
    paths = jax.tree_util.tree_flatten_with_path(wide)[0]
    gradient_of = dict(jax.tree_util.tree_flatten_with_path(grads)[0])
    for path, leaf in paths:
        direction = chance.standard_normal(leaf.shape) / math.sqrt(leaf.size)

        def along(step, path=path, direction=direction):
            moved = jax.tree_util.tree_map_with_path(
                lambda own, array: array + step * direction if own == path else array, wide
            )
            return numpy_loss(config, moved, tokens, targets, source)

        slope = (along(1e-5) - along(-1e-5)) / 2e-5
        assert float(np.sum(gradient_of[path] * direction)) == pytest.approx(slope, rel=1e-3, abs=1e-6), path


def reach(config, tokens, source):
    """Whether logits at position t move when token u of the stream, or of the source, is another."""
    params, *_ = problem(config)
    logits = jax.jit(lambda tokens, source: Transformer(config, params)(tokens, source))

    def moved(changed_tokens, changed_source):
        return np.abs(logits(changed_tokens, changed_source) - logits(tokens, source)).max((0, 2)) > 1e-6

    def changed(array, at):
        other = array.copy()
        other[:, at] = (other[:, at] + 1) % config.vocabulary
        return other

    own = np.stack([moved(changed(tokens, u), source) for u in range(tokens.shape[1])], axis=1)
    if source is None:
        return own, None
    return own, np.stack([moved(tokens, changed(source, u)) for u in range(source.shape[1])], axis=1)


def test_who_sees_whom():
    _, tokens, _, source = problem(CONFIGS["encoder_decoder"])
    own, of_source = reach(CONFIGS["encoder_decoder"], tokens, source)
    assert (own == np.tril(np.ones_like(own))).all()
    assert of_source.all()
    assert reach(CONFIGS["encoder"], tokens, None)[0].all()
    own, _ = reach(BASE, tokens, None)
    assert (own == np.tril(np.ones_like(own))).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "changes", [{"scan": True}, {"remat": "block"}, {"remat": "dots", "scan": True}], ids=str
)
def test_scan_and_remat_change_nothing(name, changes):
    config = CONFIGS[name]
    params, tokens, _, source = problem(config)
    other = dataclasses.replace(config, **changes)
    plain = Transformer(config, params)(tokens, source)
    np.testing.assert_allclose(Transformer(other, params)(tokens, source), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_ledger_counts_the_tree_and_the_compiled_program(name):
    config = dataclasses.replace(CONFIGS[name], vocabulary=64, width=64, head_width=16, kv_heads=4)
    read, source = 48, 32 if name == "encoder_decoder" else 0
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    window = Window(read + source, read, source, read)
    found = ledger(config, read + source, window)
    assert found["params"]["total"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    heads, products = config.heads * config.resolved_head_width * config.depth, 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(params["blocks"])[0]:
        own = path[0].key
        if leaf.ndim == 3:
            of_source = own.startswith("encoder_") or own in ("cross_key", "cross_value")
            products += leaf.size * (source if of_source else read)
    products += config.vocabulary * config.width * read
    pairs = source**2 + read * source + read**2 / 2 if source else read**2
    exact = 6 * (products + 2 * heads * pairs) / (read + source)
    assert found["flops_per_token"]["exact"] == pytest.approx(exact, rel=1e-12)
    tokens, text = jnp.zeros((1, read), jnp.int32), jnp.zeros((1, source), jnp.int32) if source else None

    def loss(params):
        model = Transformer(config, params)
        return jnp.mean(model.head.token_losses(model.hidden(tokens, text), tokens)[0])

    analysis = jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()
    compiled = analysis["flops"] / (read + source)
    assert 0.98 <= compiled / found["flops_per_token"]["palm"] < 1.12


def test_no_causal_kernel_is_chosen_and_mup_is_refused_by_name():
    for device in (
        choose.Device("cpu"),
        choose.Device("gpu", "NVIDIA H100", "9.0"),
        choose.Device("tpu", "TPU v5e"),
    ):
        for config in CONFIGS.values():
            chosen = choose.attention(dataclasses.replace(config, compute_dtype="bfloat16"), device, 128)
            assert chosen.name == "xla" and config.architecture in chosen.reason
    with pytest.raises(BadInput, match=r"^model.parametrization=mup: .*encoder_decoder"):
        dataclasses.replace(CONFIGS["encoder_decoder"], parametrization="mup")
