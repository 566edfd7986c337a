"""The token cache: a corpus as memory-mapped token ids, built once and shared by every process.

    python -m data.cache --corpus pysource --tokenizer byte     # builds it and prints what is in it

Each split is one stream: its documents in the order of their digests, each followed by the separator token.
A folder appears under its name only when everything in it is written and flushed; a build that was killed
leaves nothing that could be taken for one. Opening checks lengths, the header's checksum and 64 blocks of every
file, so that a truncated or overwritten file is found before it is trained on, and built again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core import cli, disk
from core.errors import BadInput, exit_on_bad_input
from core.files import read_json
from data import corpora
from data.config import DataConfig
from data.documents import SPLITS
from data.integrity import CACHE_FORMAT, META, TOKENIZER, build_folder, checksum, damage, only_one
from data.tokenizers import Tokenizer, identity, load


@dataclasses.dataclass(frozen=True)
class TokenSplit:
    """One split of a cache.

    Attributes:
      tokens: the stream, memory-mapped; uint8, uint16 or uint32, whichever just holds the vocabulary. (token_count,)
      token_count: tokens, separators included.
      byte_count: UTF-8 bytes of all its documents.
      document_offsets: where each document starts in `tokens`, and the end; int64 (documents + 1,).
      token_bytes: UTF-8 bytes that each token stands for, uint32 (token_count,); None for train, and for bytes,
        where it is 1 for every token but the separator.
    """

    tokens: np.ndarray
    token_count: int
    byte_count: int
    document_offsets: np.ndarray
    token_bytes: np.ndarray | None


class TokenCache:
    """An opened cache folder.

    Attributes:
      folder: where it is.
      fingerprint: SHA-256 over everything that decides the tokens: the corpus's documents and the tokenizer.
      corpus_fingerprint: SHA-256 over the documents, their splits and domains.
      vocabulary: number of token ids, the separator included.
      separator: id of the token that ends each document; 0 but for a tokenizer.json of someone else's.
      dtype: NumPy's name of the type of the streams.
      statistics: {"splits": {split: {domain: {"documents", "bytes", "tokens"}}}, "dropped": {reason: count}}.
      skills: token stream of each skill of the configuration that it was opened for.
    """

    def __init__(self, folder: Path) -> None:
        """Open `folder` and check it.

        Raises:
          DamagedCache: something is missing, or is not what was written.
        """
        self.folder = folder
        self._meta = _checked_meta(folder)
        self.fingerprint: str = self._meta["fingerprint"]
        self.corpus_fingerprint: str = self._meta["corpus_fingerprint"]
        self.vocabulary: int = self._meta["vocabulary"]
        self.separator: int = self._meta["separator"]
        self.dtype: str = self._meta["dtype"]
        self.statistics: dict[str, Any] = self._meta["statistics"]
        self.skills: tuple[np.ndarray, ...] = ()

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the cache was built with."""
        path = self.folder / TOKENIZER
        return load(self._meta["tokenizer"], path.read_text("utf-8") if path.exists() else "")

    @functools.cache  # noqa: B019 - a handful of caches live as long as their process
    def split(self, name: str) -> TokenSplit:
        """The split `name`: train, validation or test. Raises BadInput for another name."""
        if name not in SPLITS:
            raise BadInput(f"split={name!r}: must be one of {', '.join(SPLITS)}")
        record = self._meta["splits"][name]
        weights = self.folder / f"{name}.bytes"
        return TokenSplit(
            tokens=_map(self.folder / f"{name}.tokens", np.dtype(self._meta["dtype"])),
            token_count=record["tokens"],
            byte_count=record["bytes"],
            document_offsets=_map(self.folder / f"{name}.offsets", np.dtype("<i8")),
            token_bytes=_map(weights, np.dtype("<u4")) if weights.name in self._meta["files"] else None,
        )

    def verify(self) -> None:
        """Read every byte and compare its SHA-256 with the one written. Raises DamagedCache."""
        _check_files(self.folder, self._meta, whole=True)


class DamagedCache(Exception):
    """A cache folder that is not what was written; the message says which file and how."""


def open_or_build(
    config: DataConfig, root: Path, *, workers: int | None = None, progress: bool = True
) -> TokenCache:
    """The token cache of `config` below the folder `root`, built if it is not there or is damaged.

    Several processes may call this at once: one builds, the others wait and open its result.

    Args:
      workers: processes that read and tokenize; as many as there are cores where None. The result does not
        depend on it.
      progress: show a bar on standard error while building.

    Raises:
      BadInput: the corpus or tokenizer cannot be used, or `root` cannot be written.
    """
    root = Path(root)
    cache = _open_or_build_corpus(config, root, workers, progress)
    if config.skills:
        from data.skills import open_skills  # loads the tasks

        with _disk_faults(root):
            cache.skills = open_skills(
                config.skills, config.skill_tokens, cache.tokenizer, np.dtype(cache.dtype), root
            )
    return cache


