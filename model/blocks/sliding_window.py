"""The decoder's block with attention to the last `model.window` positions (Beltagy et al. 2020, arXiv 2004.05150).

A position sees itself and the W - 1 before it. L layers carry what is up to L (W - 1) positions back. With W >= T it is
the decoder, bit for bit where both are computed token-major.
"""

from typing import TYPE_CHECKING, Any

from model.blocks.decoder import parameters
from model.config import ModelConfig
from model.window import Window

if TYPE_CHECKING:
    from flax import nnx

__all__ = ["attention_pairs", "block", "decoding", "kept", "mixer_floats", "parameters"]

READS = ("window",)
MIXER = "attention to a window"
TINY = {"window": 3}
WEIGHT_COPIES = (
    2.4  # of a head's weights that the backward pass holds, as planning/memory_form.py has for attention
)


def attention_pairs(config: ModelConfig, query: str, window: Window) -> tuple[float, float]:
    """Those that causality leaves of W keys a query, and W for each."""
    length = window.read
    width = min(config.window, length)
    return width * length - width**2 / 2, width * length


def mixer_floats(config: ModelConfig, length: int) -> float:
    """Queries, keys, values, normalized, turned and mixed; and the weights of two windows, or of all positions."""
    heads, kv_heads = (count * config.resolved_head_width for count in (config.heads, config.kv_heads))
    projections = 2 * heads + 2 * kv_heads + (2 if config.qk_norm else 1) * (heads + kv_heads)
    weights = config.heads * (2 * config.window if 2 * config.window < length else length)
    return projections + WEIGHT_COPIES * weights


def kept(config: ModelConfig, capacity: int) -> Any:
    """Keys and values of the last W positions."""
    shape = (min(config.window, capacity), config.kv_heads, config.resolved_head_width)
    return [((shape, config.compute_dtype), (shape, config.compute_dtype))]


def block() -> "type[nnx.Module]":
    """`WindowBlock`."""
    from model.mixers.window import WindowBlock  # here: planning counts parameters without JAX

    return WindowBlock


def decoding() -> "dict[type[nnx.Module], type[nnx.Module]]":
    """What goes on from the keys and values that are kept."""
    from model.mixers.window import ResumedWindow, WindowAttention

    return {WindowAttention: ResumedWindow}
