"""What an objective makes of a window of text: positions that are computed, ids beyond the tokenizer's. Without JAX.

An objective names one of `KINDS` as its literal `WINDOW`; one that names none reads all tokens and predicts all.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from core.errors import BadInput
from data import corruption
from model.window import Window, whole


class WindowSettings(Protocol):
    """The fields of `RunSpec` that are read here."""

    @property
    def mask_share(self) -> float: ...
    @property
    def span_mean(self) -> float: ...
    @property
    def source_share(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """What is computed of a window, and the rows at the vocabulary's end that stand for no token of text."""

    window: Window
    special: int = 0


def plain(length: int, settings: WindowSettings, kind: str) -> WindowPlan:
    """Every token is read and every next one predicted."""
    return WindowPlan(whole(length))


def masked(length: int, settings: WindowSettings, kind: str) -> WindowPlan:
    """Logits of hidden positions alone; one mask token."""
    return WindowPlan(
        Window(length, length, 0, corruption.masked_count(length, settings.mask_share)), special=1
    )


def span(length: int, settings: WindowSettings, kind: str) -> WindowPlan:
    """What is left goes through the encoder, what is hidden through the decoder; a sentinel a span and one more."""
    try:
        found = corruption.span_lengths(length, settings.mask_share, settings.span_mean)
    except ValueError as error:
        raise BadInput(f"data.sequence_length={length}: {error}; must be at least 2") from None
    return WindowPlan(Window(length, found.target, found.source, found.target), special=found.spans + 1)


def prefix(length: int, settings: WindowSettings, kind: str) -> WindowPlan:
    """The beginning goes through the encoder and the rest through the decoder; a decoder alone reads all."""
    if kind == "decoder":
        prefix_length(length, settings.source_share)
        return WindowPlan(whole(length))
    source = prefix_length(length, settings.source_share)
    return WindowPlan(Window(length, length - source, source, length - source))


def prefix_length(length: int, share: float) -> int:
    """Tokens of the source, rounded.

    Raises:
      BadInput: a window has no two tokens.
    """
    if length < 2:
        raise BadInput(
            f"data.sequence_length={length}: must be at least 2, a token of source and one of target"
        )
    return min(length - 1, max(1, round(length * share)))


KINDS: dict[str, Callable[[int, WindowSettings, str], WindowPlan]] = {
    "plain": plain,
    "masked": masked,
    "span": span,
    "prefix": prefix,
}
