"""The files of a tokenizer as transformers reads them: the same ids for every text, and the text back from them.

A text begins with the end of the document before it, as every text did in training, so the token that ends a document
is written in front (and is `bos_token` as well as `eos_token`). What the files of this project leave to its own code is
added: bytes become a vocabulary of byte-level BPE without merges, and characters and words get a decoder, without which
the library puts a space between two tokens. `undecorated` takes it away again.
"""

import json
from collections.abc import Mapping
from typing import Any

from core.errors import BadInput
from core.rundir import TOKENIZER
from model.exchange import Exported

TOKENIZER_CONFIG = "tokenizer_config.json"
END, UNKNOWN = "\0", "\0unknown"  # as data/tokenizers.py names them
SPLIT_BY_TYPE = ("char", "word")  # kinds whose files have no decoder


def tokenizer_files(model: Exported) -> tuple[str, dict[str, Any]]:
    """The content of tokenizer.json, and that of tokenizer_config.json.

    Raises:
      BadInput: the tokenizer has no token of the id that ends a document, and another has its place.
    """
    kind = model.tokenizer.partition(":")[0]
    plain = bytes_json() if kind == "byte" else json.loads(model.tokenizer_json)
    description, end = decorated(plain, kind, model.end)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        **({"unk_token": UNKNOWN} if kind in SPLIT_BY_TYPE else {}),
        "model_max_length": model.context,
        "clean_up_tokenization_spaces": False,
    }
    return json.dumps(description, ensure_ascii=False, separators=(",", ":")) + "\n", settings


def decorated(plain: Mapping[str, Any], kind: str, end: int) -> tuple[dict[str, Any], str]:
    """A tokenizer.json that writes the end token in front and decodes, and the text of that token."""
    text = _named(plain, end)
    others = [one for one in plain.get("added_tokens") or [] if one.get("id") != end]
    added = sorted([*others, _special(end, text)], key=lambda one: one["id"])
    description = {**plain, "added_tokens": added, "post_processor": in_front(end, text)}
    if kind in SPLIT_BY_TYPE:
        description["decoder"] = decoder()
    return description, text


def _named(description: Mapping[str, Any], identifier: int) -> str:
    """The text of the token that ends a document; NUL, which no document holds, where the file has none of its id."""
    vocabulary = description["model"].get("vocab")
    pairs = (
        vocabulary.items()
        if isinstance(vocabulary, Mapping)
        else ((entry[0], place) for place, entry in enumerate(vocabulary or []))
    )
    added = ((one["content"], one["id"]) for one in description.get("added_tokens") or [])
    names: dict[str, int] = {**dict(pairs), **dict(added)}
    found = next((name for name, number in names.items() if number == identifier), None)
    if found is not None:
        return str(found)
    if END in names or max(names.values(), default=-1) + 1 != identifier:
        raise BadInput(
            f"data.tokenizer: its tokenizer.json has no token {identifier}, which ends a document, and no place for it"
        )
    return END


def _special(identifier: int, content: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def in_front(identifier: int, content: str) -> dict[str, Any]:
    """A template that writes one token before every text."""
    special = {"SpecialToken": {"id": content, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [special, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {content: {"id": content, "ids": [identifier], "tokens": [content]}},
    }


def decoder() -> dict[str, Any]:
    """Tokens one after the other, the unknown one as U+FFFD."""
    replace = {"type": "Replace", "pattern": {"String": UNKNOWN}, "content": "\ufffd"}
    return {"type": "Sequence", "decoders": [replace, {"type": "Fuse"}]}


def bytes_json() -> dict[str, Any]:
    """Byte-level BPE without merges whose ids are the values of the bytes; NUL, which is 0, ends a document."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {END: 0, **{letter: byte for byte, letter in enumerate(byte_letters()) if byte}},
            "merges": [],
        },
    }


def byte_letters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019, GPT-2, encoder.py):
    itself where it can be seen in Latin-1, else the next one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


def undecorated(content: str, specification: str) -> str:
    """The tokenizer.json of a run from that of its export; empty for bytes.

    Args:
      content: what `tokenizer_files` wrote.
      specification: `data.tokenizer` of the run.

    Raises:
      BadInput: it is something else.
    """
    description, kind = json.loads(content), specification.partition(":")[0]
    if kind == "byte":
        expected = decorated(bytes_json(), kind, 0)[0]
        if description != expected:
            raise BadInput(f"{TOKENIZER}: is not the one of bytes, which spec.json names")
        return ""
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise BadInput(f"{TOKENIZER}: not a tokenizer.json (it has no model)")
    description["post_processor"] = None
    if kind in SPLIT_BY_TYPE:
        description["decoder"] = None
    if kind == "char":
        description["added_tokens"] = []
    return json.dumps(description, ensure_ascii=False, separators=(",", ":"))
