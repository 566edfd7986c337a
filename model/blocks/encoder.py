"""The block of an encoder: the decoder's, whose attention sees both sides (Devlin et al. 2019, arXiv 1810.04805)."""

from typing import TYPE_CHECKING

from model.blocks import decoder
from model.config import ModelConfig
from model.parameters import Leaf
from model.window import Window

if TYPE_CHECKING:
    from flax import nnx

CAUSAL = False
OBJECTIVE = "masked"


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of one block: those of a decoder."""
    return decoder.parameters(config)


def attention_pairs(config: ModelConfig, query: str, window: Window) -> tuple[float, float]:
    """Every query sees every key."""
    return window.read**2, window.read**2


def block() -> "type[nnx.Module]":
    """`both_sides.EncoderBlock`."""
    from model.both_sides import EncoderBlock  # here: planning counts parameters without JAX

    return EncoderBlock
