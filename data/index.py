"""The documents of a prepared data set: which are used, in which split and in which order, and what they are.

`index_documents` reads the data set once. The order of a split is that of the documents' digests: random with respect
to their origin, and a function of content alone.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from data.documents import DUPLICATE, SPLITS, decode, digest, split_of
from data.parts import Parts
from data.pool import map_in_order
from data.source import Source, open_split, quiet_tfds

HELD_OUT_PERCENT = 1.0  # carved from train where a TFDS data set publishes no validation or test split
_DOCUMENTS_PER_TASK = 4096
_PARALLEL_FROM_BYTES = 512 * 2**20  # an index pass reads 150 MB/s: below this, workers cost more than they save


@dataclasses.dataclass(frozen=True)
class SplitIndex:
    """The documents of one split in stream order.

    Attributes:
      sources: for each document, (index of the TFDS split in `Source.splits`, record number), int64 (documents, 2).
      digests: SHA-256, uint8 (documents, 32).
      lengths: UTF-8 bytes, int64 (documents,).
      domains: index into `CorpusIndex.domains`, int64 (documents,).
    """

    sources: np.ndarray
    digests: np.ndarray
    lengths: np.ndarray
    domains: np.ndarray

    def take(self, order: np.ndarray) -> "SplitIndex":
        """The documents at `order`, in that order."""
        return SplitIndex(self.sources[order], self.digests[order], self.lengths[order], self.domains[order])


@dataclasses.dataclass(frozen=True)
class CorpusIndex:
    """What a token cache is built from: documents by split, and the fingerprint of all of them."""

    source: Source
    domains: tuple[str, ...]
    splits: dict[str, SplitIndex]
    dropped: dict[str, int]
    fingerprint: str


def index_documents(source: Source, *, workers: int | None = None, parts: Parts | None = None) -> CorpusIndex:
    """Read every document once; drop what cannot be used and duplicates; fix splits, order and fingerprint.

    A document that stands in several of the data set's splits stays in the one held out (test before
    validation before train).

    Args:
      parts: what an interrupted call has read already; this one adds to it.
    """
    kept = _Ranges(source, parts or Parts(None))
    dropped = collections.Counter(source.dropped)
    found: list[list[SplitIndex]] = []
    names: dict[str, int] = {}
    with quiet_tfds():
        for number, split in enumerate(source.splits):
            total = len(open_split(source.directory, split))
            tasks = [
                (source, number, start, min(start + _DOCUMENTS_PER_TASK, total))
                for start in range(0, total, _DOCUMENTS_PER_TASK)
            ]
            heavy = _size_on_disk(source.directory) > _PARALLEL_FROM_BYTES
            found.append([])
            for part, domains, reasons in kept.all(tasks, workers if heavy else 1):
                dropped.update(reasons)
                renumber = np.array([names.setdefault(name, len(names)) for name in domains], np.int64)
                found[-1].append(dataclasses.replace(part, domains=renumber[part.domains]))
    by_split = _assign([_concatenate(part) for part in found], source.splits)
    unique, duplicates = _without_duplicates(by_split)
    if duplicates:
        dropped[DUPLICATE] += duplicates
    return CorpusIndex(
        source=source,
        domains=tuple(names),
        splits=unique,
        dropped=dict(sorted(dropped.items())),
        fingerprint=fingerprint_of(unique, tuple(names)),
    )


def read_documents(source: Source, part: SplitIndex) -> Iterator[str]:
    """The texts of `part`, in order.

    Raises:
      BadInput: a document is no longer what it was when it was indexed.
    """
    opened = [open_split(source.directory, split) for split in source.splits]
    for (number, record), identity in zip(part.sources.tolist(), part.digests, strict=True):
        payload = _bytes_of(opened[number][record][source.text_feature])
        if digest(payload) != identity.tobytes():
            raise BadInput(
                f"corpus {source.directory}: record {record} changed or is damaged; delete it and rebuild"
            )
        yield payload.decode("utf-8")


Task = tuple[Source, int, int, int]  # number of the split, first record, last record + 1
Indexed = tuple[SplitIndex, list[str], collections.Counter[str]]  # with names of domains, and what was dropped


class _Ranges:
    """Indexes of ranges of records, each kept once it is made."""

    def __init__(self, source: Source, parts: Parts) -> None:
        self._parts, self._made_from = parts, [source.identity(), source.text_feature, source.domain_feature]

    def all(self, tasks: Sequence[Task], workers: int | None) -> Iterator[Indexed]:
        """`_index_range` of each task, in order."""
        known = {task[1:]: self._read(task) for task in tasks}
        fresh = map_in_order(_index_range, [task for task in tasks if known[task[1:]] is None], workers=workers)
        for task in tasks:
            indexed = known[task[1:]]
            if indexed is None:
                indexed = next(fresh)
                self._keep(task, indexed)
            yield indexed

    def _read(self, task: Task) -> Indexed | None:
        arrays = self._parts.read(self._name(task), self._made_from)
        if arrays is None:
            return None
        part = SplitIndex(*(arrays[field.name] for field in dataclasses.fields(SplitIndex)))
        reasons = json.loads(str(arrays["reasons"]))
        return part, json.loads(str(arrays["names"])), collections.Counter(reasons)

    def _keep(self, task: Task, indexed: Indexed) -> None:
        part, names, reasons = indexed
        arrays = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        texts = {"names": np.array(json.dumps(names)), "reasons": np.array(json.dumps(reasons))}
        self._parts.keep(self._name(task), self._made_from, arrays | texts)

    def _name(self, task: Task) -> str:
        return "index-" + "-".join(map(str, task[1:]))


def _index_range(task: Task) -> Indexed:
    source, number, start, stop = task
    examples = open_split(source.directory, source.splits[number])
    records, digests, lengths, domains = [], [], [], []
    names: dict[str, int] = {}
    reasons: collections.Counter[str] = collections.Counter()
    for record in range(start, stop):
        example = examples[record]
        payload = _bytes_of(example[source.text_feature])
        _, reason = decode(payload, maximum_bytes=None)
        if reason:
            reasons[reason] += 1
            continue
        domain = _bytes_of(example[source.domain_feature]).decode() if source.domain_feature else "text"
        records.append((number, record))
        digests.append(digest(payload))
        lengths.append(len(payload))
        domains.append(names.setdefault(domain, len(names)))
    part = SplitIndex(
        sources=np.array(records, np.int64).reshape(-1, 2),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        lengths=np.array(lengths, np.int64),
        domains=np.array(domains, np.int64),
    )
    return part, list(names), reasons


def _assign(parts: Sequence[SplitIndex], names: Sequence[str]) -> dict[str, SplitIndex]:
    """Published train, validation and test splits stay; those missing are carved from train by digest.

    Splits of other names (unsupervised, ...) count as train.
    """
    gathered: dict[str, list[SplitIndex]] = {split: [] for split in SPLITS}
    missing = [split for split in SPLITS if split not in names]
    for part, name in zip(parts, names, strict=True):
        if name in ("validation", "test"):
            gathered[name].append(part)
            continue
        wanted = [split_of(identity.tobytes(), HELD_OUT_PERCENT) for identity in part.digests]
        chosen = np.array([split if split in missing else "train" for split in wanted], dtype="U10")
        for split in SPLITS:
            gathered[split].append(part.take(np.flatnonzero(chosen == split)))
    return {split: _concatenate(gathered[split]) for split in SPLITS}


def _without_duplicates(splits: dict[str, SplitIndex]) -> tuple[dict[str, SplitIndex], int]:
    """Each content once, in the order of digests. Also returns how many copies were left out."""
    seen = np.zeros(0, "S32")
    kept: dict[str, SplitIndex] = {}
    duplicates = 0
    for split in reversed(SPLITS):
        part = splits[split]
        keys = np.ascontiguousarray(part.digests).view("S32").reshape(-1)
        order = _order_of(part.digests)
        ordered = keys[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = ordered[1:] != ordered[:-1]
        fresh &= ~np.isin(ordered, seen)
        duplicates += int((~fresh).sum())
        kept[split] = part.take(order[fresh])
        seen = np.concatenate([seen, ordered[fresh]])
    return {split: kept[split] for split in SPLITS}, duplicates


def _order_of(digests: np.ndarray) -> np.ndarray:
    """The stable order of digests as byte strings. uint8 (n, 32) -> int64 (n,)."""
    words = digests.reshape(-1, 32).view(">u8")
    return np.lexsort([words[:, column] for column in reversed(range(4))])


def _concatenate(parts: Sequence[SplitIndex]) -> SplitIndex:
    return SplitIndex(
        sources=np.concatenate([np.zeros((0, 2), np.int64), *(part.sources for part in parts)]),
        digests=np.concatenate([np.zeros((0, 32), np.uint8), *(part.digests for part in parts)]),
        lengths=np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]),
        domains=np.concatenate([np.zeros(0, np.int64), *(part.domains for part in parts)]),
    )


def fingerprint_of(splits: dict[str, SplitIndex], domains: Sequence[str]) -> str:
    """SHA-256 over the documents of each split in order, and their domains."""
    state = hashlib.sha256()
    for split in SPLITS:
        part = splits[split]
        state.update(f"{split} {len(part.lengths)}\n".encode())
        state.update(part.digests.tobytes())
        state.update("\n".join(domains[domain] for domain in part.domains).encode())
    return state.hexdigest()


def _bytes_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _size_on_disk(directory: str) -> int:
    return sum(file.stat().st_size for file in Path(directory).iterdir() if file.is_file())
