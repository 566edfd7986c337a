"""Every kernel against the definition of its module in model/transformer.py: losses, logits and gradients.

cudnn needs a GPU, which pytest does not see here:

    python -c "from tests.model.test_kernels import *; test_a_kernel_computes_what_its_definition_says('cudnn')"
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from model.config import ModelConfig, architectures
from model.initialize import init
from model.kernels import feature_major, fused_attention, loss_in_blocks
from model.kernels.install import installed
from model.parameters import runs_feature_major
from model.transformer import Attention, Head, Transformer

Z_LOSS = 0.05  # large, so that an error in it shows
FEATURE_MAJOR = [name for name in architectures() if runs_feature_major(ModelConfig(architecture=name))]

# Without LLVM's optimizations: the same operations, compiled in a third of the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class InterpretedSplash(fused_attention.Splash):
    """The TPU's kernel, step by step on any device."""

    interpret = True


KERNELS = {
    "feature-major": feature_major.KERNELS,
    "feature-major, loss in blocks": {**feature_major.KERNELS, Head: loss_in_blocks.FeatureMajorInBlocks},
    "loss in blocks": {Head: loss_in_blocks.InBlocks},
    "splash": {Attention: InterpretedSplash},
    "cudnn": {Attention: fused_attention.Cudnn},
}


@st.composite
def configs(draw, kernel: str) -> ModelConfig:
    """Small networks of every kind that the kernel takes (model/kernels/choose.py)."""
    heads = draw(st.sampled_from([1, 2, 4]))
    mup = {"parametrization": "mup", "base_width": 8, "base_depth": 1, "base_head_width": 4}
    architecture = draw(st.sampled_from(FEATURE_MAJOR if "feature-major" in kernel else architectures()))
    dtypes = {"cudnn": ["bfloat16"], "loss in blocks": ["float32", "bfloat16"]}.get(kernel, ["float32"])
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
        compute_dtype=draw(st.sampled_from(dtypes)),
        remat=draw(st.sampled_from(["none", "block", "dots"])),
        scan=draw(st.booleans()),
        architecture=architecture,
        **(mup if draw(st.booleans()) else {}),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.data())
@settings(max_examples=6, deadline=None, phases=[Phase.generate])  # compiling is what takes the time
def test_a_kernel_computes_what_its_definition_says(kernel, data):
    if kernel == "cudnn" and jax.default_backend() != "gpu":
        pytest.skip("needs an NVIDIA GPU")
    config = data.draw(configs(kernel))
    length = 128 if kernel in ("splash", "cudnn") else data.draw(st.sampled_from([5, 9, 130]))
    positions = data.draw(st.integers(1, length))
    generator = np.random.default_rng(length)
    tokens_BS = generator.integers(0, config.vocabulary, (2, length + 1)).astype(np.int32)
    tokens_BT, targets_BT = tokens_BS[:, :-1], tokens_BS[:, 1:]
    # Gains away from one, where a lost gain would not show.
    params = jax.tree.map(
        lambda x: np.asarray(x) + generator.normal(0, 0.1, x.shape).astype(np.float32),
        init(config, jax.random.key(0)),
    )

    def objective(kernels, params):
        """With the mean loss, every loss and log-partition, and the logits."""
        model = installed(Transformer(config, params), kernels, length=length, positions=positions)
        hidden = model.hidden(tokens_BT)
        total, mean = model.head.objective(hidden, targets_BT, jnp.float32(Z_LOSS))
        return total, (mean, model.head.token_losses(hidden, targets_BT), model.head(hidden))

    def everything(kernels):
        return quick_jit(jax.value_and_grad(functools.partial(objective, kernels), has_aux=True))(params)

    definition, ours = everything({}), everything(KERNELS[kernel])
    most = 1e-5 if config.compute_dtype == "float32" else 0.03
    for (path, want), got in zip(
        jax.tree_util.tree_flatten_with_path(definition)[0], jax.tree.leaves(ours), strict=True
    ):
        error = np.linalg.norm(np.asarray(got - want, np.float64)) / np.linalg.norm(
            np.asarray(want, np.float64)
        )
        assert error < most, (jax.tree_util.keystr(path), error, config)
