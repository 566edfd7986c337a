"""Tokenizers of others that lose text, or cannot be used: counted and said, or refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as LibraryModel
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from data.notes import lost_share, notes
from data.roundtrip import bytes_lost, encode_texts
from data.tokenizers import identity, make
from tests.support.small import write_corpus

ENGLISH = ["Item 17: a naïve café costs 250 dollars.\n", "Nothing here."]


def byte_level(path: Path, normalizer: normalizers.Normalizer | None = None, **model: object) -> str:
    """A byte-level tokenizer.json, whose model is changed by hand."""
    library = LibraryModel(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    if normalizer is not None:
        library.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        ENGLISH, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    content = json.loads(library.to_str())
    content["model"] |= model
    path.write_text(json.dumps(content))
    return f"file:{path}"


def words(path: Path, known: list[str], unknown: str = "[UNK]") -> str:
    library = LibraryModel(
        models.WordLevel({name: number for number, name in enumerate(known)}, unk_token="[UNK]")
    )
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    content = json.loads(library.to_str())
    content["model"]["unk_token"] = unknown
    path.write_text(json.dumps(content))
    return f"file:{path}"


def lost(specification: str, texts: list[str]) -> int:
    tokenizer = make(specification, texts)
    return bytes_lost(tokenizer, texts, tokenizer.encode(texts))


@pytest.mark.parametrize(
    ("normalizer", "text", "expected"),
    [
        (None, "Every byte ü学🙂\n", 0),
        (normalizers.Replace("7", "1"), "17 and 77", 3),
        (normalizers.Lowercase(), "A bad Cat", 2),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "naïve café", 4),
        (normalizers.NFC(), "a plain text", 0),
    ],
)
def test_bytes_that_decoding_does_not_give_back_are_counted(
    tmp_path: Path, normalizer: normalizers.Normalizer | None, text: str, expected: int
) -> None:
    assert lost(byte_level(tmp_path / "t.json", normalizer), [text]) == expected


def test_unknown_words_are_lost_whatever_they_are_written_as(tmp_path: Path) -> None:
    specification = words(tmp_path / "t.json", ["[UNK]", "alpha"])
    assert lost(specification, ["alpha"]) == 0
    assert lost(specification, ["alpha UNKNOWN"]) == len(" UNKNOWN")
    assert lost("word:4", ["the the cat"]) == len("cat")
    assert lost("char", ENGLISH) == lost("bpe:300", ENGLISH) == lost("byte", ENGLISH) == 0


def test_a_cache_counts_what_is_lost_by_split_and_says_it(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", 200)
    config = DataConfig(
        corpus=f"text:{corpus}", tokenizer=words(tmp_path / "t.json", ["[UNK]", "alpha", "beta"])
    )
    cache = open_or_build(config, tmp_path / "cache", progress=False)
    shares = [lost_share(cache.statistics, split) for split in ("train", "validation", "test")]
    assert all(share is not None and 0.5 < share < 1 for share in shares)
    (line,) = notes(cache.statistics, config.corpus, config.tokenizer)
    assert f"decoding does not give back {shares[0]:.2%} of the bytes of train" in line
    assert "bits per byte are too low" in line
    whole = open_or_build(
        DataConfig(corpus=f"text:{corpus}", tokenizer="bpe:300"), tmp_path / "cache", progress=False
    )
    assert notes(whole.statistics, "corpus", "bpe:300") == []


def test_a_tokenizer_of_chance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"model\.dropout=0\.2: the same text gives other tokens each time; must be null"
    ):
        make(byte_level(tmp_path / "t.json", dropout=0.2), [])
    make(byte_level(tmp_path / "t.json", dropout=None), [])


def test_other_tokens_the_second_time_are_refused() -> None:
    class Chance(type(make("bpe:300", ENGLISH))):  # type: ignore[misc]
        def encode(self, texts):
            return [ids[:-1] for ids in super().encode(texts)]

    tokenizer = Chance(make("bpe:300", ENGLISH).to_json())
    with pytest.raises(BadInput, match="other tokens the second time"):
        encode_texts(tokenizer, ENGLISH, "bpe:300", with_bytes=True)


def test_a_tokenizer_without_its_unknown_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"data\.tokenizer=.*model\.unk_token='\[NOPE\]': must be one of the words"
    ):
        make(words(tmp_path / "t.json", ["alpha", "[UNK]"], unknown="[NOPE]"), [])


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("kind", ["byte level", "words"])
def test_no_text_ends_a_document(tmp_path: Path, special: bool, kind: str) -> None:
    path = tmp_path / "t.json"
    specification = byte_level(path) if kind == "byte level" else words(path, ["[UNK]", "a", "b", "</s>"])
    content = json.loads(path.read_text())
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    number = len(content["model"]["vocab"]) if kind == "byte level" else 3
    content["added_tokens"] = [{"id": number, "content": "</s>", "special": special, **entry}]
    if kind == "words":  # its words are what stands between spaces, so that a text can spell the end
        content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    path.write_text(json.dumps(content))
    tokenizer = make(specification, [])
    texts = ["a </s> b", "a</s>b", "</s>", "</s></s>"]
    done = encode_texts(tokenizer, texts, specification, with_bytes=True)
    assert not any(np.isin(tokenizer.separator, ids) for ids in done.tokens)
    assert tokenizer.separator == (number if special and kind == "byte level" else number + 1)
    assert tokenizer.vocabulary == tokenizer.separator + 1


@pytest.mark.parametrize("place", ["/dev/zero", "a pipe", "a folder"])
def test_only_regular_files_are_read(tmp_path: Path, place: str) -> None:
    import os

    path = tmp_path / "t.json"
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    else:
        path.symlink_to(place)
    for read in (identity, lambda name: make(name, [])):
        with pytest.raises(BadInput, match=r"must be a tokenizer\.json"):
            read(f"file:{path}")
