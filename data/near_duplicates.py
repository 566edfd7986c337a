"""Held-out documents that stand in the training text almost word for word: MinHash in bands, then the exact Jaccard.

A document is the set of its byte n-grams of 25 bytes, about five words; two documents are as similar as their sets
overlap (Jaccard, intersection over union). Of each document 128 minima of one hash are kept (one-permutation hashing,
Li et al. 2012, arXiv 1208.1259, empty bins filled by rotation, Shrivastava and Li 2014, arXiv 1406.4784). Pairs that
agree in one of 42 bands of 3 are compared exactly (Broder 1997; Lee et al. 2022, arXiv 2107.06499, section 4.2), so
that no pair is named that is not one, and 1 - (1 - J^3)^42 of those that are one are expected to be found: 0.996 at
J = 0.5, more above. Case and white space count. Nothing is random: the same documents give the same numbers.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from data.overlap import hashes_of

FORMAT = 1  # raised when the same documents would give other numbers
SHINGLE = 25  # bytes
BINS, BAND = 128, 3
BANDS = BINS // BAND
THRESHOLDS = (0.5, 0.75, 0.9)
_AT_ONCE = 512  # documents whose bands are looked up together
_EDGES = np.arange(BINS, dtype=np.uint64) << np.uint64(57)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class Nearest:
    """For each document the largest Jaccard with one of the other side; 0 where none was found near.

    Attributes:
      train, held_out: float32, (training documents,) and (held-out documents,).
    """

    train: np.ndarray
    held_out: np.ndarray


def shingles(text: str) -> np.ndarray:
    """Hashes of the different n-grams of a document, sorted; of a shorter one, of the whole. uint64 (n,)"""
    payload = np.frombuffer(text.encode(), np.uint8)
    length = min(SHINGLE, len(payload))
    if not length:
        return np.zeros(0, np.uint64)
    found = np.sort(
        hashes_of(payload, [length])[length]
    )  # np.unique asks a hash table first: three times as slow
    return found[np.concatenate([[True], found[1:] != found[:-1]])]


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Of two sorted sets without repeats: intersection over union."""
    if not len(one) or not len(other):
        return 0.0
    small, large = sorted((one, other), key=len)
    places = np.minimum(np.searchsorted(large, small), len(large) - 1)
    shared = int(np.count_nonzero(large[places] == small))
    return shared / (len(one) + len(other) - shared)


def bands(own: np.ndarray) -> np.ndarray:
    """One hash for each band of a document's minima. uint64 (BANDS,)"""
    first = np.searchsorted(own, _EDGES)
    empty = np.diff(first, append=len(own)) == 0
    minima = own[np.minimum(first, len(own) - 1)] & np.uint64(2**57 - 1)
    if empty.any():
        # An empty bin takes the minimum of the next one that is not, and how far that was.
        filled = np.flatnonzero(~empty)
        place = np.searchsorted(filled, np.arange(BINS))
        source = filled[place % len(filled)]
        minima = minima[source] + np.uint64(1 << 57) * ((source - np.arange(BINS)) % BINS).astype(np.uint64)
    with np.errstate(over="ignore"):
        key = np.arange(BANDS, dtype=np.uint64)
        for column in range(BAND):
            key = (key ^ minima[column : BANDS * BAND : BAND]) * _MIX
            key ^= key >> np.uint64(29)
    return key


def nearest(train: Iterable[str], held_out: Iterable[str]) -> Nearest:
    """The nearest document of the other side for each training and each held-out document."""
    kept = [shingles(text) for text in held_out]
    of_held = np.zeros(len(kept), np.float32)
    owners = [number for number, own in enumerate(kept) if len(own)]
    keys = np.concatenate([np.zeros(0, np.uint64), *(bands(kept[number]) for number in owners)])
    documents = np.repeat(np.array(owners, np.int64), BANDS)
    order = np.argsort(keys, kind="stable")
    keys, documents = keys[order], documents[order]
    of_train: list[float] = []
    for block in _blocks(train):
        sets = [shingles(text) for text in block]
        signatures = np.stack([bands(own) if len(own) else np.zeros(BANDS, np.uint64) for own in sets])
        left, right = (np.searchsorted(keys, signatures, side=side) for side in ("left", "right"))
        hit = right > left
        for number, own in enumerate(sets):
            found = [
                documents[a:b]
                for a, b in zip(left[number, hit[number]], right[number, hit[number]], strict=True)
            ]
            best = 0.0
            for other in np.unique(np.concatenate(found)).tolist() if found and len(own) else ():
                similarity = jaccard(own, kept[other])
                best = max(best, similarity)
                of_held[other] = max(of_held[other], similarity)
            of_train.append(best)
    return Nearest(np.array(of_train, np.float32), of_held)


def names() -> tuple[str, ...]:
    """The thresholds as they stand in names: 0.5, 0.75, 0.9."""
    return tuple(f"{threshold:g}" for threshold in THRESHOLDS)


def counts(similarity: np.ndarray) -> dict[str, int]:
    """How many documents have a near-duplicate on the other side, by threshold."""
    ends = np.array(THRESHOLDS, np.float32)  # as the similarities are kept
    return {name: int((similarity >= end).sum()) for name, end in zip(names(), ends, strict=True)}


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == _AT_ONCE:
            yield block
            block = []
    if block:
        yield block
