"""The decoder's block with a gated linear recurrence in the place of attention: Griffin's (De et al. 2024, arXiv
2402.19427, sections 2.3 and 2.4; model/mixers/linear_recurrence.py).

    x = x + (gelu(norm(x) V) * recurrence(norm(x))) W_out;  x = x + feed_forward(norm(x))

Training computes all positions at once, decoding keeps one state. State and stream are equally wide. It reads no heads:
model.heads and model.kv_heads change nothing.
"""

from typing import TYPE_CHECKING, Any

from model.blocks.decoder import feed_forward_parameters
from model.config import ModelConfig
from model.parameters import Leaf, gain, matrix

if TYPE_CHECKING:
    from flax import nnx

UNREAD = ("head_width", "qk_norm", "rope_base")
MIXER = "a linear recurrence"
TAPS = 4  # positions that the recurrence's input is a weighted sum of, channel by channel: the paper's


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of one block."""
    products = ("input", "side", "recurrence_gate", "input_gate")
    return {
        "recurrence_norm": gain(config, "width"),
        **{name: matrix(config, "width", "state") for name in products},
        "taps": matrix(config, ("taps", TAPS), "state"),
        "rate": gain(config, "state"),
        "output": matrix(config, "state", "width"),
        "feed_forward_norm": gain(config, "width"),
        **feed_forward_parameters(config),
    }


def mixer_floats(config: ModelConfig, length: int) -> float:
    """Four products, their gates, the sum of taps, decays, states, and what the levels of the parallel scan read."""
    return 20 * config.width


def kept(config: ModelConfig, capacity: int) -> Any:
    """The state, and what the taps read of earlier positions."""
    return [(((config.width,), "float32"), ((TAPS - 1, config.width), config.compute_dtype))]


def block() -> "type[nnx.Module]":
    """`LinearRecurrentBlock`."""
    from model.mixers.linear_recurrence import (
        LinearRecurrentBlock,
    )  # here: planning counts parameters without JAX

    return LinearRecurrentBlock


def decoding() -> "dict[type[nnx.Module], type[nnx.Module]]":
    """What goes on from the state that is kept."""
    from model.mixers.linear_recurrence import LinearRecurrence, ResumedRecurrence

    return {LinearRecurrence: ResumedRecurrence}
