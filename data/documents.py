"""Documents and the four questions asked of each: can it be read, is it new, which split, what was dropped.

Everything here is a pure function of content, so that a corpus does not depend on the order of a file
system, on modification times or on the machine's paths.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypedDict

SPLITS = ("train", "validation", "test")
MAXIMUM_BYTES = 512 * 1024  # longer Python files are generated tables (unicode names, codecs, bindings)

NAMED = 3  # of what is left out for one reason, so many are named

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


class SkippedFiles(TypedDict):
    """Files of a folder that were not read for one reason: how many, and the names of the first."""

    files: int
    first: list[str]


class LeftOut(TypedDict, total=False):
    """What of a corpus is not in its documents, by reason: the first documents that were dropped, and files."""

    dropped_first: dict[str, list[str]]
    skipped_files: dict[str, SkippedFiles]


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


class Texts:
    """`Documents` of texts that a subclass reads: what is no text and what was there before is dropped and counted, and
    the split of each follows from its content. Every iteration reads them again and counts `dropped` anew.

    Attributes:
      origin: what is read, for a message.
      left_out: which documents were dropped, the first of them.
      held_out_percent: of the documents, each for validation and test. A user's corpus is small more often than large;
        5% each way still fills an evaluation.
    """

    held_out_percent = 5.0

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.dropped: collections.Counter[str] = collections.Counter()
        self.dropped_first: dict[str, list[str]] = {}

    @property
    def left_out(self) -> LeftOut:
        return {"dropped_first": self.dropped_first}

    def payloads(self) -> Iterator[tuple[str, bytes]]:
        """Each text in UTF-8 with the path that names it, the same ones in the same order each time."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Document]:
        self.dropped, self.dropped_first = collections.Counter(), {}
        return drop_duplicates(self._documents(), self.dropped)

    def _documents(self) -> Iterator[Document]:
        for path, payload in self.payloads():
            text, reason = decode(payload, maximum_bytes=None)
            if reason:
                self.dropped[reason] += 1
                if self.dropped[reason] <= NAMED:
                    self.dropped_first.setdefault(reason, []).append(path)
                continue
            identity = digest(payload)
            split = split_of(identity, self.held_out_percent)
            yield Document(text, "text", path, split, identity.hex())
