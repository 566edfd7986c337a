"""The token cache: a corpus as memory-mapped token ids, built once and shared by every process.

    python -m data.cache --corpus pysource --tokenizer byte     # builds it and prints what is in it

Each split is one stream: its documents in the order of their digests, each followed by the separator token.
A folder appears under its name only when everything in it is written and flushed; a build that was killed
leaves nothing that could be taken for one. Opening checks the header and every byte of files up to `WHOLE_BYTES`; of
longer ones each block is checked when it is read for the first time. What is damaged is built again.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import cli, disk
from core.epochs import CACHES
from core.errors import BadInput, exit_on_bad_input
from core.files import read_object, write_atomic, write_json
from data import blocks, corpora
from data.blocks import DamagedCache
from data.config import DataConfig
from data.documents import SPLITS
from data.integrity import (
    CACHE_FORMAT,
    META,
    TOKENIZER,
    build_folder,
    checksum,
    damage,
    damage_of_size,
    only_one,
)
from data.mixture import fingerprint_with, fresh_tokens, parse_mixture
from data.notes import dropped, notes
from data.parts import Parts
from data.streams import NEAR, CheckedArray, TokenSplit
from data.tokenizers import Tokenizer, identity, load

WHOLE_BYTES = 256 * 2**20  # 0.2 s
MARK = "damaged.txt"  # wrong bytes were found where a cache was read: whoever opens it next reads all of it


class TokenCache:
    """An opened cache folder.

    Attributes:
      folder: where it is.
      fingerprint: SHA-256 over everything that decides the tokens: the corpus's documents and the tokenizer.
      corpus_fingerprint: SHA-256 over the documents, their splits and domains.
      vocabulary: number of token ids, the separator included.
      separator: id of the token that ends each document; 0 but for a tokenizer.json of someone else's.
      dtype: NumPy's name of the type of the streams.
      statistics: {"splits": {split: {domain: {"documents", "bytes", "tokens"}}}, "dropped": {reason: count}}, and since
        they are counted "lost": {split: bytes that decoding does not give back}, "near_duplicates": {split: {Jaccard:
        documents with one on the other side}} and `data.documents.LeftOut`.
      skills: token stream of each skill of the configuration that it was opened for.
      mixture: cache of each corpus of its mixture.
    """

    def __init__(self, folder: Path) -> None:
        """Open `folder` and check it.

        Raises:
          DamagedCache: something is missing, or is not what was written.
        """
        self.folder = folder
        self._fresh: int | None = None
        self._meta = _header(folder)
        self._blocks = _checked_blocks(folder, self._meta["files"])
        self.fingerprint: str = self._meta["fingerprint"]
        self.corpus_fingerprint: str = self._meta["corpus_fingerprint"]
        self.vocabulary: int = self._meta["vocabulary"]
        self.separator: int = self._meta["separator"]
        self.dtype: str = self._meta["dtype"]
        self.statistics: dict[str, Any] = self._meta["statistics"]
        self.skills: tuple[np.ndarray, ...] = ()
        self.mixture: tuple[TokenCache, ...] = ()

    @property
    def fresh_tokens(self) -> int:
        """Tokens of the train split; of a mixture, those that a run may read before a corpus repeats."""
        return self.split("train").token_count if self._fresh is None else self._fresh

    @property
    def trained_on(self) -> "tuple[TokenCache, ...]":
        """Where the training text is: this cache, or those of the mixture."""
        return self.mixture or (self,)

    def mix(self, config: DataConfig, caches: "Sequence[TokenCache]") -> None:
        """Take the training text from the caches of the mixture; the fingerprint is then that of all."""
        parts = parse_mixture(config.mixture)
        self.mixture = tuple(caches)
        self.fingerprint = fingerprint_with(self.fingerprint, parts, [one.fingerprint for one in caches])
        self._fresh = fresh_tokens(parts, [one.split("train").token_count for one in caches])

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
        kinds = {"tokens": self._meta["dtype"], "offsets": "<i8", "bytes": "<u4", NEAR: "<f4"}
        arrays = {
            kind: CheckedArray(
                self.folder / f"{name}.{kind}",
                np.dtype(dtype),
                functools.partial(self._check, f"{name}.{kind}"),
            )
            for kind, dtype in kinds.items()
            if f"{name}.{kind}" in self._meta["files"]
        }
        return TokenSplit(arrays, record["tokens"], record["bytes"])

    def _check(self, name: str, starts: np.ndarray | None = None, length: int = 0) -> None:
        """Check a file before it is read, or stretches of `length` bytes of it.

        Raises:
          BadInput: wrong bytes. The cache is marked, so that whoever opens it next builds it again.
        """
        checked = self._blocks.get(name)
        if checked is None:
            return
        try:
            checked.check_all() if starts is None else checked.check(starts, length)
        except DamagedCache as fault:
            with contextlib.suppress(OSError):
                write_atomic(self.folder / MARK, f"{fault}\n")
            raise BadInput(f"{self.folder}: {fault}; the same command builds this cache again") from None

    def verify(self) -> None:
        """Read every byte and compare its SHA-256 with the one written. Raises DamagedCache."""
        fault = _first_damage(self.folder, self._meta["files"], whole=True)
        for checked in self._blocks.values():
            checked.check_all()  # which block it is
        if fault:
            raise DamagedCache(fault)


def train_tokens(config: DataConfig, root: Path) -> int | None:
    """Tokens of the train split where the cache of `config` is there already; None where it has to be built first."""
    if config.mixture:
        counts = [train_tokens(one, root) for one in config.parts()]
        known = [count for count in counts if count is not None]
        return fresh_tokens(parse_mixture(config.mixture), known) if len(known) == len(counts) else None
    caches, name = Path(root) / CACHES, _readable((config.corpus, config.domain, config.tokenizer))
    # Only where some cache has this name: to ask a corpus of TFDS for its signature may download it.
    if not any(caches.glob(f"{name}-*/{META}")):
        return None
    try:
        return int(_header(_folder(config, root))["splits"]["train"]["tokens"])
    except (DamagedCache, BadInput):
        return None


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
    if config.mixture:
        cache.mix(config, [_open_or_build_corpus(one, root, workers, progress) for one in config.parts()])
    if config.skills:
        from data.skills import open_skills  # loads the tasks

        with _disk_faults(root):
            cache.skills = open_skills(
                config.skills, config.skill_tokens, cache.tokenizer, np.dtype(cache.dtype), root
            )
    return cache


def _open_or_build_corpus(config: DataConfig, root: Path, workers: int | None, progress: bool) -> TokenCache:
    folder = _folder(config, root)
    with _disk_faults(root):
        if os.path.lexists(folder / META) and (cache := _open_if_whole(folder)):
            return cache
        with only_one(folder, notify=progress):
            if os.path.lexists(folder / META) and (cache := _open_if_whole(folder)):
                return cache
            # TFDS, seconds: most processes find the cache built
            from data.build import build_tokens

            corpus_key = corpora.signature(config.corpus, config.domain)
            corpus_folder = root / "corpora" / _folder_name((config.corpus, config.domain), corpus_key)
            parts = Parts(folder.with_name(f".{folder.name}.parts"))
            try:
                build_folder(
                    folder,
                    lambda temporary: build_tokens(
                        config, corpus_folder, temporary, workers=workers, progress=progress, parts=parts
                    ),
                )
            except BadInput:
                parts.remove()
                raise
            parts.remove()
        return TokenCache(folder)


@contextlib.contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    """A place that is no folder is the user's mistake; what the disk refuses names its file, or at least the place."""
    try:
        with disk.named(root):
            yield
    except (NotADirectoryError, PermissionError) as error:
        raise BadInput(f"cache folder {root}: {error.strerror}; must be writable and have room") from None


