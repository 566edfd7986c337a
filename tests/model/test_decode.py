"""Decoding: kept keys and values against the whole forward pass, and what follows prompts of unequal lengths."""

import dataclasses
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

from core.errors import BadInput
from model.blocks import decoder
from model.config import ModelConfig
from model.decode import cache as kept
from model.decode import generate as generation
from model.decode import program
from model.decode.controls import Controls
from model.decode.generate import Decoding, Prompt
from model.decode.size import cache_bytes
from model.decode.stops import before_stop, first_stop, stop_texts
from model.initialize import init
from model.transformer import Transformer
from tests.support.architectures import architectures as all_architectures
from tests.support.architectures import objective, tiny

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(vocabulary=32, width=16, depth=2, heads=4, kv_heads=4)
OTHERS = [name for name in all_architectures() if objective(name) == "next_token" and name != "decoder"]
NETWORKS = {
    "plain": SMALL,
    "grouped": dataclasses.replace(SMALL, kv_heads=2),
    "one key head, unrolled": dataclasses.replace(SMALL, kv_heads=1, scan=False),
    "gelu, no qk-norm": dataclasses.replace(SMALL, activation="gelu", qk_norm=False),
    "untied, softcap, wide heads": dataclasses.replace(SMALL, tied=False, logit_softcap=5.0, head_width=8),
    "mup": dataclasses.replace(SMALL, parametrization="mup", base_width=8, base_depth=1, base_head_width=4),
    **{name: tiny(name) for name in OTHERS},
}


def generate(config, params, requests, controls, *, batch=None, **how):
    return generation.generate(config, params, requests, Decoding(controls, **how), batch=batch)


def perturbed(config, seed=0):
    """Weights away from their start: gains are not one."""
    params = init(config, jax.random.key(seed))
    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(shape, moved)


def token_by_token(config, params, tokens_BT, first):
    """Logits of every position: the first `first[row]` of each row at once, padded, then one after the other."""
    rows, length = tokens_BT.shape
    step = jax.jit(functools.partial(kept.scores, config))
    padded = np.where(np.arange(length) < first[:, None], tokens_BT, 3)
    at_once, cache = step(params, kept.empty(config, rows, 2 * length), padded, np.zeros(rows, np.int32), first)
    found = [[at_once[row, : first[row]]] for row in range(rows)]
    for number in range(length - min(first)):
        position = np.minimum(first + number, length - 1)
        count = (first + number < length).astype(np.int32)
        logits, cache = step(params, cache, tokens_BT[np.arange(rows), position][:, None], position, count)
        for row in range(rows):
            if first[row] + number < length:
                found[row].append(logits[row])
    return np.stack([np.concatenate(parts) for parts in found])


@pytest.mark.parametrize("name", NETWORKS)
def test_cached_logits_equal_the_forward_pass_at_every_position(name):
    config = NETWORKS[name]
    params = perturbed(config)
    tokens_BT = np.random.default_rng(0).integers(0, 32, (3, 12)).astype(np.int32)
    whole = np.asarray(Transformer(config, params)(jnp.asarray(tokens_BT)))
    found = token_by_token(config, params, tokens_BT, np.array([1, 5, 9], np.int32))
    assert np.abs(whole).max() > 1
    np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max(), rtol=1e-5)


def test_a_text_that_was_stopped_goes_on_as_if_it_had_not():
    params, how = perturbed(SMALL), Decoding(Controls(frequency_penalty=0.5, top_k=20), 30, seed=3)
    (whole,) = generation.generate(SMALL, params, [Prompt(PROMPTS[1], 2)], how)
    requests = [Prompt(PROMPTS[1], 2, whole.tokens[:count]) for count in (1, 9, 29, 30)]
    for request, rest in zip(requests, generation.generate(SMALL, params, requests, how), strict=True):
        assert rest.tokens.tolist() == whole.tokens[len(request.written) :].tolist()
        np.testing.assert_allclose(rest.logprobs, whole.logprobs[len(request.written) :], atol=1e-4)


