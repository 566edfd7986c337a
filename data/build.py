"""Building a token cache: documents in, one flat file of tokens a split out."""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from core.errors import BadInput
from core.files import write_atomic, write_json
from data import blocks, corpora
from data.config import DataConfig
from data.documents import SPLITS
from data.index import CorpusIndex, SplitIndex, index_documents, read_documents
from data.integrity import CACHE_FORMAT, META, TOKENIZER, checksum, describe
from data.near_index import HELD_OUT, similarity_of, without_near
from data.near_index import statistics as near_statistics
from data.parts import Parts
from data.pool import map_in_order
from data.roundtrip import encode_texts
from data.source import Source
from data.streams import NEAR
from data.tokenizers import Tokenizer, load, make

_TASK_BYTES = 4 * 2**20
_KEPT_FROM_BYTES = 4 * 2**20  # what an interrupted build has finished is kept for the next one
_PARALLEL_FROM_BYTES = 16 * 2**20  # starting workers costs about a second each


@dataclasses.dataclass(frozen=True)
class EncodeTask:
    """Some consecutive documents of one split, and how to turn them into tokens."""

    source: Source
    part: SplitIndex
    specification: str
    tokenizer_path: str
    dtype: str
    with_bytes: bool


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokens of consecutive documents, separators included; tokens of each document; bytes of each token; bytes that
    decoding does not give back."""

    tokens: np.ndarray
    counts: np.ndarray
    token_bytes: np.ndarray
    lost: int

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, to be kept."""
        return {name: np.asarray(value) for name, value in vars(self).items()}


def build_tokens(
    config: DataConfig,
    corpus_folder: Path,
    folder: Path,
    *,
    workers: int | None,
    progress: bool,
    parts: Parts | None = None,
) -> None:
    """Write the token cache of `config` into the empty `folder`; the corpus goes to `corpus_folder`.

    Args:
      parts: what an interrupted build has finished; this one adds to it.

    Raises:
      BadInput: the corpus or the tokenizer cannot be used.
      OSError: the disk does not take it.
    """
    parts = parts or Parts(None)
    with _progress_bar(progress and sys.stderr.isatty()) as bar:
        stage = bar.add_task(f"reading {config.corpus}", total=None)
        source = corpora.locate(config.corpus, config.domain, corpus_folder, workers)
        index = index_documents(source, workers=workers, parts=parts)
        if not len(index.splits["train"].lengths):
            raise BadInput(f"data.corpus={config.corpus!r}: no usable document in its train split")
        bar.update(stage, description="near-duplicates", refresh=True)
        similarity = similarity_of(index, parts)
        if config.near_duplicates:
            index = without_near(index, similarity, config.near_duplicates)
            similarity = similarity_of(index, parts)
        bar.update(stage, description=f"tokenizer {config.tokenizer}", refresh=True)
        total = sum(int(part.lengths.sum()) for part in index.splits.values())
        tokenizer = _tokenizer(config, index, total, parts)
        content = tokenizer.to_json()
        if content:
            write_atomic(folder / TOKENIZER, content)
        made_from = [_fingerprint(index.fingerprint, tokenizer), _TASK_BYTES]
        bar.update(stage, description="tokens", total=total, refresh=True)
        splits, statistics, lost = {}, {}, {}
        for name in SPLITS:
            writer = _SplitWriter(folder, name, with_bytes=name != "train" and config.tokenizer != "byte")
            tasks = list(_tasks(config, index, name, tokenizer, folder, writer.with_bytes))
            heavy = config.tokenizer != "byte" and total > _PARALLEL_FROM_BYTES
            with writer:
                there = [parts.has(f"{name}-{number}", made_from) for number in range(len(tasks))]
                missing = [task for task, done in zip(tasks, there, strict=True) if not done]
                fresh = map_in_order(encode, missing, workers=workers if heavy else 1)
                for number, (task, done) in enumerate(zip(tasks, there, strict=True)):
                    encoded = (_kept(parts, name, number, made_from) or encode(task)) if done else next(fresh)
                    if not done and total > _KEPT_FROM_BYTES:
                        parts.keep(f"{name}-{number}", made_from, encoded.arrays())
                    writer.append(encoded)
                    bar.update(stage, advance=int(task.part.lengths.sum()), refresh=True)
            part = index.splits[name]
            counts = np.array(writer.counts, np.int64)
            splits[name] = {
                "documents": len(counts),
                "bytes": int(part.lengths.sum()),
                "tokens": int(counts.sum()),
            }
            lost[name] = writer.lost
            statistics[name] = {
                domain: _totals(part, counts, part.domains == number)
                for number, domain in sorted(enumerate(index.domains), key=lambda item: item[1])
                if (part.domains == number).any()
            }
    for name in HELD_OUT:
        (folder / f"{name}.{NEAR}").write_bytes(similarity[name].astype("<f4").tobytes())
    files = sorted(folder.iterdir())
    meta = {
        "format": CACHE_FORMAT,
        "fingerprint": _fingerprint(index.fingerprint, tokenizer),
        "corpus_fingerprint": index.fingerprint,
        "corpus": config.corpus,
        "domain": config.domain,
        "tokenizer": config.tokenizer,
        "vocabulary": tokenizer.vocabulary,
        "separator": tokenizer.separator,
        "dtype": _dtype_for(tokenizer.vocabulary).str,
        "splits": splits,
        "statistics": {
            "splits": statistics,
            "dropped": index.dropped,
            "lost": lost,
            "near_duplicates": near_statistics(similarity),
            **source.left_out,
        },
        "files": {file.name: describe(file) for file in files},
    }
    write_json(folder / blocks.BLOCKS, blocks.to_json({file.name: blocks.digests(file) for file in files}))
    write_json(folder / META, meta | {"checksum": checksum(meta)})


