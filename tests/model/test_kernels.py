"""Every kernel against the definitions in model/transformer.py: losses, logits and gradients of random networks.

Here pytest sees no GPU; where there is one, cudnn is held to its definition by

    python -c "from tests.model.test_kernels import *; test_kernels_compute_what_their_definitions_say()"
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from model.config import ModelConfig, architectures, declared
from model.kernels import feature_major, fused_attention, loss_in_blocks
from model.kernels.install import installed
from model.parameters import each, layout, runs_feature_major
from model.transformer import Attention, Head, Transformer

pytestmark = pytest.mark.slow

Z_LOSS = 0.05  # large, so that an error in it shows

# Without LLVM's optimizations: the same operations, compiled in a third of the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class InterpretedSplash(fused_attention.Splash):
    """The TPU's kernel, step by step on any device."""

    interpret = True


def kernels_for(config: ModelConfig, length: int) -> Iterator[dict[type[nnx.Module], type[nnx.Module]]]:
    """Every set of kernels that takes this network (model/kernels/choose.py)."""
    yield {Head: loss_in_blocks.InBlocks}
    if config.compute_dtype == "float32" and runs_feature_major(config):
        yield feature_major.KERNELS
        yield {**feature_major.KERNELS, Head: loss_in_blocks.FeatureMajorInBlocks}
    if length % 128 == 0:
        yield {Attention: InterpretedSplash}
    if config.compute_dtype == "bfloat16" and jax.default_backend() == "gpu":
        yield {Attention: fused_attention.Cudnn}


# Architectures that read every field as the decoder does, one stack each.
PLAIN = [name for name in architectures() if not {"READS", "UNREAD", "SOURCE", "MUP"} & declared(name).keys()]


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.sampled_from([1, 2, 4]))
    mup = {"parametrization": "mup", "base_width": 8, "base_depth": 1, "base_head_width": 4}
    return ModelConfig(
        vocabulary=draw(st.integers(3, 40)),
        width=8 * heads,
        depth=draw(st.integers(1, 2)),
        heads=heads,
        kv_heads=draw(st.sampled_from([count for count in (1, 2, 4) if heads % count == 0])),
        head_width=draw(st.sampled_from([8, 16])),
        ff_width=draw(st.sampled_from([0, 12])),
        activation=draw(st.sampled_from(["swiglu", "gelu"])),
        tied=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        logit_softcap=draw(st.sampled_from([0.0, 1.5])),
        compute_dtype=draw(st.sampled_from(["float32", "bfloat16"])),
        remat=draw(st.sampled_from(["none", "block", "dots"])),
        scan=draw(st.booleans()),
        architecture=draw(st.sampled_from(PLAIN)),
        **(mup if draw(st.booleans()) else {}),
    )


@given(config=configs(), length=st.sampled_from([5, 128, 130]), data=st.data())
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],  # what takes the time is compiling
    suppress_health_check=[HealthCheck.too_slow],
)
def test_kernels_compute_what_their_definitions_say(config, length, data):
    positions = data.draw(st.integers(1, length))
    generator = np.random.default_rng(length)
    tokens_BS = generator.integers(0, config.vocabulary, (2, length + 1)).astype(np.int32)
    tokens_BT, targets_BT = tokens_BS[:, :-1], tokens_BS[:, 1:]

    def start(leaf):
        """Gains away from one, where a lost gain would not show."""
        noise = generator.normal(size=leaf.shape) * (leaf.scales.deviation or 0.1)
        return (noise + (leaf.scales.deviation is None)).astype(np.float32)

    params = each(layout(config), start)

    def objective(config, kernels, params):
        """With the mean loss, every loss and log-partition, and the logits."""
        model = installed(Transformer(config, params), kernels, length=length, positions=positions)
        hidden = model.hidden(tokens_BT)
        total, mean = model.head.objective(hidden, targets_BT, jnp.float32(Z_LOSS))
        return total, (mean, model.head.token_losses(hidden, targets_BT), model.head(hidden))

    def everything(config, kernels):
        program = quick_jit(jax.value_and_grad(functools.partial(objective, config, kernels), has_aux=True))
        with jax.default_matmul_precision("highest"):
            return jax.tree_util.tree_flatten_with_path(program(params))[0]

    exact = everything(dataclasses.replace(config, compute_dtype="float32"), {})
    half = config.compute_dtype == "bfloat16"
    # A kernel in bfloat16 is as far from the network in float32 as its definition in bfloat16, about.
    rounding = [max(0.01, 4 * error) for _, error in errors(everything(config, {}), exact)] if half else []
    for kernels in kernels_for(config, length):
        found = errors(everything(config, kernels), exact)
        for (name, error), most in zip(found, rounding or [1e-5] * len(found), strict=True):
            assert error < most, (kernels, name, error, most)


def errors(got, want):
    """Of every array, relative to its norm, with its name."""
    return [
        (
            jax.tree_util.keystr(path),
            np.linalg.norm(np.asarray(mine - theirs, np.float64)) / np.linalg.norm(theirs),
        )
        for (path, mine), (_, theirs) in zip(got, want, strict=True)
    ]
