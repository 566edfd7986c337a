"""A model that knows the last byte only, behind `TextModel`: every number follows from its table by the chain rule."""

import math
from collections.abc import Sequence

import numpy as np

from data.tokenizers import ByteTokenizer
from model.decode.generate import Prompt
from training.evaluate.text_model import TextModel


class TableModel:
    """P(next byte | last byte), float64.

    Args:
      likely: bytes that follow a byte, likeliest of all.
    """

    def __init__(self, seed: int = 0, likely: str = "", uniform: bool = False):
        self.table_VV = np.random.default_rng(seed).dirichlet(np.full(256, 0.3), 256) + 1e-6
        for before, after in zip(likely[::2], likely[1::2], strict=True):
            self.table_VV[ord(before), ord(after)] = 2.0
        if uniform:
            self.table_VV = np.ones((256, 256))
        self.table_VV /= self.table_VV.sum(1, keepdims=True)

    def answer(self, tokens_BS, positions_B1, options_BK):
        logp_BTV = np.log(self.table_VV[tokens_BS[:, :-1]])
        nll_BT = -np.take_along_axis(logp_BTV, tokens_BS[:, 1:, None], axis=2)[..., 0]
        last_B = np.take_along_axis(tokens_BS, np.maximum(positions_B1 - 1, 0), axis=1)[:, 0]
        return (
            nll_BT,
            logp_BTV.argmax(-1),
            np.take_along_axis(np.log(self.table_VV[last_B]), options_BK, axis=1),
        )

    def write(self, prompts: Sequence[Prompt], controls, most: int, stops: Sequence[str]) -> list[list[int]]:
        assert controls.greedy
        return [self.greedy(int(prompt.tokens[-1]), most) for prompt in prompts]

    def greedy(self, last: int, most: int) -> list[int]:
        """Up to the end token."""
        written: list[int] = []
        while len(written) < most and (last := int(self.table_VV[last].argmax())):
            written.append(last)
        return written

    def log_probability(self, before: str, text: str) -> float:
        """Of a text after another that begins a document, nats."""
        whole = b"\0" + before.encode() + text.encode()
        start = len(before.encode())
        return sum(
            math.log(self.table_VV[a, b]) for a, b in zip(whole[start:], whole[start + 1 :], strict=False)
        )

    def text_model(self, context: int = 64, batch: int | None = None) -> TextModel:
        return TextModel(ByteTokenizer(), context, 256, self.answer, self.write, batch=batch)
