"""From a token cache to batches: which windows, in which order, from any position at once.

A stream of n tokens is cut into N = (n - 1) // T windows of T inputs; window i holds tokens [i T, i T + T], so
that every token but the first is the target of one window. Training reads windows in an order that depends on
(corpus, seed, position) alone: batch size, number of processes and prefetching only decide how the one order is
cut. A run on D tokens therefore sees exactly the beginning of a longer one.

The order is grain's global shuffle, `index_shuffle` (a keyed permutation that gives any element without the
others, hence O(1) seek): in the first pass over the data element i is window P_0(i). Later passes run through
the same windows in another order, P_0(P_e(i)). With `unique_tokens` = U a pass holds the first U // T elements
only, so that a run on at most U tokens is the run without the limit, and a longer one repeats exactly those.

With skills in the training text (data/skills.py) the windows of a run are shared out among the corpus and the
skills by a fixed pattern, and each source keeps its own order, the one described above. Among the corpora of a mixture
(data/mixture.py) likewise.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from core.errors import BadInput
from data.cache import TokenCache
from data.config import DataConfig
from data.mixture import parse_mixture
from data.near_duplicates import THRESHOLDS, names
from data.skills import Pattern, parse_skills, pattern
from data.streams import TokenSplit, Windows

_ROUNDS = 4  # of the Feistel network inside index_shuffle; grain's own choice for its global shuffle
_PREFETCHED_BATCHES = 8
_HELD_OUT_ORDER = 20_220_329  # any constant: the slice is the same for every run


@dataclasses.dataclass(frozen=True)
class Batch:
    """Sequences to evaluate.

    Attributes:
      tokens: int32 (B, T + 1); inputs are [:, :-1], targets [:, 1:].
      weights: float32 (B, T), 1 for each target that counts, 0 where a last batch was filled up.
    """

    tokens: np.ndarray
    weights: np.ndarray


class TrainLoader:
    """Training batches of one process.

    Args:
      cache: where the tokens are.
      config: sequence_length and unique_tokens are read.
      batch_tokens: tokens of one batch over all processes, a multiple of sequence_length.
      seed: of the order; different seeds give unrelated orders.
      process_index, process_count: which share of every batch this process reads.
      prefetch: read ahead in a thread.
      change: what becomes of the windows (B, S) of a batch, the first of which is at this position of the order.

    Raises:
      BadInput: a size that does not fit another, or the train split is too short.
    """

    def __init__(
        self,
        cache: TokenCache,
        config: DataConfig,
        *,
        batch_tokens: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        prefetch: bool = True,
        change: Callable[[np.ndarray, int], Any] | None = None,
    ) -> None:
        length = config.sequence_length
        if batch_tokens < length or batch_tokens % length:
            raise BadInput(
                f"batch_tokens={batch_tokens}: must be a positive multiple of data.sequence_length={length}"
            )
        rows = batch_tokens // length
        self.batch_tokens = batch_tokens
        self._prefetch = prefetch
        skills = parse_skills(config.skills)
        mixture = parse_mixture(config.mixture)
        if len(cache.mixture) != len(mixture):
            raise BadInput(f"data.mixture={config.mixture!r}: the cache was opened for another mixture")
        windows, *others = [_windows(one, "train", length) for one in cache.trained_on]
        available = len(windows) * length
        if config.unique_tokens > available:
            raise BadInput(
                f"data.unique_tokens={config.unique_tokens}: the train split has {available} tokens in whole "
                f"sequences of {length}; must be at most that, or 0 for all of them"
            )
        if len(cache.skills) != len(skills):
            raise BadInput(f"data.skills={config.skills!r}: the cache was opened for other skills")
        streams = [windows, *others, *(Windows(stream, length) for stream in cache.skills)]
        percents = [*(part.percent for part in mixture[1:]), *(skill.percent for skill in skills)]
        limits = [config.unique_tokens // length or len(windows), *(len(skill) for skill in streams[1:])]
        self._batches = _Batches(
            streams=streams,
            orders=[WindowOrder(len(own), seed, limit) for own, limit in zip(streams, limits, strict=True)],
            pattern=pattern(tuple(percents)),
            rows=rows,
            share=_share(rows, process_index, process_count, "batch_tokens / data.sequence_length"),
            change=change,
        )

    def from_token(self, position: int) -> Iterator[Any]:
        """Batches from the token `position` on, without end. O(1) in the position.

        Yields:
          int32 (sequences of this process, T + 1); inputs are [:, :-1], targets [:, 1:]. Or what `change` makes of it.

        Raises:
          BadInput: `position` is not a multiple of batch_tokens.
        """
        if position < 0 or position % self.batch_tokens:
            raise BadInput(f"data position {position}: must be a multiple of batch_tokens={self.batch_tokens}")
        import grain  # 0.4 s beyond jax, spent when training starts rather than by every command

        read_ahead = _PREFETCHED_BATCHES if self._prefetch else 0
        options = grain.ReadOptions(num_threads=1 if self._prefetch else 0, prefetch_buffer_size=read_ahead)
        batches = grain.MapDataset.source(self._batches)[position // self.batch_tokens :]
        return iter(batches.to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class WindowOrder:
    """The order of windows in training: a function of position, without end.

    Attributes:
      windows: N, windows in the train split.
      seed: of the order.
      pass_windows: windows in one pass, at most N.
    """

    windows: int
    seed: int
    pass_windows: int

    def __call__(self, positions: Sequence[int]) -> np.ndarray:
        """The window at each position. -> int64 (len(positions),)"""
        # grain, 1 s: tools that only read the cache are spared it
        from grain.experimental import index_shuffle

        last, last_of_pass = self.windows - 1, self.pass_windows - 1
        first_key = _key(self.seed, 0)
        keys: dict[int, int] = {}
        chosen = []
        for position in positions:
            number, element = divmod(position, self.pass_windows)
            if number:
                if number not in keys:
                    keys[number] = _key(self.seed, number)
                element = index_shuffle(element, last_of_pass, keys[number], _ROUNDS)
            chosen.append(index_shuffle(element, last, first_key, _ROUNDS))
        return np.array(chosen, np.int64)


@dataclasses.dataclass(frozen=True)
class _Batches:
    """This process's share of every batch, as the random-access source that grain reads."""

    streams: Sequence[Windows]
    orders: Sequence[WindowOrder]
    pattern: Pattern
    rows: int
    share: range
    change: Callable[[np.ndarray, int], Any] | None = None

    def __len__(self) -> int:
        return sys.maxsize // self.rows

    def __getitem__(self, step: int) -> Any:
        start = step * self.rows
        positions = range(start + self.share.start, start + self.share.stop)
        windows = self._windows(positions)
        return windows if self.change is None else self.change(windows, positions.start)

    def _windows(self, positions: range) -> np.ndarray:
        if len(self.streams) == 1:
            return self.streams[0][self.orders[0](positions)]
        batch = np.empty((len(positions), self.streams[0].width), np.int32)
        placed = [self.pattern(position) for position in positions]
        for source, (stream, order) in enumerate(zip(self.streams, self.orders, strict=True)):
            rows = [row for row, (own, _) in enumerate(placed) if own == source]
            batch[rows] = stream[order([placed[row][1] for row in rows])]
        return batch


