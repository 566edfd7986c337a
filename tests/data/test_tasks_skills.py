"""Skills in the training text: shares, the prefix and seek properties, no held-out problem in any window."""

import dataclasses
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from data.loader import TrainLoader
from data.skills import PATTERN, parse_skills, pattern
from data.tasks.registry import load

SKILLS = "associative-recall:pairs=4@0.30+facts:facts=50@0.07"


@pytest.fixture(scope="module")
def config(text_folder):
    return DataConfig(
        corpus=f"text:{text_folder}",
        sequence_length=32,
        validation_tokens=512,
        skills=SKILLS,
        skill_tokens=30_000,
    )


@pytest.fixture(scope="module")
def cache(config, tmp_path_factory):
    return open_or_build(config, tmp_path_factory.mktemp("skills"), progress=False)


def batches(cache, config, count, start=0, rows=8, **keywords):
    loader = TrainLoader(
        cache, config, batch_tokens=rows * config.sequence_length, seed=5, prefetch=False, **keywords
    )
    return list(islice(loader.from_token(start), count))


def source_of(window: np.ndarray, cache) -> int:
    """0 for the corpus, 1 and 2 for the skills, by the window's own content."""
    content = window.astype(np.uint8).tobytes()
    streams = [cache.split("train").tokens, *cache.skills]
    found = [number for number, stream in enumerate(streams) if content in np.asarray(stream).tobytes()]
    assert len(found) == 1
    return found[0]


def test_shares_are_exact_in_every_hundred_windows(cache, config):
    windows = np.concatenate(batches(cache, config, 25, rows=8))
    sources = np.array([source_of(window, cache) for window in windows])
    for start in (0, 37, 100):
        assert np.bincount(sources[start : start + PATTERN]).tolist() == [63, 30, 7]


def test_a_run_sees_the_beginning_of_a_longer_one_from_any_position_on_any_number_of_processes(cache, config):
    whole = np.concatenate(batches(cache, config, 40, rows=8))
    assert (np.concatenate(batches(cache, config, 10, rows=32)) == whole).all()
    length = config.sequence_length
    assert (np.concatenate(batches(cache, config, 3, start=7 * 8 * length)) == whole[56:80]).all()
    halves = [batches(cache, config, 5, rows=8, process_index=index, process_count=2) for index in range(2)]
    joined = np.concatenate([part for pair in zip(*halves, strict=True) for part in pair])
    assert (joined == whole[:40]).all()


def test_without_skills_the_order_is_what_it_was(cache, config):
    plain = dataclasses.replace(config, skills="")
    bare = open_or_build(plain, cache.folder.parent.parent, progress=False)
    mixed = np.concatenate(batches(cache, config, 100))
    corpus_windows = [window for window in mixed if source_of(window, cache) == 0]
    alone = np.concatenate(batches(bare, plain, 30))
    assert (np.array(corpus_windows[:200]) == alone[:200]).all()


def test_no_window_holds_a_held_out_problem(cache, config):
    text = np.asarray(cache.skills[0]).tobytes()
    held_out = load("associative-recall:pairs=4").items(500)
    assert not any(item.prompt.partition("?")[0].encode() in text for item in held_out)
    documents = [document.decode() for document in text.split(b"\0")][:-1]
    assert len(documents) > 1000
    for document in documents:
        pairs, _, queries = document.partition("?")
        table = dict(zip(pairs[::2], pairs[1::2], strict=True))
        assert dict(zip(queries[::2], queries[1::2], strict=True)) == table


def test_streams_are_built_once_and_again_where_damaged(cache, config):
    root = cache.folder.parent.parent
    (path,) = root.glob("skills/facts*/train.tokens")
    before, content = path.stat().st_mtime_ns, path.read_bytes()
    open_or_build(config, root, progress=False)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(content[:-100])
    with pytest.warns(UserWarning, match="building it again"):
        again = open_or_build(config, root, progress=False)
    assert path.read_bytes() == content and len(again.skills[1]) == config.skill_tokens


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(0, 10**9))
def test_the_pattern_counts_every_window_of_a_source_once(percents, start):
    own = pattern(tuple(percents))
    assert own.counts.tolist() == [100 - sum(percents), *percents]
    seen: dict[int, list[int]] = {}
    for position in range(start, start + 250):
        source, index = own(position)
        seen.setdefault(source, []).append(index)
    for indices in seen.values():
        assert indices == list(range(indices[0], indices[0] + len(indices)))


@pytest.mark.parametrize(
    ("skills", "words"),
    [
        ("copying", ["'copying'", "TASK@SHARE"]),
        ("copying@0", ["copying@0", "0.01"]),
        ("copying@0.005", ["copying@0.005", "0.01"]),
        ("copying@1.0", ["copying@1.0", "0.99"]),
        ("copying@0.5+facts@0.5", ["1.00", "0.01 to the corpus"]),
        ("copying@0.1+copying:length=8@0.1", ["twice"]),
        ("copyng@0.1", ["unknown task", "copyng"]),
        ("file:own.jsonl@0.1", ["file:own.jsonl", "held-out"]),
    ],
)
def test_wrong_skills_are_refused_in_one_line(skills, words):
    with pytest.raises(BadInput) as caught:
        DataConfig(skills=skills)
    assert all(word in str(caught.value) for word in words)


def test_a_plus_joins_skills():
    assert [(skill.task.name, skill.percent) for skill in parse_skills(SKILLS)] == [
        ("associative-recall:pairs=4", 30),
        ("facts:facts=50", 7),
    ]
