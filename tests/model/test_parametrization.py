"""Maximal update: against the papers' tables as numbers, and against the network with its multipliers folded in."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.codec import canonical_json, with_settings
from core.errors import BadInput
from model import parametrization
from model.config import ModelConfig
from model.initialize import init
from model.parameters import each, epsilon_multipliers, layout, learning_rate_multipliers, leaves
from tests.support import network, numpy_reference
from training.spec import RunSpec

# 4 times the base in width, depth and head width; an untied head, so that every row of the tables is there.
WIDE = ModelConfig(
    vocabulary=32, width=64, depth=8, heads=2, kv_heads=1, activation="gelu", tied=False, scan=False,
    parametrization="mup", base_width=16, base_depth=2, base_head_width=8,
)  # fmt: skip
SMALL = dataclasses.replace(WIDE, width=32, depth=4, heads=2, head_width=16, base_head_width=4)

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_scales_are_those_of_the_published_tables():
    # Yang et al. 2022 (2203.03466), table 8 and definition 4.1: with n = D / D0 = 4, initial variance of input and
    # output weights constant, of hidden weights 1 / fan-in; Adam's rate 1 for input and output, 1 / n for hidden;
    # output multiplied by 1 / n; scores divided by K instead of sqrt(K).
    # Dey et al. 2025 (2505.01618), table 1 at alpha = 1/2, the depth rules of Yang et al. 2023 (2310.02244): with
    # m = L / L0 = 4, branches times m^-1/2 and, inside them, Adam's rate times m^-1/2, epsilon times m^-1/2 / n.
    tree = layout(WIDE)
    blocks = tree["blocks"]
    scales = {
        "embedding": tree["embedding"].scales,
        "head": tree["head"].scales,
        "final_norm": tree["final_norm"].scales,
        **{name: leaf.scales for name, leaf in blocks.items()},
    }
    written = {name: ((s.deviation or 0.0) ** 2, s.learning_rate, s.epsilon) for name, s in scales.items()}
    quarter_of_half, half = 1 / 8, 1 / 2  # gains, of variance 0, start at one
    expected = {
        "embedding": (1 / 16, 1, 1 / 4),
        "head": (1 / 16, 1, 1 / 4),
        "final_norm": (0, 1, 1 / 4),
        "query": (1 / 64, quarter_of_half, 1 / 8),
        "key": (1 / 64, quarter_of_half, 1 / 8),
        "value": (1 / 64, quarter_of_half, 1 / 8),
        "up": (1 / 64, quarter_of_half, 1 / 8),
        "attention_output": (1 / 64 / 4, quarter_of_half, 1 / 8),
        "down": (1 / 256 / 4, quarter_of_half, 1 / 8),
        "attention_norm": (0, half, 1 / 8),
        "feed_forward_norm": (0, half, 1 / 8),
        "query_norm": (0, half, 1 / 8),
        "key_norm": (0, half, 1 / 8),
    }
    assert written.keys() == expected.keys()
    for name, numbers in expected.items():
        assert written[name] == pytest.approx(numbers, rel=1e-12), name
    assert parametrization.logit_multiplier(WIDE) == 1 / 4
    assert parametrization.branch_multiplier(WIDE) == 1 / 2
    # K = 32, K0 = 8: sqrt(8) / 32, which is 1 / sqrt(K) at K = 8.
    assert parametrization.attention_divisor(WIDE) == pytest.approx(32 / math.sqrt(8), rel=1e-12)


def test_the_standard_parametrization_has_no_multiplier_and_its_old_scales():
    standard = ModelConfig(width=64, depth=8, heads=2, kv_heads=1, tied=False)
    assert set(jax.tree.leaves((learning_rate_multipliers(standard), epsilon_multipliers(standard)))) == {1.0}
    assert parametrization.branch_multiplier(standard) == parametrization.logit_multiplier(standard) == 1
    assert parametrization.attention_divisor(standard) == math.sqrt(32)
    tree = layout(standard)
    assert tree["embedding"].scales.deviation == tree["head"].scales.deviation == 1 / 8
    assert tree["blocks"]["query"].scales.deviation == 1 / 8
    assert tree["blocks"]["attention_output"].scales.deviation == 1 / math.sqrt(16) / 8


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_at_the_base_shape_both_are_one_program(activation):
    standard = ModelConfig(width=48, depth=3, heads=2, kv_heads=2, activation=activation)
    base = {"base_width": 48, "base_depth": 3, "base_head_width": 24}
    mup = dataclasses.replace(standard, parametrization="mup", **base)
    assert list(leaves(layout(mup))) == list(leaves(layout(standard)))
    assert parametrization.branch_multiplier(mup) == parametrization.logit_multiplier(mup) == 1
    assert parametrization.attention_divisor(mup) == pytest.approx(math.sqrt(24), rel=1e-15)


def folded(config: ModelConfig) -> tuple[ModelConfig, dict]:
    """The standard configuration, and a tree of the factors that carry the multipliers into the weights instead."""
    # Fan-out multipliers of a matrix scale its entries; the scores' divisor goes into the gains of the queries.
    ones = each(layout(config), lambda _: 1.0)
    blocks = dict(ones["blocks"])
    branch = math.sqrt(config.base_depth / config.depth)
    blocks["attention_output"] = blocks["down"] = branch
    of_queries = "query_norm" if config.qk_norm else "query"
    blocks[of_queries] = math.sqrt(config.base_head_width / config.resolved_head_width)
    factors = {**ones, "blocks": blocks}
    # A tied head cannot be folded into the table, but it can into the gain before it.
    factors["final_norm" if config.tied else "head"] = config.base_width / config.width
    base = {"base_width": 64, "base_depth": 2, "base_head_width": 16}
    return dataclasses.replace(config, parametrization="standard", **base), factors


@pytest.mark.parametrize("layout_name", ["feature-major", "token-major"])
@pytest.mark.parametrize("change", [{}, {"tied": True, "qk_norm": False, "activation": "swiglu", "scan": True}])
def test_network_and_gradients_equal_float64_numpy_with_the_multipliers_folded_in(layout_name, change):
    config = dataclasses.replace(SMALL, **change)
    standard, factors = folded(config)
    params = init(config, jax.random.key(0))
    tokens = np.random.default_rng(1).integers(0, 32, (2, 10)).astype(np.int32)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    same = jax.tree.map(lambda p, factor: np.asarray(p, np.float64) * factor, params, factors)
    want_loss, _, _, want = numpy_reference.loss_and_gradients(standard, same, inputs, targets, 0.0)

    @quick_jit
    def loss_and_gradients(params):
        def loss(params):
            return jnp.mean(network.token_losses(config, params, inputs, targets, layout_name)[0])

        return jax.value_and_grad(loss)(params)

    loss, gradients = loss_and_gradients(params)
    assert float(loss) == pytest.approx(want_loss, rel=1e-5)
    want = jax.tree.map(lambda gradient, factor: gradient * factor, want, factors)  # the chain rule
    for mine, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(want), strict=True):
        assert np.linalg.norm(np.asarray(mine, np.float64) - theirs) / np.linalg.norm(theirs) < 1e-5


def test_a_parametrization_names_a_run_only_where_it_is_chosen():
    plain = canonical_json(RunSpec())
    assert "parametrization" not in plain and "base_" not in plain and '"decay"' not in plain
    mup = with_settings(RunSpec(), {"model.parametrization": "mup"})
    other_base = with_settings(RunSpec(), {"model.parametrization": "mup", "model.base_width": "32"})
    independent = with_settings(RunSpec(), {"optim.decay": "independent"})
    assert len({run.run_id for run in (RunSpec(), mup, other_base, independent)}) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.parametrization": "ntk"}, ["model.parametrization='ntk'", "standard, mup"]),
        ({"model.base_width": "32"}, ["model.base_width=32", "mup"]),
        ({"model.base_depth": "4"}, ["model.base_depth=4", "mup"]),
        ({"model.parametrization": "mup", "model.base_width": "0"}, ["model.base_width=0", "at least 1"]),
        ({"model.parametrization": "mup", "model.base_head_width": "-8"}, ["model.base_head_width=-8"]),
        ({"optim.decay": "none"}, ["optim.decay='none'", "coupled, independent"]),
    ],
)
def test_an_impossible_parametrization_is_refused_in_one_line(settings, words):
    with pytest.raises(BadInput) as caught:
        with_settings(RunSpec(), settings)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)
