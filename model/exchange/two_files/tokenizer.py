"""A tokenizer as tables that numpy reads: what each token spells, merges by token, and classes of characters.

Words and pieces are cut by classes of Unicode characters, and versions of Unicode differ: Python 3.11 calls 9,272
letters of the library `tokenizers` none. So each character's class is asked of the library and written down.
"""

import dataclasses
import functools
import json
from typing import Any

import numpy as np

from core.errors import BadInput

CHARACTERS = "[\\s\\S]"
WORDS = r"\s+|\w+|[^\w\s]"
NEVER, ALL = "(?!)", ".+"
CONTRACTIONS = "'(?:s|t|re|ve|m|ll|d)"  # of GPT-2's pattern, as are the classes below
PIECES = r" ?L+| ?N+| ?\.+|\s+(?!\S)|\s+"
NO_BYTES = np.zeros(0, np.int32)
NO_MERGES = np.zeros((0, 3), np.int32)


@dataclasses.dataclass(frozen=True)
class Tables:
    """What the program reads of a tokenizer.

    Attributes:
      texts: the bytes that each token spells.
      of_text, of_classes: where a text is cut: the first matches the text itself; where it does not, the second matches
        one letter for each character's class (L, N, space, tab for other spaces, dot for the rest).
      classes: patterns of the library by letter.
      unknown: the token of a word that is none; first_word: the least token that a text can spell.
      byte_ids: the token of every byte, (256,); empty where a piece is a word.
      merges: two tokens and the one that they make, in the order learned, (n, 3).
    """

    texts: list[bytes]
    of_text: str
    of_classes: str
    classes: tuple[tuple[str, str], ...] = ()
    unknown: int = 0
    first_word: int = 0
    byte_ids: np.ndarray = dataclasses.field(default_factory=lambda: NO_BYTES)
    merges: np.ndarray = dataclasses.field(default_factory=lambda: NO_MERGES)

    @property
    def about(self) -> dict[str, Any]:
        """The settings, as the program's JSON has them."""
        names = ("of_text", "of_classes", "unknown", "first_word")
        return {name: getattr(self, name) for name in names}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, as the program's file names them."""
        starts, names = classes_of_characters(self.classes)
        return {
            "token_text": np.frombuffer(b"".join(self.texts), np.uint8),
            "token_ends": np.cumsum([len(text) for text in self.texts], dtype=np.int64),
            "byte_ids": self.byte_ids,
            "merges": self.merges,
            "class_starts": starts,
            "class_names": np.frombuffer(names.encode(), np.uint8),
        }


def tables(kind: str, content: str, vocabulary: int, key: str) -> Tables:
    """Of a tokenizer, by its file.

    Args:
      kind: byte, char, or any other. content: its tokenizer.json; empty for byte.
      vocabulary: tokens, the end token included. key: what a refusal begins with.

    Raises:
      BadInput: it does what these tables cannot say.
    """
    if kind == "byte":
        return Tables(
            [bytes([value]) for value in range(256)], ALL, ".", byte_ids=np.arange(256, dtype=np.int32)
        )
    file = json.loads(content)
    model, cut = file["model"], file.get("pre_tokenizer") or {}
    names = _names(file, vocabulary)
    if file.get("normalizer"):
        raise _refusal(key, "normalizer", file["normalizer"], "none")
    if spelled := [one["content"] for one in file.get("added_tokens") or [] if not one["special"]]:
        raise _refusal(key, "added_tokens", spelled[0], "special tokens alone, which no text spells")
    if model["type"] == "WordLevel":
        return _words(kind, model, cut, names, file.get("decoder"), key)
    if model["type"] == "BPE":
        return _byte_pairs(model, cut, names, file.get("decoder"), key)
    raise _refusal(key, "model.type", model["type"], "BPE or WordLevel")


def _refusal(key: str, name: str, value: Any, allowed: str) -> BadInput:
    return BadInput(f"{key}: {name}={json.dumps(value)[:120]}: two files hold {allowed}")


def _names(file: dict[str, Any], vocabulary: int) -> list[str]:
    names = [""] * vocabulary
    added = {one["content"]: one["id"] for one in file.get("added_tokens") or []}
    for name, number in {**file["model"]["vocab"], **added}.items():
        names[number] = name
    return names