def validation_batches(
    cache: TokenCache,
    config: DataConfig,
    *,
    batch_sequences: int,
    process_index: int = 0,
    process_count: int = 1,
    split: str = "validation",
) -> Iterator[Batch]:
    """The fixed held-out slice: `validation_tokens` tokens in windows from all over the split, in a fixed order.

    Args:
      batch_sequences: sequences of one batch over all processes.
      split: validation, or test for a last look.

    Raises:
      BadInput: the split is too short, or batch_sequences does not divide into equal shares.
    """
    share = _share(batch_sequences, process_index, process_count, "batch_sequences")
    windows, chosen = _held_out(cache, config, split)
    length = config.sequence_length

    def batches() -> Iterator[Batch]:
        for start in range(0, len(chosen), batch_sequences):
            own = chosen[start + share.start : min(start + share.stop, len(chosen))]
            tokens = np.zeros((len(share), length + 1), np.int32)
            tokens[: len(own)] = windows[own]
            weights = np.zeros((len(share), length), np.float32)
            weights[: len(own)] = 1
            yield Batch(tokens, weights)

    return batches()


def validation_bytes(cache: TokenCache, config: DataConfig, split: str = "validation") -> int:
    """UTF-8 bytes of text that the targets of the held-out slice stand for.

    bits per byte = (nats summed over the slice's targets) / ln 2 / these bytes, exactly, for every tokenizer:
    a separator stands for none, an unknown token for the bytes of the text it replaced.
    """
    _, chosen = _held_out(cache, config, split)
    return _bytes_of(cache, split, chosen, config.sequence_length)


