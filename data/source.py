"""A corpus as a prepared TFDS data set: where it lies, and how one that is read from this machine is written.

TensorFlow is not needed to write or to read array_record files.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import read_json, write_json
from data.documents import SPLITS, Documents
from data.integrity import build_folder, damage, describe, only_one

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """A prepared TFDS data set.

    Attributes:
      directory: its versioned folder.
      text_feature: the feature that is the text.
      domain_feature: the feature that names a document's domain; empty where it has none.
      splits: names of those that hold documents.
      dropped: documents that its builder left out, by reason.
    """

    directory: str
    text_feature: str
    domain_feature: str
    splits: tuple[str, ...]
    dropped: Mapping[str, int]


def build(
    folder: Path, kind: str, read: Callable[[], Documents], *, domain: str = "", description: str = ""
) -> Source:
    """Documents as a TFDS data set in `folder`, written if it is not there or is damaged.

    Two processes may call this at once: one builds, the other waits and takes what it built.

    Args:
      kind: of the corpus, a name for the data set.
      read: called where the data set has to be written.
      domain: part of the corpus, the name of the data set's configuration; empty where it has no parts.

    Raises:
      BadInput: there is no usable document.
      OSError: the disk does not take it.
    """
    with only_one(folder, notify=False):
        if not _is_whole(folder):
            build_folder(folder, lambda temporary: _write(temporary, kind, read(), domain, description))
    record = read_json(folder / MANIFEST)
    return Source(
        directory=str(folder / record["directory"]),
        text_feature="text",
        domain_feature="domain",
        splits=tuple(record["splits"]),
        dropped=record["dropped"],
    )


def open_split(directory: str, split: str) -> Sequence[Any]:
    """Random access to the examples of one split of a prepared data set."""
    import tensorflow_datasets as tfds  # 0.5 s

    return tfds.builder_from_directory(directory).as_data_source(split=split)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Keep TFDS's own bars, notices and warnings off the screen; errors still come as exceptions."""
    import tensorflow_datasets as tfds  # 0.5 s

    logger = logging.getLogger("absl")
    level = logger.level
    tfds.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write(folder: Path, kind: str, documents: Documents, domain: str, description: str) -> None:
    """The data set below `folder`, with the manifest that says it is whole."""
    with quiet_tfds():
        from data.builder import DocumentBuilder  # imports TFDS, 0.5 s

        builder = DocumentBuilder(kind, documents, domain, description, folder)
        with _disk_faults():
            builder.download_and_prepare()
    prepared = Path(builder.data_dir)
    write_json(
        folder / MANIFEST,
        {
            "directory": os.fspath(prepared.relative_to(folder)),
            "splits": [split for split in SPLITS if split in builder.info.splits],
            "dropped": dict(sorted(documents.dropped.items())),
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


def _is_whole(folder: Path) -> bool:
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
