"""Corpora: each file of this folder is one kind of text to train on, found by its place.

`data.corpus` of a run is KIND or KIND:REST: the file data/corpora/KIND.py says what it means. It holds what `Corpus`
describes; nothing else has to know of it.
"""

import functools
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from core.errors import BadInput
from data.source import Source

CORPUS_FORMAT = 1  # raised when the same sources would give other documents
FOLDER = Path(__file__).resolve().parent


class Corpus(Protocol):
    """A file of this folder.

    Attributes:
      FORM: how a user writes it: KIND, or KIND:REST with a word for the rest, such as text:PATH.
      DOMAINS: parts of it that a run can choose by `data.domain`; the first is all of it.
    """

    FORM: str
    DOMAINS: Sequence[str]

    def signature(self, rest: str, domain: str) -> list[str]:
        """A cheap stand-in for the content: equal signatures hold the same text, in 0.3 s and no reading.

        Raises:
          BadInput: the corpus does not exist.
        """

    def locate(self, rest: str, domain: str, folder: Path, workers: int | None) -> Source:
        """The corpus as a prepared TFDS data set, built in `folder` where it is not on the machine.

        Raises:
          BadInput: the corpus does not exist, holds no text, or cannot be prepared.
        """


class OfFiles(Protocol):
    """What a corpus whose name holds a path has besides."""

    def located(self, rest: str) -> str:
        """The same rest with the path from the root on."""


@functools.cache
def kinds() -> tuple[str, ...]:
    """Every kind of corpus that there is, found without importing any."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")))


def load(kind: str) -> Corpus:
    """The file of a kind that there is."""
    return cast(Corpus, importlib.import_module(f"data.corpora.{kind}"))


def forms() -> str:
    """`pysource, text:PATH or tfds:NAME`."""
    *others, last = [load(kind).FORM for kind in kinds()]
    return f"{', '.join(others)} or {last}"


def find(name: str) -> tuple[Corpus, str]:
    """The file that a corpus's name is for, and the rest of the name, which is for the file.

    Raises:
      BadInput: no corpus is named so.
    """
    kind, colon, rest = name.partition(":")
    if kind in kinds():
        corpus = load(kind)
        if bool(rest) == bool(colon) == (":" in corpus.FORM):
            return corpus, rest
    raise BadInput(f"data.corpus={name!r}: must be {forms()}")


def located(name: str) -> str:
    """The same corpus by a path from the root on, which means the same wherever a worker stands.

    Raises:
      BadInput: no corpus is named so, or nobody knows the home of its path.
    """
    corpus, rest = find(name)
    if not hasattr(corpus, "located"):
        return name
    return f"{name.partition(':')[0]}:{cast(OfFiles, corpus).located(rest)}"


def signature(name: str, domain: str) -> str:
    """A cheap stand-in for the content of a corpus, as `Corpus.signature` gives it, as one text."""
    corpus, rest = find(name)
    return json.dumps([CORPUS_FORMAT, name.partition(":")[0], *corpus.signature(rest, domain)])


def locate(name: str, domain: str, folder: Path, workers: int | None = None) -> Source:
    """The corpus as a prepared TFDS data set, as `Corpus.locate` gives it."""
    corpus, rest = find(name)
    return corpus.locate(rest, domain, folder, workers)