def _open_if_whole(folder: Path) -> TokenCache | None:
    try:
        return TokenCache(folder)
    except DamagedCache as fault:
        warnings.warn(f"{folder}: {fault}; building it again", stacklevel=3)
        return None


def _header(folder: Path) -> dict[str, Any]:
    if not (folder / META).is_file():
        raise DamagedCache(f"{META} is no file")
    try:
        meta = read_object(folder / META)
    except BadInput as error:
        raise DamagedCache(str(error)) from None
    if meta.get("checksum") != checksum(meta):
        raise DamagedCache(f"{META} does not match its checksum")
    return meta


def _checked_blocks(folder: Path, records: Mapping[str, Any]) -> dict[str, blocks.Blocks]:
    """The checksums of the files of a cache, checked but for what of long files is yet to be read.

    A cache of an earlier version has none: they are made while its files are read, where these are not long.

    Raises:
      DamagedCache: a file is missing or is not what was written.
    """
    marked = os.path.lexists(folder / MARK)
    known = blocks.read(folder)
    small = {name: marked or record["size"] <= WHOLE_BYTES for name, record in records.items()}
    found: dict[str, blocks.Blocks] = {}
    made: dict[str, tuple[str, np.ndarray]] = {}
    for name, record in records.items():
        path = folder / name
        sha256, checksums = known.get(name, ("", np.zeros(0, np.uint32)))
        if fault := damage_of_size(path, record):
            raise DamagedCache(fault)
        if sha256 != record["sha256"]:
            if not small[name]:
                if fault := damage(path, record):
                    raise DamagedCache(fault)
                continue
            sha256, checksums = blocks.digests(path)
            if sha256 != record["sha256"]:
                raise DamagedCache(f"{name} does not hold what was written")
        made[name] = (sha256, checksums)
        found[name] = blocks.opened(path, sha256, checksums)
        if small[name]:
            found[name].check_all()
    with contextlib.suppress(OSError, BadInput):  # a folder that is only read, or no file in its place
        if made.keys() != known.keys():
            write_json(folder / blocks.BLOCKS, blocks.to_json(made))
        if marked:
            (folder / MARK).unlink()
    return found