def _words(
    kind: str, model: dict[str, Any], cut: dict[str, Any], names: list[str], decoder: Any, key: str
) -> Tables:
    pattern = cut.get("pattern", {}).get("Regex")
    isolated = {"type": "Split", "behavior": "Isolated", "invert": False}
    if pattern not in (CHARACTERS, WORDS) or any(cut.get(name) != value for name, value in isolated.items()):
        raise _refusal(key, "pre_tokenizer", cut, "characters, words, or the byte-level pieces of GPT-2")
    if decoder not in (None, {"type": "Fuse"}):
        raise _refusal(key, "decoder", decoder, "none for words")
    if model.get("unk_token") is None:
        raise _refusal(key, "model.unk_token", None, "words with an unknown one")
    unknown = model["vocab"][model["unk_token"]]
    texts = ["\ufffd" if number == unknown else name for number, name in enumerate(names)]
    return Tables(
        [text.encode() for text in texts],
        *((".", ".") if pattern == CHARACTERS else (NEVER, r"\s+|L+|\.")),
        classes=() if pattern == CHARACTERS else ((r"\s", "\t"), (r"\w", "L")),
        unknown=unknown,
        first_word=2 if kind == "char" else 0,  # the separator and the unknown one are no characters
    )


def _byte_pairs(model: dict[str, Any], cut: dict[str, Any], names: list[str], decoder: Any, key: str) -> Tables:
    if cut.get("type") != "ByteLevel" or cut.get("add_prefix_space"):
        raise _refusal(key, "pre_tokenizer", cut, "characters, words, or the byte-level pieces of GPT-2")
    if decoder is None or decoder["type"] != "ByteLevel":
        raise _refusal(key, "decoder", decoder, "ByteLevel for bytes")
    for name in (
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        if model.get(name):
            raise _refusal(key, f"model.{name}", model[name], "none of it")
    ids, letters = model["vocab"], byte_letters()
    if missing := [value for value, letter in enumerate(letters) if letter not in ids]:
        raise _refusal(key, "model.vocab", f"no token of byte {missing[0]}", "a token of every byte")
    of_letter = {letter: bytes([value]) for value, letter in enumerate(letters)}

    def text(name: str) -> bytes:
        known = all(letter in of_letter for letter in name)
        return b"".join(of_letter[letter] for letter in name) if known else name.encode()

    pairs = [tuple(one.split(" ")) if isinstance(one, str) else tuple(one) for one in model["merges"]]
    merges = [(ids[first], ids[second], ids[first + second]) for first, second in pairs]
    by_pieces = cut.get("use_regex", True)
    return Tables(
        [text(name) for name in names],
        *((CONTRACTIONS, PIECES) if by_pieces else (ALL, ".")),
        classes=((r"\s", "\t"), (r"\p{L}", "L"), (r"\p{N}", "N")) if by_pieces else (),
        byte_ids=np.array([ids[letter] for letter in letters], np.int32),
        merges=np.array(merges, np.int32).reshape(-1, 3),
    )


def byte_letters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: itself where it prints, else one from 256."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printing]
    return [chr(value) if value in printing else chr(256 + others.index(value)) for value in range(256)]


@functools.cache
def classes_of_characters(classes: tuple[tuple[str, str], ...]) -> tuple[np.ndarray, str]:
    """First code point of every run of characters of one class, and the letter of each run's class."""
    letters = np.full(0x110000, ord("."), np.uint8)
    points = np.r_[0:0xD800, 0xE000:0x110000]  # but surrogates
    runs = "|".join(f"{pattern}+" for pattern, _ in classes)
    starts = np.array([start for start, _ in _pieces(points, runs, "isolated")]) if classes else points[:0]
    lengths = np.diff(np.append(starts, len(points)))
    for pattern, letter in classes:
        matched = np.ones(len(starts), bool)
        for start, end in _pieces(points[starts], pattern, "removed"):
            matched[start:end] = False
        letters[points[np.repeat(matched, lengths)]] = ord(letter)
    if classes:
        letters[ord(" ")] = ord(" ")
    starts = np.flatnonzero(np.diff(letters, prepend=0)).astype(np.int32)
    return starts, letters[starts].tobytes().decode()


def _pieces(points: np.ndarray, pattern: str, behavior: str) -> list[tuple[int, int]]:
    """Where a pattern of the library `tokenizers` cuts a text of these code points."""
    from tokenizers import Regex, pre_tokenizers  # 0.1 s

    text = points.astype("<u4").tobytes().decode("utf-32-le")
    return [span for _, span in pre_tokenizers.Split(Regex(pattern), behavior).pre_tokenize_str(text)]
