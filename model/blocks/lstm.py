"""The decoder's block with an LSTM in the place of attention (Hochreiter & Schmidhuber 1997; model/mixers/lstm.py).

    x = x + LSTM(norm(x)) W_out;  x = x + feed_forward(norm(x))

Residual and normalized first as attention is, so that depth works and nothing else differs from the decoder. State and
stream are equally wide. The gates have no bias but the forget gate's, which starts at one (Gers et al. 2000; Jozefowicz
et al. 2015, section 4). It reads no heads: model.heads and model.kv_heads change nothing.
"""

from typing import TYPE_CHECKING, Any

from model.blocks.decoder import feed_forward_parameters
from model.config import ModelConfig
from model.parameters import Leaf, gain, matrix

if TYPE_CHECKING:
    from flax import nnx

UNREAD = ("head_width", "qk_norm", "rope_base")
MIXER = "an LSTM"


def parameters(config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of one block; `gates` are input, forget, output and candidate, side by side."""
    gates = ("gates", 4 * config.width)
    return {
        "recurrence_norm": gain(config, "width"),
        "input": matrix(config, "width", gates),
        "recurrent": matrix(config, "width", gates),
        "forget_bias": gain(config, "state"),
        "output": matrix(config, "state", "width"),
        "feed_forward_norm": gain(config, "width"),
        **feed_forward_parameters(config),
    }


def mixer_floats(config: ModelConfig, length: int) -> float:
    """Gates before and after their sigmoids, cells and their tanh, hidden."""
    return 14 * config.width


def kept(config: ModelConfig, capacity: int) -> Any:
    """Hidden and cell."""
    return [(((config.width,), config.compute_dtype), ((config.width,), "float32"))]


def block() -> "type[nnx.Module]":
    """`LSTMBlock`."""
    from model.mixers.lstm import LSTMBlock  # here: planning counts parameters without JAX

    return LSTMBlock


def decoding() -> "dict[type[nnx.Module], type[nnx.Module]]":
    """What goes on from the state that is kept."""
    from model.mixers.lstm import LSTM, ResumedLSTM

    return {LSTM: ResumedLSTM}
