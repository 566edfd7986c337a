"""Tokenizers of the library `tokenizers`: words, byte-pair encoding, or a tokenizer.json of the user's own."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import BadInput

SEPARATOR_TEXT = "\0"
UNKNOWN_TEXT = "\0unknown"
MOST_TOKENS = 2**24  # ids beyond any vocabulary are a mistake, and tables of that length do not fit
_END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


class LibraryTokenizer:
    """A tokenizer of the library `tokenizers`: words, byte-pair encoding, or the user's own file."""

    def __init__(self, content: str, key: str = "data.tokenizer") -> None:
        """Args: content: a tokenizer.json; key: what a refusal begins with."""
        from tokenizers import Tokenizer as LibraryModel  # 0.1 s

        self._content, self._key = content, key
        description = json.loads(content)
        check(description, key)
        self._library = LibraryModel.from_str(content)
        self._library.no_truncation()
        self._library.no_padding()
        # Text that spells a special token is text: no document can end itself.
        self._library.encode_special_tokens = True
        ids = self._library.get_vocab(with_added_tokens=True)
        largest = max(ids.values(), default=-1)
        if largest >= MOST_TOKENS:
            raise BadInput(f"{key}: a token has the id {largest}; must be below {MOST_TOKENS}")
        ends = (
            ids[name] for name in (SEPARATOR_TEXT, *_END_TOKENS) if name in ids and self._unspelled(name, ids)
        )
        self.separator = next(ends, largest + 1)
        self.vocabulary = max(largest, self.separator) + 1
        self._byte_level = "ByteLevel" in json.dumps(description.get("pre_tokenizer"))
        self._unknown = _unknown_id(description["model"], ids)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._encoded(texts, self._library.encode_batch_fast)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]

    def token_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._encoded(texts, self._library.encode_batch)
        return [self._bytes_of(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def _encoded(self, texts: Sequence[str], encode: Callable[..., list[Any]]) -> list[Any]:
        try:
            return encode(list(texts), add_special_tokens=False)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a text that it cannot encode
            raise BadInput(f"{self._key}: cannot encode every text ({str(error)[:200]})") from None

    def _unspelled(self, name: str, ids: Mapping[str, int]) -> bool:
        """Whether no text becomes this token. Documents hold no NUL; for other names, texts that spell it say so."""
        if name == SEPARATOR_TEXT:
            return True
        spelled = (name, f"a {name} b", f"a{name}b", f"{name}{name}", f" {name}\n")
        return all(ids[name] not in tokens for tokens in self.encode(spelled))

    def decode(self, tokens: Sequence[int]) -> str:
        if self._library.decoder is not None:
            return self._library.decode(list(tokens), skip_special_tokens=False)
        replaced = {self._unknown: "\ufffd"}
        return "".join(replaced.get(token) or self._library.id_to_token(token) or "" for token in tokens)

    def decode_known(self, encoded: Sequence[np.ndarray]) -> list[str]:
        known = [
            ids[ids != self._unknown].tolist() if self._unknown is not None else ids.tolist() for ids in encoded
        ]
        if self._library.decoder is not None:
            return self._library.decode_batch(known, skip_special_tokens=False)
        return [self.decode(ids) for ids in known]

    def to_json(self) -> str:
        return self._content

    @functools.cached_property
    def _length_of_token(self) -> np.ndarray:
        """Byte-level vocabularies write each byte as one character: a token's length is its bytes. (V,)"""
        return np.array(
            [len(self._library.id_to_token(token) or "") for token in range(self.vocabulary)], np.uint32
        )

    def _bytes_of(self, text: str, encoding: Any) -> np.ndarray:
        total = len(text.encode())
        if self._byte_level:
            lengths = self._length_of_token[np.array(encoding.ids, np.int64)]
            if int(lengths.sum()) == total:
                return lengths
        # By offsets: a token owns the text from its first character to the next token's first, so that
        # characters which normalization drops are counted too, and the sum is the document's bytes.
        starts = np.concatenate([[0], np.cumsum(character_bytes(text), dtype=np.int64)])
        bounds = starts[np.array([offset[0] for offset in encoding.offsets], np.int64)]
        if not len(bounds):
            return np.zeros(0, np.uint32)
        bounds[0] = 0
        return np.diff(np.append(np.maximum.accumulate(bounds), total)).astype(np.uint32)


def check(description: Any, key: str) -> None:
    """Refuse a tokenizer.json that gives other tokens each time, or that cannot say "unknown".

    Raises:
      BadInput: the message begins with `key`.
    """
    model = description.get("model") if isinstance(description, dict) else None
    if not isinstance(model, dict):
        raise BadInput(f"{key}: not a tokenizer.json (it has no model)")
    if model.get("dropout"):
        raise BadInput(
            f"{key}: model.dropout={model['dropout']}: the same text gives other tokens each time; must be null"
        )
    unknown = model.get("unk_token")
    if model.get("type") in ("WordLevel", "WordPiece", "BPE") and unknown is not None:
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict) and unknown not in vocabulary:
            raise BadInput(f"{key}: model.unk_token={unknown!r}: must be one of the words of model.vocab")


def _unknown_id(model: Mapping[str, Any], ids: Mapping[str, int]) -> int | None:
    """The token that stands for whatever the vocabulary does not hold; None where there is none."""
    return model["unk_id"] if isinstance(model.get("unk_id"), int) else ids.get(model.get("unk_token") or "")


def character_bytes(text: str) -> np.ndarray:
    """UTF-8 length of each character. (characters,)"""
    points = code_points(text)
    return (1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)).astype(np.uint32)


def code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
