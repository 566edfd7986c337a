"""The network as functions of a parameter tree, each module computed by its fastest kernel."""

import jax

from model.config import ModelConfig
from model.depth import of_layer
from model.initialize import init
from model.kernels.install import with_kernels
from model.loss import Pair
from model.parameters import Parameters
from model.parametrization import logit_multiplier
from model.transformer import Transformer

__all__ = ["Parameters", "activations", "apply", "init", "network", "objective", "token_losses"]


def network(
    config: ModelConfig, params: Parameters, shape_BT: tuple[int, ...], layout: str = ""
) -> Transformer:
    """The network for tokens of this shape; `layout` as in `with_kernels`."""
    return with_kernels(Transformer(config, params), shape_BT, layout)


def apply(config: ModelConfig, params: Parameters, tokens_BT: jax.Array, layout: str = "") -> jax.Array:
    """Logits of every next token, (B, T, V) float32."""
    return network(config, params, tokens_BT.shape, layout)(tokens_BT)


def token_losses(
    config: ModelConfig, params: Parameters, tokens_BT: jax.Array, targets_BT: jax.Array, layout: str = ""
) -> Pair:
    """As `loss.cross_entropy`."""
    model = network(config, params, tokens_BT.shape, layout)
    return model.head.token_losses(model.hidden(tokens_BT), targets_BT)


def objective(
    config: ModelConfig,
    params: Parameters,
    tokens_BT: jax.Array,
    targets_BT: jax.Array,
    z_loss: jax.Array | float,
    layout: str = "",
) -> Pair:
    """What training makes small, and the mean loss alone: as `Head.objective`."""
    model = network(config, params, tokens_BT.shape, layout)
    return model.head.objective(model.hidden(tokens_BT), targets_BT, z_loss)


def activations(config: ModelConfig, params: Parameters, tokens_BT: jax.Array) -> dict[str, jax.Array]:
    """Every block's sum of branches, the residual stream at the end and the logits, for a look at their scales.

    Names are `block 1` to `block L`, `stream` and `logits`.
    """
    model = network(config, params, tokens_BT.shape)
    x = model.embedding(tokens_BT)
    found = {}
    for number in range(1, config.depth + 1):
        following = of_layer(model.blocks, number - 1)(x)
        found[f"block {number}"] = following - x
        x = following
    return {**found, "stream": x, "logits": model.head(logit_multiplier(config) * model.final_norm(x))}
