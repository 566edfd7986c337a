"""Texts that end a text. They are looked for in the text, not among tokens: one may begin or end within a token."""

from collections.abc import Callable, Sequence

import numpy as np

Stops = Callable[[np.ndarray], int | None]


def stop_texts(texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> Stops | None:
    """A `stops` of `generate`, where there is a text: as many tokens as it takes to spell the first of `texts`."""

    def stops(tokens: np.ndarray) -> int | None:
        def spelled(count: int) -> bool:
            text = decode(tokens[:count].tolist())
            return any(stop in text for stop in texts)

        if not spelled(len(tokens)):
            return None
        return next(count for count in range(1, len(tokens) + 1) if spelled(count))

    return stops if texts else None


def before_stop(text: str, texts: Sequence[str]) -> str:
    """The text up to the first of `texts`."""
    return text[: min((text.index(stop) for stop in texts if stop in text), default=len(text))]


def first_stop(text: str, texts: Sequence[str]) -> str | None:
    """Which of `texts` begins first; of several that begin together, the longest."""
    found = [(text.index(stop), -len(stop), stop) for stop in texts if stop in text]
    return min(found)[2] if found else None
