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

from model import columns, parametrization, rows
from model.config import ModelConfig
from model.parameters import Parameters, init
from model.sharding import constrain

__all__ = ["Parameters", "activations", "apply", "init", "token_losses"]

Layout = Literal["auto", "rows", "columns"]


def layers_of(config: ModelConfig, layout: Layout) -> ModuleType:
    """The module of layers: as named, or for `auto` columns on the CPU in float32 and rows elsewhere."""
    if layout == "auto":
        on_cpu = jax.default_backend() == "cpu"
        return columns if on_cpu and config.compute_dtype == "float32" else rows
    return {"rows": rows, "columns": columns}[layout]


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
    hidden = layers.project(normed, block["up"])
    if config.activation == "swiglu":
        hidden = jax.nn.silu(layers.project(normed, block["gate"])) * hidden
    else:
        hidden = jax.nn.gelu(hidden, approximate=True)
    x = x + _scaled(layers.project(hidden, block["down"]), branch)
    return constrain(x, layers.ACTIVATION)


def _logits(config: ModelConfig, layers: ModuleType, params: Parameters, tokens_BT: jax.Array) -> jax.Array:
    """Float32 scores of every next token, in the layout of `layers`."""
    step: Callable[[jax.Array, Parameters], jax.Array] = functools.partial(
        _transform, config, layers, tokens_BT.shape
    )
    if config.remat == "block":
        step = jax.checkpoint(step)
    # The look-up reads rows whose width is whole, and its result is cut over sequences at once: with the width still
    # cut, the partitioner makes every row whole on every device to get from one cut to the other.
    table = constrain(params["embedding"], ("vocabulary", "activation_width"))
    x = constrain(layers.embed(table, tokens_BT), layers.ACTIVATION).astype(config.compute_dtype)
    if config.scan:
        x, _ = jax.lax.scan(lambda x, block: (step(x, block), None), x, params["blocks"])
    else:
        for layer in range(config.depth):
            x = step(x, jax.tree.map(lambda stacked, layer=layer: stacked[layer], params["blocks"]))
    return _head(config, layers, params, x)


def _head(config: ModelConfig, layers: ModuleType, params: Parameters, x: jax.Array) -> jax.Array:
    """Scores from the residual stream after the last block."""
    x = layers.rms_norm(x, params["final_norm"], config.norm_epsilon)
    x = _scaled(x, parametrization.logit_multiplier(config))
    logits = layers.logits(x, params["embedding" if config.tied else "head"])
    if config.logit_softcap:
        logits = config.logit_softcap * jnp.tanh(logits / config.logit_softcap)
    return logits


def apply(config: ModelConfig, params: Parameters, tokens_BT: jax.Array, layout: Layout = "auto") -> jax.Array:
    """Logits of every next token, (B, T, V) float32; those of position t depend on tokens up to t alone."""
    layers = layers_of(config, layout)
    return layers.to_BTV(_logits(config, layers, params, tokens_BT), tokens_BT.shape)


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
    return {**found, "stream": x, "logits": _head(config, layers, params, x)}


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
    return layers.token_losses(_logits(config, layers, params, tokens_BT), targets_BT)
