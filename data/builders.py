"""TFDS builders of the corpora that this project reads from the machine, written as array_record.

Importing this module registers both with TFDS: `tfds.builder("pysource/code", data_dir=...)` works like any
other data set. TensorFlow is not needed to write or to read them.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from core.errors import BadInput
from data import pysource, text
from data.documents import SPLITS, Document

FILE_FORMAT = "array_record"


class _DocumentBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes documents that some source yields, one example each, in the source's order."""

    url_infos: ClassVar[dict[str, Any]] = {}  # nothing is downloaded: no published checksums to look for

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in ("text", "domain", "path", "sha256")}
            ),
            supervised_keys=None,
            disable_shuffling=True,  # the documents come in the order of their digests already
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        present: set[str] = set()
        for document in self._documents():  # TFDS refuses a split without examples
            present.add(document.split)
            if len(present) == len(SPLITS):
                break
        if not present:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            raise BadInput(f"data.corpus: no usable document in {self._origin} (dropped: {reasons or 'none'})")
        return {split: self._generate_examples(split) for split in SPLITS if split in present}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, str]]]:
        number = 0
        for document in self._documents():
            if document.split == split:
                yield (
                    number,
                    {
                        "text": document.text,
                        "domain": document.domain,
                        "path": document.path,
                        "sha256": document.sha256,
                    },
                )
                number += 1

    _origin: str

    @property
    def dropped(self) -> dict[str, int]:
        """Documents left out, by reason, once the source was read."""
        raise NotImplementedError

    def _documents(self) -> Iterable[Document]:
        raise NotImplementedError


class Pysource(_DocumentBuilder):
    """Python source and documentation of the standard library and of this project's requirements."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="all", description="source files and documentation files"),
        tfds.core.BuilderConfig(name="code", description="source files"),
        tfds.core.BuilderConfig(name="docs", description="documentation files and docstrings"),
    )

    def __init__(
        self, *, selection: pysource.Selection | None = None, workers: int | None = None, **options: Any
    ) -> None:
        """Args: selection: what is read, `pysource.default_selection()` where None; options: as TFDS has them."""
        self._selection = selection or pysource.default_selection()
        self._workers = workers
        self._collected: pysource.Collected | None = None
        self._origin = ", ".join(self._selection.requirements) or "no requirement"
        super().__init__(file_format=FILE_FORMAT, **options)

    @property
    def dropped(self) -> dict[str, int]:
        return self._collect().dropped

    def _documents(self) -> Iterable[Document]:
        return self._collect().documents

    def _collect(self) -> pysource.Collected:
        if self._collected is None:
            self._collected = pysource.collect(self._selection, self.builder_config.name, workers=self._workers)
        return self._collected


class UserText(_DocumentBuilder):
    """The user's own text: a .txt, .jsonl or .parquet file, or a folder of them."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, path: str | Path, **options: Any) -> None:
        """Args: path: the file or folder; options: as TFDS has them."""
        self._source = text.TextSource(Path(path))
        self._origin = f"text:{path}"
        super().__init__(file_format=FILE_FORMAT, **options)

    @property
    def dropped(self) -> dict[str, int]:
        return dict(sorted(self._source.dropped.items()))

    def _documents(self) -> Iterable[Document]:
        return self._source
