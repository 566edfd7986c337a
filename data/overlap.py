"""Is the text of a task in the training text? n-gram overlap against the streams of a token cache.

A problem of 16 tokens or more is cut into its n-grams of 16 tokens; a shorter one is one n-gram. A problem whose
n-grams all occur somewhere in the training stream counts as found there. (Overlap of n-grams is the check of
Brown et al. 2020, arXiv 2005.14165, appendix C, there with 13 words; 16 bytes are about three words of code.)

Grams are compared by 64-bit hashes: with 1e9 training tokens and 1e6 grams the chance of one false find is below
1e-4. One pass over 100 MB takes a few seconds.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

GRAM = 16
_CHUNK = 2**21
_FILTER_BITS = 22
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd: 2^64 over the golden ratio


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What of a task's problems stands in the training text.

    Attributes:
      items, items_found: problems, and those of which every n-gram was found.
      grams, grams_found: different n-grams, and those found.
    """

    items: int
    items_found: int
    grams: int
    grams_found: int


def overlaps(problems: Mapping[str, Sequence[np.ndarray]], streams: Iterable[np.ndarray]) -> dict[str, Overlap]:
    """The overlap of each task with all of `streams` together.

    Args:
      problems: for each task the tokens of its problems, prompt and target.
      streams: training tokens, memory-mapped or not; read once, in pieces.
    """
    grams = {name: [_grams(item) for item in items] for name, items in problems.items()}
    wanted: dict[int, list[np.ndarray]] = {}
    for items in grams.values():
        for length, hashes in items:
            wanted.setdefault(length, []).append(hashes)
    targets = {length: np.unique(np.concatenate(hashes)) for length, hashes in wanted.items()}
    found = _search(targets, streams)
    result = {}
    for name, items in grams.items():
        here = [np.isin(hashes, found[length]) for length, hashes in items]
        different: dict[int, list[np.ndarray]] = {}
        for length, hashes in items:
            different.setdefault(length, []).append(hashes)
        unique = {length: np.unique(np.concatenate(hashes)) for length, hashes in different.items()}
        result[name] = Overlap(
            items=len(items),
            items_found=sum(bool(hits.all()) for hits in here),
            grams=sum(len(own) for own in unique.values()),
            grams_found=sum(int(np.isin(own, found[length]).sum()) for length, own in unique.items()),
        )
    return result


def _grams(tokens: np.ndarray) -> tuple[int, np.ndarray]:
    """(length of the grams, their hashes) of one problem."""
    length = min(GRAM, len(tokens))
    return length, hashes_of(tokens, [length])[length]


def _search(targets: Mapping[int, np.ndarray], streams: Iterable[np.ndarray]) -> dict[int, np.ndarray]:
    """For each gram length, those of the target hashes that occur in a stream."""
    shift = np.uint64(64 - _FILTER_BITS)
    filters = {}
    for length, hashes in targets.items():
        filters[length] = np.zeros(2**_FILTER_BITS, bool)
        filters[length][(hashes >> shift).astype(np.int64)] = True
    found = {length: np.zeros(len(hashes), bool) for length, hashes in targets.items()}
    for stream in streams:
        for start in range(0, len(stream), _CHUNK):
            piece = np.asarray(stream[start : start + _CHUNK + GRAM - 1])
            for length, hashes in hashes_of(piece, list(targets)).items():
                likely = hashes[filters[length][(hashes >> shift).astype(np.int64)]]
                found[length] |= np.isin(targets[length], likely)
    return {length: hashes[found[length]] for length, hashes in targets.items()}


def hashes_of(tokens: np.ndarray, lengths: Sequence[int]) -> dict[int, np.ndarray]:
    """Hashes of every gram of each length, uint64 (len(tokens) - length + 1,), modulo 2^64.

    A gram's polynomial is put together from those of its parts of power-of-two length, then its bits are mixed.
    """
    multiplier = np.uint64(_MULTIPLIER)
    with np.errstate(over="ignore"):
        powers = {1: (tokens.astype(np.uint64) + np.uint64(1)) * multiplier}
        size = 1
        while 2 * size <= max(lengths) and len(powers[size]) > size:
            left, right = powers[size][:-size], powers[size][size:]
            powers[2 * size] = left * _power(size) + right
            size *= 2
        result = {}
        for length in lengths:
            if len(tokens) < length:
                result[length] = np.zeros(0, np.uint64)
                continue
            whole = np.zeros(len(tokens) - length + 1, np.uint64)
            done = 0
            for size in sorted(powers, reverse=True):
                while done + size <= length:
                    part = powers[size][done : done + len(whole)]
                    whole = part if not done else whole * _power(size) + part
                    done += size
            mixed = (whole ^ (whole >> np.uint64(29))) * multiplier
            result[length] = mixed ^ (mixed >> np.uint64(32))
    return result


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(_MULTIPLIER, 2 * exponent, 2**64))
