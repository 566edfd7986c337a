"""The network as pure functions of a parameter tree: what training, packing and sharding are built on.

The network is written once, over the layers of either layout: `columns` (feature-major) on the CPU in float32,
`rows` (token-major) everywhere else. Both compute the same function; a test holds them together.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Literal

import jax
import jax.numpy as jnp

from model import parametrization
from model.config import ModelConfig
from model.kernels import choose as choices
from model.kernels import feature_major as columns
from model.kernels import loss_in_blocks as blockwise
from model.kernels import token_major as rows
from model.kernels.device import this_device
from model.parameters import Parameters, init
from model.sharding import constrain, shards

__all__ = ["Parameters", "activations", "apply", "init", "objective", "token_losses"]

Layout = Literal["auto", "rows", "columns"]


def layers_of(config: ModelConfig, layout: Layout) -> ModuleType:
    """The module of layers: as named, or for `auto` by the rule of `choices.layout`."""
    name = choices.layout(config, this_device()).name if layout == "auto" else layout
    return {"rows": rows, "columns": columns}[name]


def _scaled(x: jax.Array, multiplier: float) -> jax.Array:
    """x * multiplier, and the same program as without where it is one."""
    return x if multiplier == 1 else x * multiplier


def _transform(
    config: ModelConfig, layers: ModuleType, shape_BT: tuple[int, ...], x: jax.Array, block: Parameters
) -> jax.Array:
    """One pre-normalization block: attention, then SwiGLU (Shazeer 2020, arXiv 2002.05202) or GELU (the tanh form;
    Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    branch = parametrization.branch_multiplier(config)
    x = constrain(x, layers.ACTIVATION)
    normed = layers.rms_norm(x, block["attention_norm"], config.norm_epsilon)
    projections = tuple(layers.project(normed, block[name]) for name in ("query", "key", "value"))
    gains = (block["query_norm"], block["key_norm"]) if config.qk_norm else None
    mixed = layers.attention(config, gains, projections, shape_BT)
    x = x + _scaled(layers.project(mixed, block["attention_output"]), branch)
    normed = layers.rms_norm(x, block["feed_forward_norm"], config.norm_epsilon)
    if config.activation == "swiglu":
        hidden = layers.gated(normed, block["gate"], block["up"])
    else:
        hidden = jax.nn.gelu(layers.project(normed, block["up"]), approximate=True)
    x = x + _scaled(layers.project(hidden, block["down"]), branch)
    return constrain(x, layers.ACTIVATION)


def _stream(config: ModelConfig, layers: ModuleType, params: Parameters, tokens_BT: jax.Array) -> jax.Array:
    """The residual stream after the last normalization, scaled for the head, in the layout of `layers`."""
    step: Callable[[jax.Array, Parameters], jax.Array] = functools.partial(
        _transform, config, layers, tokens_BT.shape
    )
    if config.remat != "none":
        policies = jax.checkpoint_policies
        policy = policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else None
        step = jax.checkpoint(step, policy=policy)
    # The look-up reads rows whose width is whole, and its result is cut over sequences at once: with the width still
    # cut, the partitioner makes every row whole on every device to get from one cut to the other.
    table = constrain(params["embedding"], ("vocabulary", "activation_width"))
    x = constrain(layers.embed(table, tokens_BT), layers.ACTIVATION).astype(config.compute_dtype)
    if config.scan:
        x, _ = jax.lax.scan(lambda x, block: (step(x, block), None), x, params["blocks"])
    else:
        for layer in range(config.depth):
            x = step(x, jax.tree.map(lambda stacked, layer=layer: stacked[layer], params["blocks"]))
    return _normalized(config, layers, params, x)


def _normalized(config: ModelConfig, layers: ModuleType, params: Parameters, x: jax.Array) -> jax.Array:
    """What the head reads of the residual stream."""
    x = layers.rms_norm(x, params["final_norm"], config.norm_epsilon)
    return _scaled(x, parametrization.logit_multiplier(config))


def _head(config: ModelConfig, params: Parameters) -> jax.Array:
    return params["embedding" if config.tied else "head"]


def _logits(config: ModelConfig, layers: ModuleType, params: Parameters, x: jax.Array) -> jax.Array:
    """Float32 scores of every next token, in the layout of `layers`."""
    logits = layers.logits(x, _head(config, params))
    if config.logit_softcap:
        logits = config.logit_softcap * jnp.tanh(logits / config.logit_softcap)
    return logits


def apply(config: ModelConfig, params: Parameters, tokens_BT: jax.Array, layout: Layout = "auto") -> jax.Array:
    """Logits of every next token, (B, T, V) float32; those of position t depend on tokens up to t alone."""
    layers = layers_of(config, layout)
    x = _stream(config, layers, params, tokens_BT)
    return layers.to_BTV(_logits(config, layers, params, x), tokens_BT.shape)


def activations(
    config: ModelConfig, params: Parameters, tokens_BT: jax.Array, layout: Layout = "auto"
) -> dict[str, jax.Array]:
    """Every block's sum of branches, the residual stream at the end and the logits, for a look at their scales.

    Axes are those of the layout; names are `block 1` to `block L`, `stream` and `logits`.
    """
    layers = layers_of(config, layout)
    x = layers.embed(params["embedding"], tokens_BT).astype(config.compute_dtype)
    found = {}
    for layer in range(config.depth):
        block = jax.tree.map(lambda stacked, layer=layer: stacked[layer], params["blocks"])
        following = _transform(config, layers, tokens_BT.shape, x, block)
        found[f"block {layer + 1}"] = following - x
        x = following
    logits = _logits(config, layers, params, _normalized(config, layers, params, x))
    return {**found, "stream": x, "logits": logits}


def token_losses(
    config: ModelConfig,
    params: Parameters,
    tokens_BT: jax.Array,
    targets_BT: jax.Array,
    layout: Layout = "auto",
) -> tuple[jax.Array, jax.Array]:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T) float32, nats.

    The square of the second is the z-loss (Chowdhery et al. 2022, arXiv 2204.02311, section 5).
    """
    layers = layers_of(config, layout)
    x = _stream(config, layers, params, tokens_BT)
    positions = _positions_at_once(config, tokens_BT.shape)
    if positions == tokens_BT.shape[1]:
        return layers.token_losses(_logits(config, layers, params, x), targets_BT)
    x_BTD, softcap = layers.to_BTV(x, tokens_BT.shape), config.logit_softcap
    return blockwise.token_losses(
        x_BTD, _head(config, params), targets_BT, softcap=softcap, positions=positions
    )


def objective(
    config: ModelConfig,
    params: Parameters,
    tokens_BT: jax.Array,
    targets_BT: jax.Array,
    z_loss: jax.Array | float,
    layout: Layout = "auto",
) -> tuple[jax.Array, jax.Array]:
    """What training makes small: the mean loss plus z_loss times the mean squared log-partition (`token_losses`);
    and the mean loss alone, which carries no gradient where the logits are computed in blocks; nats per token."""
    positions = _positions_at_once(config, tokens_BT.shape)
    if positions == tokens_BT.shape[1]:
        nll_BT, logz_BT = token_losses(config, params, tokens_BT, targets_BT, layout)
        loss = jnp.mean(nll_BT)
        return loss + z_loss * jnp.mean(jnp.square(logz_BT)), loss
    layers = layers_of(config, layout)
    x_BTD = layers.to_BTV(_stream(config, layers, params, tokens_BT), tokens_BT.shape)
    total, nll, _ = blockwise.sums(
        config.logit_softcap,
        positions,
        x_BTD,
        _head(config, params),
        targets_BT,
        jnp.asarray(z_loss, jnp.float32),
    )
    return total / tokens_BT.size, nll / tokens_BT.size


def _positions_at_once(config: ModelConfig, shape_BT: tuple[int, ...]) -> int:
    """Positions of each sequence whose logits are computed together, by the rule of `choices.loss_positions`."""
    vocabulary, sequences = config.vocabulary // shards("vocabulary"), shape_BT[0] // shards("batch")
    return choices.loss_positions(vocabulary, max(1, sequences), shape_BT[1])
