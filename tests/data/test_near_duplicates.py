"""Near-duplicates: what is found against brute force, what is removed, and the loss without them."""

import dataclasses
import random

import numpy as np
import pytest

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from data.loader import clean_windows, validation_bytes
from data.near_duplicates import SHINGLE, THRESHOLDS, counts, jaccard, nearest, shingles
from data.near_index import REMOVED
from data.notes import notes
from training.evaluate.loss import HeldOut, held_out, score_held_out
from training.spec import RunSpec


def random_words(generator: random.Random, count: int) -> list[str]:
    return ["".join(generator.choices("abcdefghijklmnop", k=generator.randint(2, 9))) for _ in range(count)]


def planted(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Training documents of 20 to 600 words, and half of them again with up to 12% of the words changed."""
    generator = random.Random(seed)
    vocabulary = random_words(generator, 3000)
    train, held = [], []
    for number in range(count):
        words = generator.choices(vocabulary, k=generator.choice([20, 60, 200, 600]))
        train.append(" ".join(words))
        if number % 2:
            share = generator.choice([0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12])
            held.append(
                " ".join(generator.choice(vocabulary) if generator.random() < share else word for word in words)
            )
    return train, held


def brute_force(train: list[str], held: list[str]) -> np.ndarray:
    """Jaccard of every pair by Python's own sets. (training documents, held-out documents)"""

    def grams(text: str) -> set[bytes]:
        payload = text.encode()
        return {payload[i : i + SHINGLE] for i in range(max(1, len(payload) - SHINGLE + 1))}

    mine, its = [grams(text) for text in train], [grams(text) for text in held]
    return np.array([[len(a & b) / len(a | b) for b in its] for a in mine])


@pytest.mark.slow
def test_what_is_near_is_found_and_nothing_else():
    """Recall 1.00 (at least 0.99 is asked) and precision 1 at every threshold, over 140 x 70 documents."""
    train, held = planted(140)
    exact, found = brute_force(train, held), nearest(train, held)
    for threshold in THRESHOLDS:
        for axis, mine in ((1, found.train), (0, found.held_out)):
            near, said = exact.max(axis=axis) >= threshold, mine >= threshold
            assert near.sum() > 10
            assert not (said & ~near).any()
            assert (said & near).sum() >= 0.99 * near.sum()
    sure = exact.max(axis=0) >= 0.5
    np.testing.assert_allclose(found.held_out[sure], exact.max(axis=0)[sure], atol=1e-6)


@pytest.mark.parametrize("shared", [0, 1000, 2000, 3000])
def test_the_similarity_of_two_known_sets(shared):
    """Two texts of n n-grams each that share their first `shared` n-grams: J = s / (2 n - s)."""
    generator = random.Random(3)
    length = 3000 + SHINGLE - 1
    own = "".join(generator.choices("abcdefgh ", k=length))
    kept = shared + SHINGLE - 1 if shared else 0
    other = own[:kept] + "".join(generator.choices("ijklmnop ", k=length - kept))
    assert len(shingles(own)) == 3000
    assert jaccard(shingles(own), shingles(other)) == pytest.approx(shared / (6000 - shared), abs=1e-3)
    found = nearest([other], [own])
    if shared >= 2000:
        assert found.train[0] == found.held_out[0] == pytest.approx(shared / (6000 - shared), abs=1e-3)


def test_short_equal_and_empty_documents():
    assert nearest(["short"], ["short"]).held_out.tolist() == [1.0]
    assert nearest(["short", ""], ["other", ""]).train.tolist() == [0.0, 0.0]
    assert nearest([], ["a"]).held_out.tolist() == [0.0]
    assert nearest(["a"], []).train.tolist() == [0.0]
    assert counts(np.array([0.9, 0.75, 0.5, 0.2], np.float32)) == {"0.5": 3, "0.75": 2, "0.9": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """300 documents of which each stands there twice, the second time with one word changed."""
    folder, generator = tmp_path_factory.mktemp("near") / "text", random.Random(5)
    folder.mkdir()
    vocabulary = random_words(generator, 2000)
    for number in range(300):
        words = generator.choices(vocabulary, k=200)
        (folder / f"{number:03}a.txt").write_text(" ".join(words))
        if number < 150:
            words[100] = "changed"
            (folder / f"{number:03}b.txt").write_text(" ".join(words))
    return folder


@pytest.fixture(scope="module")
def kept(corpus):
    config = DataConfig(corpus=f"text:{corpus}", validation_tokens=8192)
    return config, open_or_build(config, corpus.parent / "cache", progress=False)


def test_they_are_counted_when_a_corpus_is_built_and_said(kept):
    _, cache = kept
    counted = cache.statistics["near_duplicates"]
    assert counted["validation"]["0.9"] > 3 and counted["train"]["0.9"] > 3
    assert counted["validation"]["0.9"] == int((cache.split("validation").near >= 0.9).sum())
    (line,) = [line for line in notes(cache.statistics, "text", "byte") if "near-duplicates" in line]
    assert f"{counted['validation']['0.5']} at Jaccard 0.5" in line and "data.near_duplicates=0.5" in line


def test_where_asked_training_documents_go_and_held_out_ones_stay(kept, corpus):
    config, cache = kept
    clean = dataclasses.replace(config, near_duplicates=0.75)
    other = open_or_build(clean, corpus.parent / "cache", progress=False)
    removed = cache.statistics["near_duplicates"]["train"]["0.75"]
    assert other.statistics["dropped"][REMOVED] == removed > 0
    documents = [len(one.split("train").document_offsets) - 1 for one in (cache, other)]
    assert documents[0] - documents[1] == removed
    for split in ("validation", "test"):
        np.testing.assert_array_equal(cache.split(split).tokens, other.split(split).tokens)
    assert set(other.statistics["near_duplicates"]["train"].values()) == {0}
    assert other.fingerprint != cache.fingerprint
    assert clean_windows(other, clean) == {}


def test_a_corpus_without_them_has_the_tokens_and_the_fingerprint_of_before(tmp_path):
    folder, generator = tmp_path / "text", random.Random(1)
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.txt").write_text(" ".join(random_words(generator, 60)))
    config = DataConfig(corpus=f"text:{folder}", validation_tokens=256)
    plain, clean = (
        open_or_build(one, tmp_path / "cache", progress=False)
        for one in (config, dataclasses.replace(config, near_duplicates=0.5))
    )
    assert plain.folder != clean.folder
    assert plain.fingerprint == clean.fingerprint
    assert notes(plain.statistics, "text", "byte") == []


def test_the_loss_without_them_is_that_of_the_clean_windows(kept):
    config, cache = kept
    slice_ = held_out(cache, config, 16)
    tokens = np.concatenate([batch for batch, _ in slice_.batches])
    offsets, near = cache.split("validation").document_offsets, cache.split("validation").near
    text = np.asarray(cache.split("validation").tokens)
    of_token = np.repeat(near, np.diff(offsets))
    stream = np.lib.stride_tricks.sliding_window_view(text, config.sequence_length + 1)
    worst = np.lib.stride_tricks.sliding_window_view(of_token, config.sequence_length + 1).max(axis=1)
    expected = []
    for window in tokens[: config.validation_tokens // config.sequence_length]:
        (place,) = np.flatnonzero((stream == window).all(axis=1))
        expected.append(worst[place] < 0.9)
    clean, size = slice_.clean["0.9"]
    np.testing.assert_array_equal(clean, expected)
    assert size < validation_bytes(cache, config)

    def step(params, tokens, weights):  # one nat for each target in a clean window, two elsewhere
        return weights.sum(axis=1) * np.where(mark(tokens), 1.0, 2.0)

    def mark(batch):
        lookup = {row.tobytes(): good for row, good in zip(tokens, [*clean, *[True] * 99], strict=False)}
        return np.array([lookup.get(row.tobytes(), True) for row in batch])

    scores = score_held_out(step, None, slice_)
    assert scores["val/clean-0.9/loss"].value == 1.0
    assert scores["val/clean-0.9/loss"].n == clean.sum() * config.sequence_length
    assert scores["val/loss"].value == pytest.approx(2 - clean.mean())
    assert scores["val/clean-0.9/bits_per_byte"].value == pytest.approx(
        scores["val/clean-0.9/loss"].n / size / np.log(2)
    )
    without = HeldOut(slice_.batches, slice_.bytes)
    assert score_held_out(step, None, without).keys() == {"val/loss", "val/bits_per_byte"}


def test_bad_thresholds_are_one_line_and_the_default_names_no_other_run():
    for value in (0.2, 1.5, float("nan")):
        with pytest.raises(BadInput, match=r"data\.near_duplicates"):
            DataConfig(near_duplicates=value)
    runs = [RunSpec(data=DataConfig(near_duplicates=value)).run_id for value in (0.0, 0.5)]
    assert runs[0] == RunSpec().run_id != runs[1]
