"""The network as a flax.nnx module: a holder of parameters around the functional core."""

import jax
from flax import nnx

from model import network as functional
from model.config import ModelConfig


class Block(nnx.Module):
    """The parameters of all blocks, each stacked over a leading layer axis."""

    def __init__(self, params: functional.Parameters):
        for name, value in params.items():
            setattr(self, name, nnx.Param(value))


class Transformer(nnx.Module):
    """A decoder-only transformer.

    `nnx.to_pure_dict(nnx.state(model))` is the tree of `model.network`; `nnx.update` takes one back.

    Args:
      config: the network.
      rngs: streams of random keys; `params` draws the parameters.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        params = functional.init(config, rngs.params())
        self.config = config
        self.embedding = nnx.Param(params["embedding"])
        self.blocks = Block(params["blocks"])
        self.final_norm = nnx.Param(params["final_norm"])
        if not config.tied:
            self.head = nnx.Param(params["head"])

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """Logits of every next token, (B, T, V) float32."""
        return functional.apply(self.config, nnx.to_pure_dict(nnx.state(self, nnx.Param)), tokens_BT)
