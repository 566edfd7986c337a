"""Text into tokens, checked: the same tokens twice, no end within a document, and what decoding gives back.

A model is not charged for spelling what its tokenizer throws away: its bits per byte are too low by what the lost bytes
would cost.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from core.errors import BadInput
from data.tokenizers import ByteTokenizer, Tokenizer


@dataclasses.dataclass(frozen=True)
class EncodedTexts:
    """Some texts in tokens.

    Attributes:
      tokens: ids of each text, without separator.
      token_bytes: UTF-8 bytes that each token stands for; empty where not asked for.
      lost: UTF-8 bytes of all texts that `decode` does not give back.
    """

    tokens: list[np.ndarray]
    token_bytes: list[np.ndarray]
    lost: int


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], specification: str, with_bytes: bool
) -> EncodedTexts:
    """Encode texts, and refuse a tokenizer that cannot be used on them.

    Args:
      specification: `data.tokenizer`, for a message.

    Raises:
      BadInput: a text cannot be encoded, holds the end of a document, or gives other tokens the second time.
    """
    tokens = tokenizer.encode(texts)
    if any((ids == tokenizer.separator).any() for ids in tokens) and not isinstance(tokenizer, ByteTokenizer):
        raise BadInput(
            f"data.tokenizer={specification!r}: a text of the corpus holds token {tokenizer.separator}, which ends a "
            "document; give the tokenizer.json an end-of-document token that is special"
        )
    weights = tokenizer.token_bytes(texts) if with_bytes else []
    if with_bytes and [len(ids) for ids in tokens] != [len(own) for own in weights]:
        raise BadInput(
            f"data.tokenizer={specification!r}: the same text gives other tokens the second time; it must give the "
            "same always"
        )
    return EncodedTexts(tokens, weights, bytes_lost(tokenizer, texts, tokens))


def bytes_lost(tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[np.ndarray]) -> int:
    """UTF-8 bytes of `texts` that `decode` does not give back.

    Of a text that comes back changed, a character counts as given back as often as it stands in both: characters that
    decoding adds, such as a first space, lose nothing.

    Args:
      encoded: token ids of each text.
    """
    lost = 0
    for text, back in zip(texts, tokenizer.decode_known(encoded), strict=True):
        if back != text:
            missing = collections.Counter(text) - collections.Counter(back)
            lost += sum(count * len(character.encode()) for character, count in missing.items())
    return lost
