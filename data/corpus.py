"""From a corpus name to an index of its documents, whichever TFDS data set they lie in.

`locate` finds or builds the data set; `index` reads it once and fixes which documents are used, in which split
and in which order. The order of a split is that of the documents' digests: random with respect to their
origin, and a function of content alone.
"""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from core.files import read_json, write_json
from data import pysource, text
from data.config import DataConfig
from data.documents import DUPLICATE, MAXIMUM_BYTES, SPLITS, decode, digest, split_of
from data.integrity import build_folder, damage, describe, only_one
from data.pool import map_in_order

MANIFEST = "manifest.json"
CORPUS_FORMAT = 1  # raised when the same sources would give other documents
HELD_OUT_PERCENT = 1.0  # carved from train where a TFDS data set publishes no validation or test split
TFDS_NAME = re.compile(r"\w+(/[\w.+-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?")
_DOCUMENTS_PER_TASK = 4096
_PARALLEL_FROM_BYTES = 512 * 2**20  # an index pass reads 150 MB/s: below this, workers cost more than they save


@dataclasses.dataclass(frozen=True)
class Source:
    """A prepared TFDS data set: its versioned folder, which feature is the text, and what its builder dropped."""

    directory: str
    text_feature: str
    domain_feature: str
    splits: tuple[str, ...]
    dropped: dict[str, int]
    maximum_bytes: int | None


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


def signature(config: DataConfig) -> str:
    """A cheap stand-in for the corpus's content: equal signatures hold the same text, in 0.3 s and no reading.

    pysource: versions of Python and of each package. text: names, lengths and times of change of the files.
    tfds: the data set's own record of its files and their checksums.

    Raises:
      BadInput: the corpus does not exist.
    """
    kind, _, rest = config.corpus.partition(":")
    if kind == "pysource":
        parts = [config.domain, *pysource.signature(pysource.default_selection())]
    elif kind == "text":
        parts = text.signature(Path(rest).expanduser().resolve())
    else:
        directory = Path(_foreign_source(rest).directory)
        parts = [(directory / "dataset_info.json").read_text(), (directory / "features.json").read_text()]
    return json.dumps([CORPUS_FORMAT, kind, *parts])


def locate(config: DataConfig, folder: Path, *, workers: int | None = None) -> Source:
    """The corpus as a prepared TFDS data set; pysource and text are built in `folder` if they are not there.

    Two processes may call this at once: one builds, the other waits and takes what it built.

    Raises:
      BadInput: the corpus does not exist, holds no text, or cannot be prepared.
    """
    kind, _, rest = config.corpus.partition(":")
    if kind == "tfds":
        return _foreign_source(rest)
    with only_one(folder, notify=False):
        if not _whole(folder):
            build_folder(folder, lambda temporary: _build_own(config, temporary, workers))
    record = read_json(folder / MANIFEST)
    return Source(
        directory=str(folder / record["directory"]),
        text_feature="text",
        domain_feature="domain",
        splits=tuple(record["splits"]),
        dropped=record["dropped"],
        maximum_bytes=None if kind == "text" else MAXIMUM_BYTES,
    )


def index(source: Source, *, workers: int | None = None) -> CorpusIndex:
    """Read every document once; drop what cannot be used and duplicates; fix splits, order and fingerprint.

    A document that stands in several of the data set's splits stays in the one held out (test before
    validation before train).
    """
    dropped = collections.Counter(source.dropped)
    parts: list[list[SplitIndex]] = []
    names: dict[str, int] = {}
    with _quiet_tfds():
        for number, split in enumerate(source.splits):
            total = len(open_split(source.directory, split))
            tasks = [
                (source, number, start, min(start + _DOCUMENTS_PER_TASK, total))
                for start in range(0, total, _DOCUMENTS_PER_TASK)
            ]
            heavy = _size_on_disk(source.directory) > _PARALLEL_FROM_BYTES
            parts.append([])
            for part, domains, reasons in map_in_order(_index_range, tasks, workers=workers if heavy else 1):
                dropped.update(reasons)
                renumber = np.array([names.setdefault(name, len(names)) for name in domains], np.int64)
                parts[-1].append(dataclasses.replace(part, domains=renumber[part.domains]))
    by_split = _assign([_concatenate(part) for part in parts], source.splits)
    kept, duplicates = _without_duplicates(by_split)
    if duplicates:
        dropped[DUPLICATE] += duplicates
    return CorpusIndex(
        source=source,
        domains=tuple(names),
        splits=kept,
        dropped=dict(sorted(dropped.items())),
        fingerprint=_fingerprint(kept, tuple(names)),
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


def open_split(directory: str, split: str) -> Sequence[Any]:
    """Random access to the examples of one split of a prepared data set."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory).as_data_source(split=split)


def _build_own(config: DataConfig, folder: Path, workers: int | None) -> None:
    """Build pysource or the user's text as a TFDS data set below `folder`, with the manifest that says it is whole."""
    from data import builders  # imports TFDS, 0.5 s

    kind, _, rest = config.corpus.partition(":")
    builder: builders.Pysource | builders.UserText
    with _quiet_tfds():
        if kind == "pysource":
            builder = builders.Pysource(config=config.domain, data_dir=folder, workers=workers)
        else:
            builder = builders.UserText(path=Path(rest).expanduser().resolve(), data_dir=folder)
        with _disk_faults():
            builder.download_and_prepare()
    prepared = Path(builder.data_dir)
    write_json(
        folder / MANIFEST,
        {
            "directory": os.fspath(prepared.relative_to(folder)),
            "splits": [split for split in SPLITS if split in builder.info.splits],
            "dropped": builder.dropped,
            "files": {file.name: describe(file) for file in sorted(prepared.iterdir())},
        },
    )


@contextlib.contextmanager
def _disk_faults() -> Iterator[None]:
    """array_record reports a full disk as a RuntimeError with the system's words in it: make it the OSError it is."""
    try:
        yield
    except RuntimeError as error:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code)) from error
        raise