def _open_or_build_corpus(config: DataConfig, root: Path, workers: int | None, progress: bool) -> TokenCache:
    corpus_key = corpora.signature(config.corpus, config.domain)
    key = json.dumps([CACHE_FORMAT, corpus_key, identity(config.tokenizer)])
    folder = root / "tokens" / _folder_name((config.corpus, config.domain, config.tokenizer), key)
    with _disk_faults(root):
        if (folder / META).exists() and (cache := _open_if_whole(folder)):
            return cache
        with only_one(folder, notify=progress):
            if (folder / META).exists() and (cache := _open_if_whole(folder)):
                return cache
            # TFDS, seconds: most processes find the cache built
            from data.build import build_tokens

            corpus_folder = root / "corpora" / _folder_name((config.corpus, config.domain), corpus_key)
            build_folder(
                folder,
                lambda temporary: build_tokens(
                    config, corpus_folder, temporary, workers=workers, progress=progress
                ),
            )
        return TokenCache(folder)


@contextlib.contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    """A place that is no folder is the user's mistake; what the disk refuses names its file, or at least the place."""
    try:
        with disk.named(root):
            yield
    except NotADirectoryError as error:
        raise BadInput(f"cache folder {root}: {error.strerror}; must be writable and have room") from None


def _open_if_whole(folder: Path) -> TokenCache | None:
    try:
        return TokenCache(folder)
    except DamagedCache as fault:
        warnings.warn(f"{folder}: {fault}; building it again", stacklevel=3)
        return None


def _checked_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = read_json(folder / META)
    except BadInput as error:
        raise DamagedCache(str(error)) from None
    if not isinstance(meta, dict) or meta.get("checksum") != checksum(meta):
        raise DamagedCache(f"{META} does not match its checksum")
    _check_files(folder, meta)
    return meta


def _check_files(folder: Path, meta: dict[str, Any], *, whole: bool = False) -> None:
    for name, record in meta["files"].items():
        fault = damage(folder / name, record, whole=whole)
        if fault:
            raise DamagedCache(fault)


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    """A read-only view of a file; an empty file, which cannot be mapped, is an empty array."""
    if not os.path.getsize(path):
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _folder_name(parts: tuple[str, ...], key: str) -> str:
    """A readable name that ends in 12 hex digits of the key's hash."""
    readable = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", os.path.basename(part)) for part in parts)
    return f"{readable[:60]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def main(
    corpus: str = DataConfig.corpus,
    domain: str = DataConfig.domain,
    tokenizer: str = DataConfig.tokenizer,
    root: Path = Path("cache"),
    workers: int | None = None,
    verify: bool = False,
) -> None:
    """Build the token cache of a corpus, or open it, and print what is in it.

    Args:
      corpus: pysource, text:PATH or tfds:NAME.
      domain: pysource only: all, code or docs.
      tokenizer: byte, char, word:SIZE, bpe:SIZE or file:PATH.
      root: the folder that caches are kept in.
      workers: processes to build with; one per core by default.
      verify: read every byte and compare it with what was written.
    """
    from rich.console import Console  # for this command alone
    from rich.table import Table

    data = DataConfig(corpus=corpus, domain=domain, tokenizer=tokenizer)
    cache = open_or_build(data, root, workers=workers)
    if verify:
        try:
            cache.verify()
        except DamagedCache as fault:
            raise BadInput(f"{cache.folder}: {fault}; delete this folder and build it again") from None
    table = Table(title=f"{data.corpus}, tokenizer {data.tokenizer}, vocabulary {cache.vocabulary:,}")
    for column in ("split", "domain", "documents", "bytes", "tokens", "bytes per token"):
        table.add_column(column, justify="left" if column in ("split", "domain") else "right")
    for split, rows in cache.statistics["splits"].items():
        for name, row in rows.items():
            ratio = row["bytes"] / row["tokens"] if row["tokens"] else 0.0
            counts = [f"{row[key]:,}" for key in ("documents", "bytes", "tokens")]
            table.add_row(split, name, *counts, f"{ratio:.3f}")
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in cache.statistics["dropped"].items())
    console.print(f"dropped: {dropped or 'none'}", highlight=False)
    console.print(f"fingerprint {cache.fingerprint}\nfolder {cache.folder}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    with exit_on_bad_input():
        cli.parse(main, sys.argv[1:], "python -m data.cache", about=__doc__)