def _first_damage(folder: Path, records: Mapping[str, Any], *, whole: bool) -> str:
    faults = (damage(folder / name, record, whole=whole) for name, record in records.items())
    return next(filter(None, faults), "")


def _folder(config: DataConfig, root: Path) -> Path:
    """Where the token cache of `config` lies, built or not."""
    corpus_key = corpora.signature(config.corpus, config.domain)
    decides = [CACHE_FORMAT, corpus_key, identity(config.tokenizer)]
    key = json.dumps([*decides, config.near_duplicates] if config.near_duplicates else decides)
    return Path(root) / CACHES / _folder_name((config.corpus, config.domain, config.tokenizer), key)


def _folder_name(parts: tuple[str, ...], key: str) -> str:
    """A readable name that ends in 12 hex digits of the key's hash."""
    return f"{_readable(parts)}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _readable(parts: tuple[str, ...]) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "_", os.path.basename(part)) for part in parts)[:60]


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
    from rich.markup import escape
    from rich.table import Table

    data = DataConfig(corpus=corpus, domain=domain, tokenizer=tokenizer).located()
    cache = open_or_build(data, root, workers=workers)
    if verify:
        try:
            cache.verify()
        except DamagedCache as fault:
            raise BadInput(f"{cache.folder}: {fault}; delete this folder and build it again") from None
    table = Table(title=escape(f"{data.corpus}, tokenizer {data.tokenizer}, vocabulary {cache.vocabulary:,}"))
    for column in ("split", "domain", "documents", "bytes", "tokens", "bytes per token"):
        table.add_column(column, justify="left" if column in ("split", "domain") else "right")
    for split, rows in cache.statistics["splits"].items():
        for name, row in rows.items():
            ratio = row["bytes"] / row["tokens"] if row["tokens"] else 0.0
            counts = [f"{row[key]:,}" for key in ("documents", "bytes", "tokens")]
            table.add_row(split, name, *counts, f"{ratio:.3f}")
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print(
        f"dropped: {dropped(cache.statistics) or 'none'}", highlight=False, markup=False, soft_wrap=True
    )
    for line in notes(cache.statistics, data.corpus, data.tokenizer):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"fingerprint {cache.fingerprint}\nfolder {cache.folder}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    with exit_on_bad_input():
        cli.parse(main, sys.argv[1:], "python -m data.cache", about=__doc__)