PROGRAM = """
import json, jax, numpy as np
from model import sharding
from model.decode.controls import Controls
from model.decode.generate import Prompt
from model.transformer import Transformer
from tests.model.test_decode import NETWORKS, generate, perturbed, token_by_token
tokens_BT = np.random.default_rng(0).integers(0, 32, (8, 12)).astype(np.int32)
first = np.array([1, 5, 9, 3, 2, 8, 7, 4], np.int32)
prompts = [Prompt(np.array(ids, np.int32)) for ids in ([1, 2, 3], [4], [5, 6, 7, 8, 9])]
answer = {}
for name in ("grouped", "mup"):
    config, params = NETWORKS[name], perturbed(NETWORKS[name])
    ask = dict(most_tokens=20, seed=3)
    alone = [one.tokens.tolist() for one in generate(config, params, prompts, Controls(), **ask)]
    for shape in ((8, 1, 1), (2, 2, 2), (1, 4, 2)):
        mesh = sharding.make_mesh(shape)
        with jax.set_mesh(mesh):
            placed = jax.device_put(params, sharding.parameter_shardings(config, mesh))
            found = [one.tokens.tolist() for one in generate(config, placed, prompts, Controls(), **ask)]
            logits = token_by_token(config, placed, tokens_BT, first) if shape != (8, 1, 1) else None
        answer[f"{name} {shape}"] = found == alone
        if logits is not None:
            whole = np.asarray(jax.jit(Transformer(config, params))(tokens_BT))
            answer[f"{name} {shape}, logits"] = bool(np.abs(logits - whole).max() <= 1e-5 * np.abs(whole).max())
print(json.dumps(answer))
"""


@pytest.mark.slow
def test_on_a_mesh_the_same_text_and_logits():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer) == 10 and all(answer.values()), answer


PROMPTS = [np.arange(1, 1 + length, dtype=np.int32) % 29 for length in (1, 7, 3, 11, 2, 5, 9, 4)]


def texts(found):
    return [one.tokens.tolist() for one in found]


@pytest.mark.parametrize(
    "controls", [Controls(), Controls(temperature=0), Controls(top_p=0.7, frequency_penalty=1.0, top_k=9)]
)
def test_a_text_does_not_depend_on_its_batch(controls):
    params = perturbed(SMALL)
    requests = [Prompt(prompt, sample) for prompt in PROMPTS for sample in range(2)]
    ask = {"most_tokens": 20, "seed": 5}
    together = texts(generate(SMALL, params, requests, controls, **ask, batch=16))
    by_one = [texts(generate(SMALL, params, [one], controls, **ask, batch=1))[0] for one in requests]
    assert together == by_one
    assert texts(generate(SMALL, params, requests[::-1], controls, **ask)) == together[::-1]
    assert all(len(tokens) == 20 for tokens in together)
    other = texts(generate(SMALL, params, requests, controls, most_tokens=20, seed=6))
    if controls.greedy:
        assert other == together and together[::2] == together[1::2]
    else:
        assert other != together and together[::2] != together[1::2]


def test_greedy_text_is_the_argmax_of_the_forward_pass_and_logprobs_are_its_own():
    params = perturbed(SMALL)
    found = generate(SMALL, params, [Prompt(one) for one in PROMPTS], Controls(temperature=0), most_tokens=18)
    longest = max(map(len, PROMPTS)) + 18
    whole = [
        np.pad(both := np.concatenate([prompt, one.tokens]), (0, longest - len(both)))
        for prompt, one in zip(PROMPTS, found, strict=True)
    ]
    every = jax.jit(lambda params: Transformer(SMALL, params)(jnp.asarray(whole)))(params)
    for prompt, one, logits in zip(PROMPTS, found, every, strict=True):
        logits = np.asarray(logits[len(prompt) - 1 :][:18])
        np.testing.assert_array_equal(np.argmax(logits, axis=-1), one.tokens)
        expected = jax.nn.log_softmax(logits)[np.arange(18), one.tokens]
        np.testing.assert_allclose(one.logprobs, expected, atol=1e-4)
        assert set(one.kept.tolist()) == {1} and one.ended == "length"
        np.testing.assert_allclose(one.removed, 1 - np.exp(one.logprobs), atol=1e-5)


def test_an_end_token_and_a_stop_text_end_a_text():
    params = perturbed(SMALL)
    request, ask = Prompt(PROMPTS[1]), {"most_tokens": 40, "seed": 1}
    (free,) = generate(SMALL, params, [request], Controls(), **ask)
    end = int(free.tokens[10])
    first = free.tokens.tolist().index(end)
    (ended,) = generate(SMALL, params, [request], Controls(), **ask, end=end)
    assert ended.tokens.tolist() == free.tokens[:first].tolist() and ended.ended == "end"
    letters = "abcdefghijklmnopqrstuvwxyz.,!?;:"

    def decode(tokens):
        return "".join(letters[token] for token in tokens)

    stop = decode(free.tokens[20:23])
    (stopped,) = generate(SMALL, params, [request], Controls(), **ask, stops=stop_texts([stop, "~"], decode))
    text = decode(free.tokens)
    assert stopped.ended == "stop"
    assert decode(stopped.tokens) == text[: text.index(stop) + 3]
    assert before_stop(decode(stopped.tokens), [stop, "~"]) == text[: text.index(stop)]
    assert before_stop("no stop", ["~"]) == "no stop"
    assert first_stop("a <out>", ["<", "out", "<out>"]) == "<out>" and first_stop("a", ["b"]) is None