def _whole(folder: Path) -> bool:
    """Whether `folder` holds a complete, undamaged build."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_json(folder / MANIFEST)
    for name, record in manifest["files"].items():
        fault = damage(folder / manifest["directory"] / name, record)
        if fault:
            warnings.warn(f"{folder}: {fault}; building the corpus again", stacklevel=2)
            return False
    return True


def _foreign_source(name: str) -> Source:
    """A TFDS data set by name, downloaded and prepared by TFDS where it is not on the machine yet.

    Only names of TFDS's own data sets: for `huggingface:x`, or a name in a community's space, TFDS would fetch code
    and run it, and a spec is data.
    """
    given = f"data.corpus='tfds:{name}'"
    if not TFDS_NAME.fullmatch(name):
        raise BadInput(f"{given}: must be NAME, NAME/CONFIG or NAME/CONFIG:1.0.0, such as tfds:lm1b")
    import tensorflow_datasets as tfds

    folder = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    try:
        with _quiet_tfds():
            builder = tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        raise BadInput(
            f"{given}: no such data set; must be a name that tfds.list_builders() lists, or one prepared in "
            f"{folder} (TFDS_DATA_DIR)"
        ) from None
    except (ValueError, AssertionError) as error:
        raise BadInput(f"{given}: {_first_line(error)}") from None
    try:
        with _quiet_tfds():
            sources = tfds.data_source(name, data_dir=folder)
    except NotImplementedError:
        raise BadInput(
            f"{given}: prepared in {builder.data_dir} in another format than array_record; prepare it again "
            'with download_and_prepare(file_format="array_record") in another TFDS_DATA_DIR'
        ) from None
    except (OSError, ImportError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise BadInput(
            f"{given}: not prepared in {folder} and could not be ({type(error).__name__}: "
            f'{_first_line(error)}); where there is network, prepare it with file_format="array_record" and set '
            "TFDS_DATA_DIR"
        ) from None
    return Source(
        directory=os.fspath(builder.data_dir),
        text_feature=_text_feature(builder.info.features, given),
        domain_feature="",
        splits=tuple(split for split in sources if len(sources[split])),
        dropped={},
        maximum_bytes=None,
    )


def _text_feature(features: Any, given: str) -> str:
    import tensorflow_datasets as tfds

    names = [name for name, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if "text" in names:
        return "text"
    if len(names) == 1:
        return names[0]
    raise BadInput(
        f'{given}: needs a text feature named "text", or exactly one of any name; it has '
        f"{', '.join(sorted(names)) or 'none'} among {', '.join(sorted(features))}"
    )


def _index_range(task: tuple[Source, int, int, int]) -> tuple[SplitIndex, list[str], collections.Counter[str]]:
    source, number, start, stop = task
    examples = open_split(source.directory, source.splits[number])
    records, digests, lengths, domains = [], [], [], []
    names: dict[str, int] = {}
    reasons: collections.Counter[str] = collections.Counter()
    for record in range(start, stop):
        example = examples[record]
        payload = _bytes_of(example[source.text_feature])
        _, reason = decode(payload, maximum_bytes=source.maximum_bytes)
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


def _fingerprint(splits: dict[str, SplitIndex], domains: Sequence[str]) -> str:
    state = hashlib.sha256()
    for split in SPLITS:
        part = splits[split]
        state.update(f"{split} {len(part.lengths)}\n".encode())
        state.update(part.digests.tobytes())
        state.update("\n".join(domains[domain] for domain in part.domains).encode())
    return state.hexdigest()


def _bytes_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _size_on_disk(directory: str) -> int:
    return sum(file.stat().st_size for file in Path(directory).iterdir() if file.is_file())


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keep TFDS's own bars, notices and warnings off the screen; errors still come as exceptions."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    level = logger.level
    tfds.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
