"""Tokenizers: lossless where they claim it, exact in bytes always, the same wherever they are trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as LibraryModel

from core.errors import BadInput
from data.tokenizers import Tokenizer, identity, load, make
from tests.data.conftest import WORDS

SAMPLE = [f"{word} {other}  {word}\n\t{other}{number}" for number, word in enumerate(WORDS) for other in WORDS]
SPECIFICATIONS = ("byte", "char", "word:60", "bpe:320")
MADE = {specification: make(specification, SAMPLE) for specification in SPECIFICATIONS}

texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
    st.lists(st.sampled_from([*WORDS, " ", "\n", "  ", "ﬁ", "e\u0301"]), max_size=20).map("".join),
)


@pytest.mark.parametrize("specification", ["byte", "bpe:320"])
@given(text=texts)
def test_lossless_round_trip(specification: str, text: str) -> None:
    tokenizer = MADE[specification]
    (tokens,) = tokenizer.encode([text])
    assert tokenizer.decode(tokens.tolist()) == text


@pytest.mark.parametrize("specification", ["char", "word:60"])
@given(text=texts)
def test_round_trip_up_to_unknown(specification: str, text: str) -> None:
    tokenizer = MADE[specification]
    (tokens,) = tokenizer.encode([text])
    pieces = [tokenizer.decode([token]) for token in tokens.tolist()]
    (weights,) = tokenizer.token_bytes([text])
    payload, end = text.encode(), 0
    for piece, token, weight in zip(pieces, tokens, weights, strict=True):
        original = payload[end : end + int(weight)].decode()
        assert piece == ("\ufffd" if token == 1 else original)
        end += int(weight)
    assert end == len(payload)


@pytest.mark.parametrize("specification", SPECIFICATIONS)
@given(text=texts)
def test_bytes_are_exact_and_no_text_ends_a_document(specification: str, text: str) -> None:
    tokenizer = MADE[specification]
    (tokens,), (weights,) = tokenizer.encode([text]), tokenizer.token_bytes([text])
    assert len(tokens) == len(weights)
    assert int(weights.sum()) == len(text.encode())
    assert tokenizer.separator == 0
    assert not (tokens == 0).any()
    assert not len(tokens) or tokens.max() < tokenizer.vocabulary


@given(text=texts)
def test_characters_equal_their_own_tokenizer_json(text: str) -> None:
    library = LibraryModel.from_str(MADE["char"].to_json())
    (tokens,) = MADE["char"].encode([text])
    assert library.encode(text).ids == tokens.tolist()


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_saved_and_loaded_is_the_same(specification: str) -> None:
    original = MADE[specification]
    again = load(specification, original.to_json())
    assert (again.vocabulary, again.separator) == (original.vocabulary, original.separator)
    for first, second in zip(original.encode(SAMPLE), again.encode(SAMPLE), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("specification", SPECIFICATIONS[1:])
def test_training_is_the_same_in_another_process(specification: str) -> None:
    program = (
        "import sys; from data.tokenizers import make; from tests.data.test_tokenizers import SAMPLE;"
        "sys.stdout.write(make(sys.argv[1], SAMPLE).to_json())"
    )
    command = [sys.executable, "-c", program, specification]
    other = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert other.stdout == MADE[specification].to_json()


def test_sizes_are_kept() -> None:
    assert MADE["byte"].vocabulary == 256
    assert MADE["word:60"].vocabulary == 60
    assert MADE["bpe:320"].vocabulary == 320
    assert MADE["char"].vocabulary == len(set("".join(SAMPLE))) + 2


def test_rare_characters_are_unknown() -> None:
    tokenizer = make("char", ["a" * 3_000_000 + "b" * 4 + "c"])
    (tokens,) = tokenizer.encode(["abc"])
    assert tokens.tolist() == [2, 3, 1]


def foreign(
    path: Path, *, special: list[str], normalizer: normalizers.Normalizer | None = None, byte_level: bool = True
) -> Tokenizer:
    """A tokenizer.json as other projects write them."""
    library = LibraryModel(models.BPE() if byte_level else models.WordLevel(unk_token="[UNK]"))
    trainer: object
    if byte_level:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        library.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
        trainer = trainers.WordLevelTrainer(vocab_size=40, special_tokens=special, show_progress=False)
    if normalizer is not None:
        library.normalizer = normalizer
    library.train_from_iterator(SAMPLE, trainer)
    library.enable_truncation(5)
    library.save(str(path))
    return make(f"file:{path}", [])


def test_file_with_its_own_end_token(tmp_path: Path) -> None:
    tokenizer = foreign(tmp_path / "tokenizer.json", special=["<pad>", "<|endoftext|>"])
    assert tokenizer.separator == 1
    assert tokenizer.vocabulary == 300
    (tokens,) = tokenizer.encode(["value <|endoftext|> value self the"])
    assert len(tokens) > 5  # the file's truncation does not apply
    assert not (tokens == 1).any()


def test_file_without_an_end_token_gets_one_after_its_last(tmp_path: Path) -> None:
    tokenizer = foreign(tmp_path / "tokenizer.json", special=["<pad>"])
    assert (tokenizer.separator, tokenizer.vocabulary) == (300, 301)


@given(text=texts)
@settings(max_examples=50)
def test_bytes_of_a_file_that_drops_and_folds_text_are_exact(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for byte_level in (True, False):
        path = tmp_path_factory.getbasetemp() / f"{byte_level}.json"
        folding = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer = (
            make(f"file:{path}", [])
            if path.exists()
            else foreign(path, special=["[UNK]", "[SEP]"], normalizer=folding, byte_level=byte_level)
        )
        (tokens,), (weights,) = tokenizer.encode([text]), tokenizer.token_bytes([text])
        assert len(tokens) == len(weights)
        assert int(weights.sum()) == (len(text.encode()) if len(tokens) else 0)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"version": "1.0"}', json.dumps({"model": 3}).encode()]
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"(must be|not) a tokenizer\.json") as caught:
        make(f"file:{path}", [])
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"No such file.*must be a tokenizer\.json"):
        identity(f"file:{tmp_path / 'absent.json'}")
