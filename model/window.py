"""How many positions of a window each part of the network computes: what the ledger multiplies with."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Window:
    """Positions of one sequence of T tokens of text.

    Attributes:
      tokens: T, what tokens, budgets and FLOPs per token refer to.
      read: positions of the stack of blocks; of an encoder_decoder those of its decoder.
      source: positions of the encoder of an encoder_decoder; 0 for one stack.
      predicted: positions whose logits are computed.
    """

    tokens: int
    read: int
    source: int
    predicted: int


def whole(length: int) -> Window:
    """Every token is read, and every next one predicted."""
    return Window(length, length, 0, length)
