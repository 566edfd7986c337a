"""Tokenizers: bytes, characters, words, byte-pair encoding, or any tokenizer.json.

Token 0 ends a document for every kind trained here. Its text is the NUL byte, which no document holds, so no
text can be mistaken for it. A tokenizer.json of someone else's keeps its own end-of-document token where no text can
spell it, or gets one after its last id. Every tokenizer knows how many UTF-8 bytes of text each token of a document
stands for, the unknown ones included, so that nats per token convert into bits per byte exactly.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from core.errors import BadInput
from core.paths import expanded, read_regular
from data.library_tokenizer import SEPARATOR_TEXT, UNKNOWN_TEXT, LibraryTokenizer, character_bytes, code_points

MOST_BYTES = 512 * 2**20  # of a tokenizer.json; the largest vocabularies take some 40 MB
TRAINING_BYTES = 32 * 2**20  # a tokenizer is trained on the first documents of the train split, in stream order
_RARE_PER_MILLION = 1  # rarer characters are unknown, so that the unknown token itself is trained
# Every character belongs to exactly one word: runs of spaces, runs of word characters, single other signs.
_WORD_PATTERN = r"\s+|\w+|[^\w\s]"


class Tokenizer(Protocol):
    """What the cache asks of a tokenizer.

    Attributes:
      vocabulary: number of token ids, the separator included.
      separator: the id that ends a document; it stands for 0 bytes.
    """

    @property
    def vocabulary(self) -> int: ...

    @property
    def separator(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, without separator."""

    def token_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        """UTF-8 bytes that each token of `encode` stands for; they sum to the text's own."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; separators and unknown tokens as NUL and U+FFFD."""

    def decode_known(self, encoded: Sequence[np.ndarray]) -> list[str]:
        """The text of each, unknown tokens left out: what the tokens give back of a text."""

    def to_json(self) -> str:
        """The whole tokenizer as text: a tokenizer.json of the library `tokenizers`; empty for bytes."""


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
    """One token a byte; the byte's value is the id."""

    vocabulary: int = 256
    separator: int = 0

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]

    def token_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.ones(len(text.encode()), np.uint32) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", "replace")

    def decode_known(self, encoded: Sequence[np.ndarray]) -> list[str]:
        return [ids.astype(np.uint8).tobytes().decode() for ids in encoded]

    def to_json(self) -> str:
        return ""


class CharacterTokenizer:
    """One token a character (Unicode code point): 0 separator, 1 unknown, then characters by frequency.

    The same as its tokenizer.json in the library `tokenizers`, by one table look-up per text.
    """

    separator = 0

    def __init__(self, characters: Sequence[str]) -> None:
        self._characters = tuple(characters)
        self.vocabulary = len(self._characters) + 2
        self._table = np.ones(0x110000, np.int32)
        self._table[[ord(character) for character in self._characters]] = np.arange(2, self.vocabulary)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._table[code_points(text)] for text in texts]

    def token_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [character_bytes(text) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        alphabet = (SEPARATOR_TEXT, "\ufffd", *self._characters)
        return "".join(alphabet[token] for token in tokens)

    def decode_known(self, encoded: Sequence[np.ndarray]) -> list[str]:
        points = np.array([0, 0, *map(ord, self._characters)], "<u4")
        return [points[ids[ids > 1]].tobytes().decode("utf-32-le") for ids in encoded]

    def to_json(self) -> str:
        from tokenizers import Regex, models, pre_tokenizers  # 0.1 s, which bytes are spared
        from tokenizers import Tokenizer as LibraryModel

        names = (SEPARATOR_TEXT, UNKNOWN_TEXT, *self._characters)
        vocabulary = {name: number for number, name in enumerate(names)}
        tokenizer = LibraryModel(models.WordLevel(vocabulary, unk_token=UNKNOWN_TEXT))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        return tokenizer.to_str(pretty=False)


def identity(specification: str) -> str:
    """What, beside the corpus, decides the tokenizer: its specification, and for a file its content.

    Raises:
      BadInput: file:PATH is missing.
    """
    if not specification.startswith("file:"):
        return specification
    return f"file, what it loses counted, {hashlib.sha256(_file_of(specification)).hexdigest()}"


def _file_of(specification: str) -> bytes:
    """The content of file:PATH."""
    path = expanded(specification.removeprefix("file:"), f"data.tokenizer={specification!r}")
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise BadInput(
            f"data.tokenizer={specification!r}: {error.strerror}; must be a tokenizer.json"
        ) from None


def make(specification: str, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of a specification, trained on the first `TRAINING_BYTES` of `texts` where it must be.

    Raises:
      BadInput: a file that is no tokenizer.json.
    """
    kind, _, rest = specification.partition(":")
    if kind == "byte":
        return ByteTokenizer()
    if kind == "file":
        try:
            content = _file_of(specification).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"data.tokenizer={specification!r}: {error}; must be a tokenizer.json") from None
        return load(specification, content)
    sample = _first_bytes(texts, TRAINING_BYTES)
    if kind == "char":
        return _train_characters(sample)
    return LibraryTokenizer(_train_library(kind, int(rest), sample))


def load(specification: str, content: str) -> Tokenizer:
    """The tokenizer that `to_json` wrote as `content`.

    Raises:
      BadInput: `content` is no tokenizer.json.
    """
    if specification == "byte":
        return ByteTokenizer()
    try:
        if specification == "char":
            vocabulary = json.loads(content)["model"]["vocab"]
            return CharacterTokenizer(sorted(vocabulary, key=vocabulary.__getitem__)[2:])
        return LibraryTokenizer(content, f"data.tokenizer={specification!r}")
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a malformed file
        raise BadInput(f"data.tokenizer={specification!r}: not a tokenizer.json ({str(error)[:200]})") from None


def _train_characters(texts: Iterable[str]) -> CharacterTokenizer:
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(text)
    least = counts.total() * _RARE_PER_MILLION / 1e6
    frequent = [character for character, count in counts.items() if count >= least]
    return CharacterTokenizer(sorted(frequent, key=lambda character: (-counts[character], character)))


def _train_library(kind: str, size: int, texts: Iterable[str]) -> str:
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers  # 0.1 s
    from tokenizers import Tokenizer as LibraryModel

    trainer: Any
    if kind == "word":
        tokenizer = LibraryModel(models.WordLevel(unk_token=UNKNOWN_TEXT))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD_PATTERN), "isolated")
        special = [SEPARATOR_TEXT, UNKNOWN_TEXT]
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    else:
        tokenizer = LibraryModel(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[SEPARATOR_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=False)


def _first_bytes(texts: Iterable[str], limit: int) -> Iterable[str]:
    used = 0
    for text in texts:
        if used >= limit:
            return
        used += len(text.encode())
        yield text
