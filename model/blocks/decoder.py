"""The block of a decoder-only transformer: attention, then feed-forward, each normalized first."""

from typing import TYPE_CHECKING

from model.config import ModelConfig
from model.parameters import Leaf, gain, matrix

if TYPE_CHECKING:
    from flax import nnx

RUNS_FEATURE_MAJOR = True


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of one block."""
    return {
        "attention_norm": gain(config, "width"),
        **attention_parameters(config),
        "feed_forward_norm": gain(config, "width"),
        **feed_forward_parameters(config),
    }


def attention_parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of `transformer.Attention`."""
    leaves = {
        "query": matrix(config, "width", "heads"),
        "key": matrix(config, "width", "kv_heads"),
        "value": matrix(config, "width", "kv_heads"),
        "attention_output": matrix(config, "heads", "width"),
    }
    if config.qk_norm:
        leaves["query_norm"] = gain(config, "head_width")
        leaves["key_norm"] = gain(config, "head_width")
    return leaves


def feed_forward_parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of `transformer.FeedForward`."""
    leaves = {"up": matrix(config, "width", "ff_width"), "down": matrix(config, "ff_width", "width")}
    if config.activation == "swiglu":
        leaves["gate"] = matrix(config, "width", "ff_width")
    return leaves


def block() -> "type[nnx.Module]":
    """`transformer.Block`."""
    from model.transformer import Block  # here: planning counts parameters without JAX

    return Block
