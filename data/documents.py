"""Documents and the four questions asked of each: can it be read, is it new, which split, what was dropped.

Everything here is a pure function of content, so that a corpus does not depend on the order of a file
system, on modification times or on the machine's paths.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

SPLITS = ("train", "validation", "test")
MAXIMUM_BYTES = 512 * 1024  # longer Python files are generated tables (unicode names, codecs, bindings)

NOT_UTF8 = "not UTF-8"
NUL_BYTE = "NUL byte"
EMPTY = "empty"
TOO_LONG = "over 512 KiB"
DUPLICATE = "duplicate"


@dataclasses.dataclass(frozen=True)
class Document:
    """One text of a corpus.

    Attributes:
      text: decoded UTF-8, line ends and byte-order mark as they are in the file.
      domain: code, docs or text.
      path: where it came from, relative to the corpus; never an absolute path.
      split: train, validation or test.
    """

    text: str
    domain: str
    path: str
    split: str
    sha256: str


class Documents(Protocol):
    """Documents that are read from this machine, the same ones in the same order each time.

    Attributes:
      origin: what they are read from, for a message.
      dropped: those left out, by reason, once they were read.
    """

    @property
    def origin(self) -> str: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...

    def __iter__(self) -> Iterator[Document]: ...


def digest(payload: bytes) -> bytes:
    """SHA-256 of a document's UTF-8 bytes: its identity, its place in the stream, its split."""
    return hashlib.sha256(payload).digest()


def decode(payload: bytes, *, maximum_bytes: int | None = MAXIMUM_BYTES) -> tuple[str, str]:
    """Return (text, "") for a usable document, ("", reason) for one to drop.

    The NUL byte is kept free: its token 0 separates documents.
    """
    if maximum_bytes is not None and len(payload) > maximum_bytes:
        return "", TOO_LONG
    if b"\0" in payload:
        return "", NUL_BYTE
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return "", NOT_UTF8
    if not text.strip():
        return "", EMPTY
    return text, ""


def split_of(content_digest: bytes, held_out_percent: float) -> str:
    """The split of a document: `held_out_percent` each for validation and test, the rest for training.

    A function of content alone, so the same text lands in the same split of every corpus built with the
    same share, whatever else that corpus holds.
    """
    point = int.from_bytes(content_digest[:8], "big") / 2**64
    share = held_out_percent / 100
    if point < share:
        return "validation"
    return "test" if point < 2 * share else "train"


def drop_duplicates(documents: Iterable[Document], dropped: collections.Counter[str]) -> Iterator[Document]:
    """Yield each content once (the first that comes); count the others in `dropped`."""
    seen: set[bytes] = set()
    for document in documents:
        identity = bytes.fromhex(document.sha256)
        if identity in seen:
            dropped[DUPLICATE] += 1
        else:
            seen.add(identity)
            yield document
