"""A folder in the layout of transformers, read: its network, its weights, its tokenizer. Nothing in it is run."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from core.files import read_object
from core.reading import printable, read_bytes
from model.exchange.huggingface.config import CONFIG, Described, described
from model.exchange.huggingface.tokenizer import TOKENIZER
from model.exchange.huggingface.weights import arrays, read_weights

MOST_TOKENIZER_BYTES = 512 * 2**20  # as data/tokenizers.py has it


@dataclasses.dataclass(frozen=True)
class HuggingFaceFolder:
    """What a folder holds.

    Attributes:
      network: of config.json. params: its tree of float32 arrays.
      tokenizer_json: the file as it is.
      sha256: over names, shapes and numbers of all weights in float32.
    """

    network: Described
    params: Mapping[str, Any]
    tokenizer_json: str
    sha256: str


def read_folder(folder: Path) -> HuggingFaceFolder:
    """Read a folder.

    Raises:
      BadInput: no such folder, a file that is missing or damaged, a network that is not computed here, or weights that
        are not those of its config.json.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; must be one with a {CONFIG}")
    network = described(read_object(folder / CONFIG), folder / CONFIG)
    try:
        tokenizer_json = read_bytes(folder / TOKENIZER, MOST_TOKENIZER_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"{folder}: holds no {TOKENIZER} (the one file of a fast tokenizer; others are not read)"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{folder / TOKENIZER}: not UTF-8 ({printable(str(error))})") from None
    params = read_weights(folder, network.network)
    return HuggingFaceFolder(network, params, tokenizer_json, weights_sha256(network, params))


def weights_sha256(network: Described, params: Mapping[str, Any]) -> str:
    """Which weights these are, however they are stored: two folders of equal numbers have one hash."""
    digest = hashlib.sha256()
    for name, array in arrays(network.network, params):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()