def test_rows_of_the_table_that_stand_for_no_token_are_never_drawn():
    params, requests = perturbed(SMALL), [Prompt(one) for one in PROMPTS]
    for controls in (Controls(), Controls(temperature=0)):
        drawn = texts(generate(SMALL, params, requests, controls, most_tokens=20, known=9))
        assert max(map(max, drawn)) <= 8
        assert max(map(max, texts(generate(SMALL, params, requests, controls, most_tokens=20)))) > 8


TABLE = np.array([[0.0, 2.0, 1.5], [1.0, 0.2, 0.9], [0.3, 0.8, 0.1]], np.float32)  # next token by token


@pytest.fixture
def bigram(monkeypatch):
    """A network whose scores are TABLE's row of the last token."""
    config = ModelConfig(vocabulary=3, width=8, depth=1, heads=1, kv_heads=1)

    class Model:
        @staticmethod
        def head(x):
            return x

    def hidden(config, params, cache, tokens_BS, start_B, count_B=None):
        return Model, jnp.asarray(TABLE)[tokens_BS], cache

    def scores(config, params, cache, tokens_BS, start_B, count_B=None):
        return jnp.asarray(TABLE)[tokens_BS], cache

    kept.check(config.architecture)  # of the network itself, before its parts are replaced
    monkeypatch.setattr(kept, "hidden", hidden)
    monkeypatch.setattr(kept, "scores", scores)
    for cached in (program.start, program.advance):
        cached.cache_clear()
    yield functools.partial(generate, config, init(config, jax.random.key(0)))
    for cached in (program.start, program.advance):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # From 1: scores 1.0 0.2 0.9 -> 0; from 0: 0 2 1.5 -> 1; then 0 and 1 in turn.
        ({}, [0, 1, 0, 1]),
        # 1 -> 0 (1.0); 0 -> 1 (2.0); 1: 0 was there, 1.0 - 0.2 < 0.9 -> 2; 2: 0.1, 0.6, -0.1 -> 1.
        ({"presence_penalty": 0.2}, [0, 1, 2, 1]),
        # Prompt [1, 1] counted: 1 -> 0 (1.0); 0: 2.0 - 0.8 = 1.2 < 1.5 -> 2; 2: 0.3-0.4, 0.8-0.8, 0.1-0.4 -> 1;
        # 1: 1.0-0.4, 0.2-1.2, 0.9-0.4 -> 0.
        ({"frequency_penalty": 0.4, "penalty_counts": "all"}, [0, 2, 1, 0]),
        # Not counted: 1 -> 0; 0 -> 1 (2.0); 1: 0.6, -0.2, 0.9 -> 2; 2: -0.1, 0.4, -0.3 -> 1.
        ({"frequency_penalty": 0.4}, [0, 1, 2, 1]),
        # 1 was in the prompt: 1 -> 0 (1.0); 0: 0, 1.0, 1.5 -> 2; 2: .15, .4, .05 -> 1; 1: .5, .1, .45 -> 0.
        ({"repetition_penalty": 2.0}, [0, 2, 1, 0]),
    ],
)
def test_penalties_are_what_a_hand_computes(bigram, settings, expected):
    (found,) = bigram([Prompt(np.array([1, 1], np.int32))], Controls(temperature=0, **settings), most_tokens=4)
    assert found.tokens.tolist() == expected


def test_memory_is_what_the_arrays_take():
    for config in NETWORKS.values():
        arrays = jax.tree.leaves(kept.empty(config, 3, 40))
        assert sum(array.nbytes for array in arrays) == cache_bytes(config, 3, 40)
    half = dataclasses.replace(SMALL, compute_dtype="bfloat16")
    assert cache_bytes(half, 3, 40) * 2 == cache_bytes(SMALL, 3, 40)


def test_a_block_that_mixes_positions_by_itself_is_refused(monkeypatch):
    class Block(decoder.block()):
        def __call__(self, x_BTD):
            return super().__call__(x_BTD + jnp.cumsum(x_BTD, axis=1))

    monkeypatch.setattr(decoder, "block", lambda: Block)
    kept.check.cache_clear()
    with pytest.raises(BadInput, match=r"model\.architecture='decoder': cannot be decoded token by token"):
        kept.check("decoder")
    kept.check.cache_clear()
