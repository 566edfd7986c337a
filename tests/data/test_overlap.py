"""n-gram overlap against a literal search, on random streams."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.overlap import GRAM, overlaps


def occurs(gram: np.ndarray, streams: list[np.ndarray]) -> bool:
    return any(bytes(gram.tolist()) in bytes(stream.tolist()) for stream in streams)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_overlap_is_what_a_literal_search_finds(seed, symbols):
    chance = np.random.default_rng(seed)
    streams = [chance.integers(0, symbols, size).astype(np.uint8) for size in (700, 3, 300)]
    problems = []
    for _ in range(12):
        length = int(chance.integers(1, 40))
        if chance.random() < 0.5:
            start = int(chance.integers(0, 650))
            problems.append(streams[0][start : start + length])  # stands there; may be cut short by the end
        else:
            problems.append(chance.integers(0, symbols, length).astype(np.int32))
    grams: dict[bytes, bool] = {}
    whole = 0
    for problem in problems:
        size = min(GRAM, len(problem))
        own = [problem[start : start + size] for start in range(len(problem) - size + 1)]
        hits = [occurs(gram, streams) for gram in own]
        whole += all(hits)
        grams |= {bytes(gram.tolist()): hit for gram, hit in zip(own, hits, strict=True)}
    (result,) = overlaps({"task": problems}, streams).values()
    assert (result.items, result.items_found) == (12, whole)
    assert (result.grams, result.grams_found) == (len(grams), sum(grams.values()))


def test_a_gram_across_the_border_of_two_pieces_is_found(monkeypatch):
    monkeypatch.setattr("data.overlap._CHUNK", 50)
    stream = np.random.default_rng(0).integers(0, 256, 200).astype(np.uint8)
    problems = [stream[start : start + 30] for start in range(0, 170, 7)]
    assert overlaps({"task": problems}, [stream])["task"].items_found == len(problems)


def test_a_gram_across_two_streams_is_not_found():
    chance = np.random.default_rng(1)
    first, second = (chance.integers(0, 256, 100).astype(np.uint8) for _ in range(2))
    problem = np.concatenate([first[-8:], second[:8]])
    assert overlaps({"task": [problem]}, [first, second])["task"].items_found == 0
