"""Formats in which a trained model leaves the house, one file each, found by its place.

`python launch.py export RUN --format NAME` takes the file NAME.py of this folder, or the folder NAME of several files;
in the flag an underscore may be a dash. Files that begin with an underscore are no formats. A format gives

    DTYPES = ("float32", "bfloat16")              what it can store; the first is what it stores unless asked
    refuse(config: ModelConfig) -> None           raises BadInput, naming the field, where the network has no exact
                                                  form in this format; called before any weight is read
    write(model: Exported, folder: Path, dtype: str) -> None
                                                  writes its files into an empty folder

and nothing else is touched. training/export.py reads the run, flushes what was written to the disk and renames the
folder into its place, so that an export that was torn is never taken for a whole one.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from core import discover
from core.errors import BadInput
from model.config import ModelConfig

FOLDER = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Exported:
    """A trained model on its way out. Pure values, no JAX.

    Attributes:
      name: of the run.
      config: the network.
      params: the tree of model/parameters.py, float32 NumPy arrays.
      context: tokens of the sequences that it was trained on.
      tokenizer: `data.tokenizer` of the run: byte, char, word:SIZE, bpe:SIZE or file:PATH.
      tokenizer_json: its tokenizer.json as the run keeps it; empty for bytes.
      vocabulary: ids that the tokenizer knows; the network may have more.
      end: the id that ends a document, which a text begins with.
      card: README.md in Markdown without a heading: how it was trained, what was measured, what it cannot do.
      beside: further files by name, that lie beside the model's.
    """

    name: str
    config: ModelConfig
    params: Mapping[str, Any]
    context: int
    tokenizer: str
    tokenizer_json: str
    vocabulary: int
    end: int
    card: str = ""
    beside: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


class Format(Protocol):
    """What a file of this folder gives."""

    DTYPES: tuple[str, ...]

    def refuse(self, config: ModelConfig) -> None:
        """Raises BadInput where the network has no exact form in this format."""

    def write(self, model: Exported, folder: Path, dtype: str) -> None:
        """The model's files in an empty folder."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Names of the formats as --format takes them."""
    return tuple(name.replace("_", "-") for name in discover.names(FOLDER))


def load(name: str) -> Format:
    """The format of a name.

    Raises:
      BadInput: there is none of this name.
    """
    if name not in formats():
        raise BadInput(f"--format={name!r}: must be one of {', '.join(formats())}")
    return cast(Format, importlib.import_module(f"model.exchange.{name.replace('-', '_')}"))
