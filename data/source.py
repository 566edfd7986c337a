"""A corpus as a prepared TFDS data set: where it lies, and how one that is read from this machine is written.

TensorFlow is not needed to write or to read array_record files.
"""

import contextlib
import dataclasses
import errno
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import disk
from core.errors import BadInput
from core.files import read_json, read_object, write_json
from data.documents import SPLITS, Documents
from data.integrity import build_folder, checksum, damage, describe, only_one

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
      left_out: `LeftOut` of a corpus that says which they are, and which files it did not read.
    """

    directory: str
    text_feature: str
    domain_feature: str
    splits: tuple[str, ...]
    dropped: Mapping[str, int]
    left_out: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def identity(self) -> str:
        """SHA-256 of what the data set says of its own files; of one that was written here, with their checksums."""
        folder = Path(self.directory)
        told = [*sorted(folder.glob("*.json")), *(above / MANIFEST for above in folder.parents[:3])]
        return hashlib.sha256(b"".join(path.read_bytes() for path in told if path.is_file())).hexdigest()


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
    if not _is_whole(folder):  # looked at before the lock is taken: a folder may be one that is only read
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
        left_out=record.get("left_out", {}),
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
    manifest = {
        "directory": os.fspath(prepared.relative_to(folder)),
        "splits": [split for split in SPLITS if split in builder.info.splits],
        "dropped": dict(sorted(documents.dropped.items())),
        "left_out": getattr(documents, "left_out", {}),
        "files": {file.name: describe(file) for file in sorted(prepared.iterdir())},
    }
    write_json(folder / MANIFEST, manifest | {"checksum": checksum(manifest)})


@contextlib.contextmanager
def _disk_faults() -> Iterator[None]:
    """A full disk is a RuntimeError of array_record, an OSError without a number of TFDS: make it the one it is."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        code = errno.ENOSPC if str(error).startswith("Not enough disk space") else disk.number_of(error)
        if code is None or (isinstance(error, OSError) and error.errno):
            raise
        raise OSError(code, os.strerror(code)) from error


def _is_whole(folder: Path) -> bool:
    """Whether `folder` holds a complete, undamaged build, by reading all of it: tokens are about to be made from it."""
    if not os.path.lexists(folder / MANIFEST):
        return False
    fault = _fault(folder)
    if fault:
        warnings.warn(f"{folder}: {fault}; building the corpus again", stacklevel=2)
    return not fault


def _fault(folder: Path) -> str:
    if not (folder / MANIFEST).is_file():
        return f"{MANIFEST} is no file"
    try:
        manifest = read_object(folder / MANIFEST)
        if manifest.get("checksum", checksum(manifest)) != checksum(manifest):
            return f"{MANIFEST} does not match its checksum"
        files = [(folder / manifest["directory"] / name, record) for name, record in manifest["files"].items()]
        faults = (damage(path, record, whole=True) for path, record in files)
        return next(filter(None, faults), "")
    except BadInput as error:
        return str(error)
    except (KeyError, TypeError, AttributeError):
        return f"{MANIFEST} does not say what is in the folder"
