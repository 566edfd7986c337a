"""The ledger against closed forms, the compiler's count, a published size and golden numbers."""

import dataclasses
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from model.config import ModelConfig
from model.initialize import init
from model.ledger import ledger
from tests.support import network

SMALL = ModelConfig(vocabulary=256, width=64, depth=3, heads=4, kv_heads=4, scan=False)
GRID = {
    "plain": SMALL,
    "grouped": dataclasses.replace(SMALL, kv_heads=2),
    "untied": dataclasses.replace(SMALL, tied=False, head_width=20),
    "gelu": dataclasses.replace(SMALL, activation="gelu", qk_norm=False),
}


@pytest.mark.parametrize("name", GRID)
def test_parameter_counts_equal_the_tree(name):
    config = GRID[name]
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    counts = ledger(config, 32)["params"]
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    tables = params["embedding"].size + (0 if config.tied else params["head"].size)
    assert counts["total"] == total
    assert counts["non_embedding"] == total - tables
    assert counts["non_embedding_plus_head"] == total - tables + config.vocabulary * config.width


@given(
    vocabulary=st.integers(1, 1000),
    groups=st.integers(1, 4),
    repeats=st.integers(1, 4),
    half_head_width=st.integers(1, 20),
    width=st.integers(1, 300),
    depth=st.integers(1, 9),
    ff_width=st.integers(0, 500),
    activation=st.sampled_from(["swiglu", "gelu"]),
    tied=st.booleans(),
    qk_norm=st.booleans(),
    length=st.integers(1, 4096),
)
def test_counts_of_the_decoder_equal_closed_forms(groups, repeats, half_head_width, length, **fields):
    config = ModelConfig(heads=groups * repeats, kv_heads=groups, head_width=2 * half_head_width, **fields)
    width, head_width, ff_width = config.width, config.resolved_head_width, config.resolved_ff_width
    matrices = width * head_width * (2 * config.heads + 2 * groups)
    matrices += (3 if config.activation == "swiglu" else 2) * width * ff_width
    gains = 2 * width + (2 * head_width if config.qk_norm else 0)
    table = config.vocabulary * width
    non_embedding = config.depth * (matrices + gains) + width
    found = ledger(config, length)
    assert found["params"] == {
        "total": non_embedding + table * (1 if config.tied else 2),
        "non_embedding": non_embedding,
        "non_embedding_plus_head": non_embedding + table,
    }
    weights, attention = config.depth * matrices + table, config.depth * config.heads * head_width * length
    assert found["flops_per_token"]["palm"] == 6 * weights + 12 * attention
    assert found["flops_per_token"]["exact"] == 6 * weights + 6 * attention


def test_golden_counts():
    # By hand, width 64, depth 3, F = 8 ceil(64 / 3) = 176, K = 16: a block is 4 64^2 + 3 64 176 = 50,176 weights
    # and 2 64 + 2 16 = 160 gains; the table is 256 64 = 16,384.
    result = ledger(SMALL, 128)
    assert result["params"] == {
        "total": 3 * 50_336 + 64 + 16_384,
        "non_embedding": 3 * 50_336 + 64,
        "non_embedding_plus_head": 3 * 50_336 + 64 + 16_384,
    }
    weights = 3 * 50_176 + 16_384
    assert result["flops_per_token"] == {
        "exact": 6 * weights + 6 * 3 * 64 * 128,
        "palm": 6 * weights + 12 * 3 * 64 * 128,
        "6N_total": 6 * 167_456,
        "6N_non_embedding": 6 * 151_072,
        "6N_non_embedding_plus_head": 6 * 167_456,
    }


def test_gpt2_small_has_its_published_size():
    # Radford et al. 2019: 12 layers, width 768, vocabulary 50,257: 124M parameters, of which position embeddings
    # (786,432) and biases with LayerNorm offsets (82,944 + 19,200) are not of this architecture.
    config = ModelConfig(
        vocabulary=50_257, width=768, depth=12, heads=12, kv_heads=12, activation="gelu", qk_norm=False
    )
    assert ledger(config, 1024)["params"]["total"] == 124_439_808 - 786_432 - 82_944 - 19_200


@pytest.mark.parametrize("name", GRID)
def test_palm_flops_equal_the_compilers_count(name):
    # Token-major with plain attention compute every product in full, as `palm` counts. The compiler also counts
    # element-wise work; its share falls with width, hence a width at which it is small.
    config = dataclasses.replace(GRID[name], width=256, depth=2, head_width=64, ff_width=1024)
    batch, length = 2, 64
    params = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    tokens = jax.numpy.zeros((batch, length), jax.numpy.int32)

    def loss(params):
        return network.token_losses(config, params, tokens, tokens, "token-major")[0].mean()

    options = {"xla_backend_optimization_level": 0}
    analysis: Any = jax.jit(jax.grad(loss), compiler_options=options).lower(params).compile().cost_analysis()
    counted = analysis["flops"] / (batch * length)
    assert 1 <= counted / ledger(config, length)["flops_per_token"]["palm"] < 1.04


def test_exact_leaves_out_half_of_attention():
    for length in (1, 128, 4096):
        flops = ledger(SMALL, length)["flops_per_token"]
        assert flops["palm"] - flops["exact"] == 6 * SMALL.depth * SMALL.width * length


def test_sequence_length_below_one_is_refused():
    with pytest.raises(BadInput, match=r"sequence_length=0: must be at least 1"):
        ledger(SMALL, 0)
