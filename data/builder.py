"""The TFDS builder of a corpus that this project reads from the machine, written as array_record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from core.errors import BadInput
from data.documents import SPLITS, Documents
from data.notes import dropped
from data.textfiles.find import said


class DocumentBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes documents that some source yields, one example each, in the source's order."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos: ClassVar[dict[str, Any]] = {}  # nothing is downloaded: no published checksums to look for

    def __init__(self, name: str, documents: Documents, domain: str, description: str, folder: Path) -> None:
        """Args: domain: of the configuration, empty for none; folder: the data set lies in <name>/ of it."""
        self.name = name
        self._documents, self._text = documents, description
        config = tfds.core.BuilderConfig(name=domain, description=domain) if domain else None
        super().__init__(data_dir=folder, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._text,
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in ("text", "domain", "path", "sha256")}
            ),
            supervised_keys=None,
            disable_shuffling=True,  # the documents come in the order of their digests already
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        present: set[str] = set()
        for document in self._documents:  # TFDS refuses a split without examples
            present.add(document.split)
            if len(present) == len(SPLITS):
                break
        if not present:
            left_out = getattr(self._documents, "left_out", {})
            reasons = dropped({"dropped": dict(sorted(self._documents.dropped.items())), **left_out})
            skipped = said(left_out.get("skipped_files", {}), "; not read: ")
            raise BadInput(
                f"data.corpus: no usable document in {self._documents.origin} (dropped: {reasons or 'none'}{skipped})"
            )
        return {split: self._generate_examples(split) for split in SPLITS if split in present}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, str]]]:
        number = 0
        for document in self._documents:
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
