"""Any TFDS text corpus by name, shown on data sets prepared here: no network, no TensorFlow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core.errors import BadInput
from data import corpora
from data.cache import TokenCache, open_or_build
from data.config import DataConfig
from data.corpora.tfds import TFDS_NAME
from data.index import index_documents, read_documents

TRAIN = [f"training text number {number}, wörter" for number in range(300)]
HELD_OUT = [f"held-out text number {number}" for number in range(20)]

with tfds.core.registered.skip_registration():  # found by their files alone, as a laboratory's own would be

    class Prepared(tfds.core.GeneratorBasedBuilder):
        """Writes given rows under a given name."""

        VERSION = tfds.core.Version("2.0.0")
        url_infos: ClassVar[dict] = {}

        def __init__(self, name: str, splits: dict[str, list[dict]], features: dict, **options: object) -> None:
            self.name = name
            self._splits, self._features = splits, features
            super().__init__(file_format="array_record", **options)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self._features))

        def _split_generators(self, dl_manager: object) -> dict:
            return {name: self._generate_examples(rows) for name, rows in self._splits.items()}

        def _generate_examples(self, rows: list[dict]) -> Iterator[tuple[int, dict]]:
            yield from enumerate(rows)


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))

    def make(name: str, splits: dict[str, list[dict]], features: dict) -> Path:
        Prepared(name, splits, features, data_dir=folder).download_and_prepare()
        return folder / name / "2.0.0"

    return make


def open_cache(name: str, root: Path) -> TokenCache:
    config = DataConfig(corpus=f"tfds:{name}", sequence_length=16, validation_tokens=64)
    return open_or_build(config, root, workers=1, progress=False)


def texts(cache: TokenCache, split: str) -> set[str]:
    return {piece.decode() for piece in cache.split(split).tokens.tobytes().split(b"\0")[:-1]}


def rows(values: list[str]) -> list[dict]:
    return [{"text": value, "label": 1} for value in values]


TEXT_AND_LABEL = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=3)}


def test_published_splits_stay_and_missing_ones_are_carved_from_train(prepare, tmp_path: Path) -> None:
    prepare("little", {"train": rows(TRAIN), "test": rows(HELD_OUT)}, TEXT_AND_LABEL)
    cache = open_cache("little", tmp_path / "cache")
    assert texts(cache, "test") == set(HELD_OUT)
    assert texts(cache, "train") | texts(cache, "validation") == set(TRAIN)
    assert not texts(cache, "train") & texts(cache, "validation")


def test_what_is_held_out_somewhere_leaves_training(prepare, tmp_path: Path) -> None:
    splits = {
        "train": rows([*TRAIN, *HELD_OUT, *TRAIN[:7], "  ", "nul\0byte"]),
        "validation": rows(HELD_OUT),
        "test": rows(HELD_OUT[:5]),
        "unsupervised": rows(["more to read"]),
    }
    prepare("overlapping", splits, TEXT_AND_LABEL)
    cache = open_cache("overlapping", tmp_path / "cache")
    assert texts(cache, "train") == {*TRAIN, "more to read"}
    assert texts(cache, "validation") == set(HELD_OUT[5:])
    assert texts(cache, "test") == set(HELD_OUT[:5])
    assert cache.statistics["dropped"] == {"NUL byte": 1, "duplicate": 20 + 7 + 5, "empty": 1}


def test_the_only_text_feature_is_the_text(prepare, tmp_path: Path) -> None:
    features = {"sentence": tfds.features.Text(), "id": tfds.features.Scalar(np.int64)}
    prepare("renamed", {"train": [{"sentence": text, "id": 3} for text in TRAIN]}, features)
    cache = open_cache("renamed", tmp_path / "cache")
    assert texts(cache, "train") | texts(cache, "validation") | texts(cache, "test") == set(TRAIN)


def test_an_unknown_name_is_refused(prepare, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data\.corpus='tfds:no_such_set': no such data set; must be a name"):
        open_cache("no_such_set", tmp_path / "cache")


def test_a_set_that_cannot_be_prepared_says_what_to_do(
    prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(BadInput, match=r"tfds:lm1b': not prepared in .*no route to host.*TFDS_DATA_DIR"):
        open_cache("lm1b", tmp_path / "cache")


def test_no_text_or_several_texts_are_refused(prepare, tmp_path: Path) -> None:
    prepare("numbers", {"train": [{"id": 1}]}, {"id": tfds.features.Scalar(np.int64)})
    with pytest.raises(BadInput, match="it has none among id"):
        open_cache("numbers", tmp_path / "cache")
    pair = {"question": tfds.features.Text(), "answer": tfds.features.Text()}
    prepare("pairs", {"train": [{"question": "a", "answer": "b"}]}, pair)
    with pytest.raises(BadInput, match="it has answer, question among answer, question"):
        open_cache("pairs", tmp_path / "cache")


def test_another_file_format_is_refused(prepare, tmp_path: Path) -> None:
    folder = prepare("records", {"train": rows(TRAIN)}, TEXT_AND_LABEL)
    information = json.loads((folder / "dataset_info.json").read_text())
    information["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(information))
    with pytest.raises(BadInput, match=r"tfds:records'.*array_record"):
        open_cache("records", tmp_path / "cache")


def test_a_record_that_changed_since_it_was_indexed_is_refused(prepare, tmp_path: Path) -> None:
    prepare("moving", {"train": rows(TRAIN)}, TEXT_AND_LABEL)
    source = corpora.locate("tfds:moving", "all", tmp_path / "unused")
    index = index_documents(source)
    assert sorted(read_documents(source, index.splits["train"]))[0] in TRAIN
    index.splits["train"].digests.flags.writeable = True
    index.splits["train"].digests[0, 0] ^= 1
    with pytest.raises(BadInput, match="changed or is damaged"):
        list(read_documents(source, index.splits["train"]))


@pytest.mark.parametrize(
    "name",
    [
        "huggingface:owner/set",
        "kaggle:set",
        "someone:set/config:1.0.0",
        "set/data_dir=gs://evil",
        "../set",
        "/set",
        "set ",
    ],
)
def test_a_name_for_which_tfds_would_fetch_code_is_refused(name, tmp_path):
    with pytest.raises(BadInput, match="must be NAME, NAME/CONFIG"):
        corpora.locate(f"tfds:{name}", "all", tmp_path)


@pytest.mark.parametrize(
    "name", ["lm1b", "wikipedia/20230601.en", "wikipedia/20230601.en:1.0.0", "c4/en:3.*.*"]
)
def test_names_of_tfds_own_sets_are_names(name):
    assert TFDS_NAME.fullmatch(name)