def encode(task: EncodeTask) -> Encoded:
    """Read and tokenize the documents of one task."""
    if multiprocessing.parent_process() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one worker a core already
    tokenizer = _loaded(task.specification, task.tokenizer_path)
    texts = list(read_documents(task.source, task.part))
    done = encode_texts(tokenizer, texts, task.specification, task.with_bytes)
    encoded = done.tokens
    dtype = np.dtype(task.dtype)
    end = np.array([tokenizer.separator], dtype)
    tokens = np.concatenate([piece for ids in encoded for piece in (ids.astype(dtype), end)])
    counts = np.array([len(ids) + 1 for ids in encoded], np.int64)
    if not task.with_bytes:
        return Encoded(tokens, counts, np.zeros(0, np.uint32), done.lost)
    nothing = np.zeros(1, np.uint32)
    weights = np.concatenate([piece for own in done.token_bytes for piece in (own, nothing)])
    return Encoded(tokens, counts, weights, done.lost)


def _kept(parts: Parts, split: str, number: int, made_from: object) -> Encoded | None:
    arrays = parts.read(f"{split}-{number}", made_from)
    if arrays is None:
        return None
    return Encoded(arrays["tokens"], arrays["counts"], arrays["token_bytes"], int(arrays["lost"]))


def _tokenizer(config: DataConfig, index: CorpusIndex, total: int, parts: Parts) -> Tokenizer:
    """The tokenizer of a configuration, trained where it must be; for long in a process that can be ended."""
    train = index.splits["train"]
    if config.tokenizer.partition(":")[0] not in ("word", "bpe") or total <= _KEPT_FROM_BYTES:
        return make(config.tokenizer, read_documents(index.source, train))
    made_from = [config.tokenizer, index.fingerprint]
    kept = parts.read("tokenizer", made_from)
    if kept is None:
        (content,) = map_in_order(_trained, [(config.tokenizer, index.source, train)], workers=1, apart=True)
        kept = {"content": np.array(content)}
        parts.keep("tokenizer", made_from, kept)
    return load(config.tokenizer, str(kept["content"]))


def _trained(task: tuple[str, Source, SplitIndex]) -> str:
    specification, source, part = task
    return make(specification, read_documents(source, part)).to_json()


class _SplitWriter:
    """Appends encoded documents to the files of one split."""

    def __init__(self, folder: Path, name: str, *, with_bytes: bool) -> None:
        self._folder, self._name, self.with_bytes = folder, name, with_bytes
        self.counts: list[int] = []
        self.lost = 0

    def __enter__(self) -> None:
        self._tokens = (self._folder / f"{self._name}.tokens").open("wb")
        self._weights = (self._folder / f"{self._name}.bytes").open("wb") if self.with_bytes else None

    def append(self, encoded: Encoded) -> None:
        self._tokens.write(encoded.tokens.tobytes())
        if self._weights is not None:
            self._weights.write(encoded.token_bytes.astype("<u4").tobytes())
        self.counts += encoded.counts.tolist()
        self.lost += encoded.lost

    def __exit__(self, *exception: object) -> None:
        self._tokens.close()
        if self._weights is not None:
            self._weights.close()
        offsets = np.concatenate([[0], np.cumsum(np.array(self.counts, np.int64))])
        (self._folder / f"{self._name}.offsets").write_bytes(offsets.astype("<i8").tobytes())


def _tasks(
    config: DataConfig, index: CorpusIndex, split: str, tokenizer: Tokenizer, folder: Path, with_bytes: bool
) -> Iterator[EncodeTask]:
    """The documents of a split in stretches of about `_TASK_BYTES`."""
    part = index.splits[split]
    stretch = np.cumsum(part.lengths) // _TASK_BYTES
    bounds = np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield EncodeTask(
            source=index.source,
            part=part.take(np.arange(start, stop)),
            specification=config.tokenizer,
            tokenizer_path=str(folder / TOKENIZER),
            dtype=_dtype_for(tokenizer.vocabulary).str,
            with_bytes=with_bytes,
        )


@functools.lru_cache(maxsize=1)
def _loaded(specification: str, path: str) -> Tokenizer:
    return load(specification, "" if specification == "byte" else Path(path).read_text("utf-8"))


def _totals(part: SplitIndex, counts: np.ndarray, chosen: np.ndarray) -> dict[str, int]:
    return {
        "documents": int(chosen.sum()),
        "bytes": int(part.lengths[chosen].sum()),
        "tokens": int(counts[chosen].sum()),
    }


def _dtype_for(vocabulary: int) -> np.dtype:
    """The smallest little-endian unsigned integer that holds every id."""
    return next(
        np.dtype(kind) for kind in ("<u1", "<u2", "<u4") if vocabulary <= 2 ** (8 * np.dtype(kind).itemsize)
    )


def _fingerprint(corpus_fingerprint: str, tokenizer: Tokenizer) -> str:
    decides = [CACHE_FORMAT, corpus_fingerprint, tokenizer.to_json(), tokenizer.vocabulary, tokenizer.separator]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=not shown),  # a bar that is off still ends its line
        transient=True,
        # No refreshing thread: TFDS exchanges the import function while it loads, which a thread would meet.
        auto_refresh=False,
        disable=not shown,
    )