def _bytes_of(cache: TokenCache, split: str, chosen: np.ndarray, length: int) -> int:
    part = cache.split(split)
    weights = part.token_bytes if part.token_bytes is not None else part.tokens != cache.separator
    targets = (chosen * length)[:, None] + np.arange(1, length + 1)
    return int(weights[targets].sum(dtype=np.int64))


def clean_windows(
    cache: TokenCache, config: DataConfig, split: str = "validation"
) -> dict[str, tuple[np.ndarray, int]]:
    """For each threshold of near-duplicates: the windows of the held-out slice without a token of a document that has
    one in the training text, bool (windows,), and the bytes of their targets.

    Left out are thresholds at which nothing is near, or nothing is left. Empty for caches from before it was counted.
    """
    part = cache.split(split)
    if part.near is None:
        return {}
    _, chosen = _held_out(cache, config, split)
    length, offsets = config.sequence_length, part.document_offsets
    first, last = (np.searchsorted(offsets, chosen * length + end, side="right") - 1 for end in (0, length))
    found = {}
    for name, threshold in zip(names(), THRESHOLDS, strict=True):
        before = np.concatenate([[0], np.cumsum(part.near >= np.float32(threshold))])
        clean = before[last + 1] == before[first]
        if clean.any() and not clean.all():
            found[name] = (clean, _bytes_of(cache, split, chosen[clean], length))
    return found


def _held_out(cache: TokenCache, config: DataConfig, split: str) -> tuple[Windows, np.ndarray]:
    """All windows of a held-out split, and which of them the slice reads."""
    length = config.sequence_length
    windows = _windows(cache, split, length)
    wanted = config.validation_tokens // length
    if wanted > len(windows):
        raise BadInput(
            f"data.validation_tokens={config.validation_tokens}: the {split} split has {len(windows) * length} "
            f"tokens in whole sequences of {length}; must be at most that ({_text_there(cache)})"
        )
    order = WindowOrder(len(windows), _HELD_OUT_ORDER, len(windows))
    return windows, order(range(wanted))


def _windows(cache: TokenCache, split: str, length: int) -> Windows:
    """All windows of a split."""
    part: TokenSplit = cache.split(split)
    count = (part.token_count - 1) // length
    if count < 1:
        raise BadInput(
            f"data.sequence_length={length}: too little text: the {split} split has {part.token_count} tokens; it "
            f"needs {length + 1} or more ({_text_there(cache)})"
        )
    if count > 2**32:
        raise BadInput(
            f"data.sequence_length={length}: gives {count} windows of the {split} split; at most 2**32"
        )
    return part.stream.windows(length)


def _text_there(cache: TokenCache) -> str:
    """`the corpus has 5 documents, 2,310 bytes: 5 in train, 0 in validation, 0 in test`."""
    rows = {split: domains.values() for split, domains in cache.statistics["splits"].items()}
    documents = {split: sum(row["documents"] for row in own) for split, own in rows.items()}
    size = sum(row["bytes"] for own in rows.values() for row in own)
    shares = ", ".join(f"{count:,} in {split}" for split, count in documents.items())
    return f"the corpus has {sum(documents.values()):,} documents, {size:,} bytes: {shares}"


def _share(rows: int, index: int, count: int, name: str) -> range:
    """The rows of every batch that process `index` of `count` reads: the order is cut, never reordered."""
    if not 0 <= index < count:
        raise BadInput(f"process_index={index}: must be from 0 to process_count - 1 = {count - 1}")
    if rows < 1 or rows % count:
        raise BadInput(f"{name}={rows}: must be a positive multiple of process_count={count}")
    own = rows // count
    return range(index * own, (index + 1) * own)


def _key(seed: int, number: int) -> int:
    """A 32-bit key for one pass of one seed. Hashed, so that seed 1's first pass is not seed 0's second."""
    return int.from_bytes(hashlib.sha256(f"order {seed} {number}".encode()).digest()[:4], "big")
