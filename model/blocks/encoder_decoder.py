"""An encoder over the source and a decoder that attends to its result, `depth` blocks each (Vaswani et al. 2017).

The tree holds layer l of both stacks as one block: encoder_* are the arrays of the encoder, cross_* those of the
decoder's attention to the source. The decoder normalizes what the encoder gives once a layer, in place of one
normalization at the encoder's end.
"""

from typing import TYPE_CHECKING

from model.blocks import decoder
from model.config import ModelConfig
from model.parameters import Leaf, gain
from model.window import Window

if TYPE_CHECKING:
    from flax import nnx

CAUSAL = False
SOURCE = ("encoder_", "cross_key", "cross_value")
OBJECTIVE = "prefix"
MUP = False


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of layer l of both stacks."""
    return {
        **{f"encoder_{name}": leaf for name, leaf in decoder.parameters(config).items()},
        **decoder.parameters(config),
        "cross_norm": gain(config, "width"),
        "source_norm": gain(config, "width"),
        **{f"cross_{name}": leaf for name, leaf in decoder.attention_parameters(config).items()},
    }


def attention_pairs(config: ModelConfig, query: str, window: Window) -> tuple[float, float]:
    """All pairs in the encoder and from decoder to encoder, half of them in the decoder."""
    if query.startswith("encoder_"):
        return window.source**2, window.source**2
    if query.startswith("cross_"):
        return window.read * window.source, window.read * window.source
    return window.read**2 / 2, window.read**2


def block() -> "type[nnx.Module]":
    """`both_sides.DecoderBlock`."""
    from model.both_sides import DecoderBlock  # here: planning counts parameters without JAX

    return DecoderBlock


def encoder() -> "type[nnx.Module]":
    """`both_sides.EncoderBlock`, built from the arrays encoder_*."""
    from model.both_sides import EncoderBlock

    return EncoderBlock
