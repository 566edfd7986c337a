"""Cleaning, deduplication and splitting: functions of content alone."""

import collections
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document, decode, digest, drop_duplicates, split_of


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\r\n", "empty"),
        (b"caf\xe9", "not UTF-8"),
        (b"a\0b", "NUL byte"),
        (b"x" * (512 * 1024 + 1), "over 512 KiB"),
        (b"x" * (512 * 1024), ""),
        ("\ufeffna\u00efve\r\n".encode(), ""),
    ],
)
def test_reasons_to_drop(payload: bytes, reason: str) -> None:
    text, given_reason = decode(payload)
    assert given_reason == reason
    assert text.encode() == (b"" if reason else payload)


def test_shares_of_splits() -> None:
    counts = collections.Counter(split_of(digest(str(number).encode()), 2.0) for number in range(50_000))
    # Binomial: 1,000 expected in each held-out split with a standard deviation of 31.
    assert abs(counts["validation"] - 1000) < 160
    assert abs(counts["test"] - 1000) < 160
    assert counts.total() == 50_000


@given(st.binary())
def test_a_larger_share_only_moves_documents_out_of_train(payload: bytes) -> None:
    identity = hashlib.sha256(payload).digest()
    if split_of(identity, 1.0) == "validation":
        assert split_of(identity, 5.0) == "validation"
    if split_of(identity, 5.0) == "train":
        assert split_of(identity, 1.0) == "train"


@given(st.lists(st.sampled_from("abcdef"), max_size=30))
def test_each_content_stays_once_and_the_rest_is_counted(texts: list[str]) -> None:
    documents = [
        Document(text, "text", str(number), "train", digest(text.encode()).hex())
        for number, text in enumerate(texts)
    ]
    dropped: collections.Counter[str] = collections.Counter()
    kept = [document.text for document in drop_duplicates(documents, dropped)]
    assert sorted(kept) == sorted(set(texts))
    assert dropped["duplicate"] == len(texts) - len(set(texts))
