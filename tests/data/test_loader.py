"""Training order: one order per (corpus, seed), cut by batch size and processes, sought at once."""

import dataclasses
import itertools
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pytest
from grain.experimental import index_shuffle
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data import loader as loading
from data.cache import TokenCache, open_or_build
from data.config import DataConfig
from data.loader import Batch, TrainLoader, WindowOrder, validation_batches, validation_bytes
from tests.data.conftest import write_documents

LENGTH = 16


@pytest.fixture(scope="module")
def config(text_folder: Path) -> DataConfig:
    return DataConfig(corpus=f"text:{text_folder}", sequence_length=LENGTH, validation_tokens=LENGTH * 21)


@pytest.fixture(scope="module")
def cache(config: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> TokenCache:
    return open_or_build(config, tmp_path_factory.mktemp("cache"), workers=1, progress=False)


def read(loader: TrainLoader, position: int, batches: int) -> np.ndarray:
    return np.concatenate(list(itertools.islice(loader.from_token(position), batches)))


def train_windows(cache: TokenCache) -> np.ndarray:
    """Every window by the definition, one slice at a time."""
    stream = np.asarray(cache.split("train").tokens).astype(np.int32)
    count = (len(stream) - 1) // LENGTH
    return np.stack([stream[number * LENGTH : number * LENGTH + LENGTH + 1] for number in range(count)])


def as_set(rows: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(row) for row in rows.tolist()}


def test_a_corpus_of_five_documents_is_said_to_be_too_little(tmp_path: Path) -> None:
    config = DataConfig(corpus=f"text:{write_documents(tmp_path / 'five', 5)}")
    cache = open_or_build(config, tmp_path / "cache", progress=False)
    said = r"too little text: .* split has \d+ tokens; it needs 129 or more \(the corpus has 5 documents, [0-9,]+ bytes"
    with pytest.raises(BadInput, match=said):
        validation_bytes(cache, config)


def test_a_pass_reads_every_window_once(config: DataConfig, cache: TokenCache) -> None:
    expected = train_windows(cache)
    rows = read(TrainLoader(cache, config, batch_tokens=LENGTH, seed=5), 0, 2 * len(expected))
    assert rows.dtype == np.int32
    first, second = rows[: len(expected)].tolist(), rows[len(expected) :].tolist()
    assert sorted(first) == sorted(second) == sorted(expected.tolist())
    assert first != second
    assert first != expected.tolist()


def test_order_is_grains_global_shuffle(cache: TokenCache, config: DataConfig) -> None:
    """The first pass against grain's own MapDataset.shuffle over the windows."""
    windows = train_windows(cache)
    key = loading._key(7, 0)
    shuffled = grain.MapDataset.source(list(windows)).shuffle(seed=key)
    expected = np.stack([shuffled[number] for number in range(len(windows))])
    np.testing.assert_array_equal(
        read(TrainLoader(cache, config, batch_tokens=LENGTH, seed=7), 0, len(windows)), expected
    )


@given(
    seed=st.integers(0, 2**31),
    start=st.integers(0, 3000),
    rows=st.sampled_from([1, 2, 4, 8, 12]),
    processes=st.sampled_from([1, 2, 4]),
    prefetch=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_one_order_however_it_is_cut(
    config: DataConfig, cache: TokenCache, seed: int, start: int, rows: int, processes: int, prefetch: bool
) -> None:
    """Batch size, process count, prefetching and the position started from never change what is at a position."""
    rows = max(rows, processes) // processes * processes
    start -= start % rows
    parts = []
    for process in range(processes):
        loader = TrainLoader(
            cache,
            config,
            batch_tokens=rows * LENGTH,
            seed=seed,
            process_index=process,
            process_count=processes,
            prefetch=prefetch,
        )
        parts.append(read(loader, start * LENGTH, 3).reshape(3, rows // processes, LENGTH + 1))
    together = np.concatenate(parts, axis=1).reshape(3 * rows, LENGTH + 1)
    windows = train_windows(cache)
    order = WindowOrder(len(windows), seed, len(windows))
    expected = [windows[order([position])[0]] for position in range(start, start + 3 * rows)]
    np.testing.assert_array_equal(together, expected)


def test_a_shorter_run_is_the_prefix_of_a_longer_one(config: DataConfig, cache: TokenCache) -> None:
    long = read(TrainLoader(cache, config, batch_tokens=LENGTH * 4, seed=3), 0, 300)
    short = read(TrainLoader(cache, config, batch_tokens=LENGTH * 10, seed=3, prefetch=False), 0, 40)
    resumed = read(TrainLoader(cache, config, batch_tokens=LENGTH * 4, seed=3), LENGTH * 400, 200)
    np.testing.assert_array_equal(short, long[:400])
    np.testing.assert_array_equal(resumed, long[400:])


def test_seeds_give_unrelated_orders() -> None:
    orders = [WindowOrder(10_000, seed, 10_000)(range(10_000)) for seed in range(3)]
    orders.append(WindowOrder(10_000, 0, 10_000)(range(10_000, 20_000)))
    for order in orders:
        assert sorted(order) == list(range(10_000))
    for first, second in itertools.combinations([np.arange(10_000), *orders], 2):
        # Unrelated permutations agree at one place on average and have rank correlation of deviation 0.01.
        assert (first == second).sum() < 12
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_any_position_at_once() -> None:
    order = WindowOrder(2**31, 1, 2**31)
    start = time.perf_counter()
    order(range(10**15, 10**15 + 64))
    assert time.perf_counter() - start < 0.5


def test_from_a_far_position_reads_no_further_than_needed(config: DataConfig, cache: TokenCache) -> None:
    loader = TrainLoader(cache, config, batch_tokens=LENGTH * 4, seed=0)
    start = time.perf_counter()
    next(loader.from_token(LENGTH * 4 * 10**12))
    assert time.perf_counter() - start < 2


@given(unique=st.integers(1, 60), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_unique_tokens_repeats_the_beginning(
    config: DataConfig, cache: TokenCache, unique: int, seed: int
) -> None:
    limited = dataclasses.replace(config, unique_tokens=unique * LENGTH + 3)
    rows = read(TrainLoader(cache, limited, batch_tokens=LENGTH, seed=seed, prefetch=False), 0, 3 * unique)
    whole = read(TrainLoader(cache, config, batch_tokens=LENGTH, seed=seed, prefetch=False), 0, unique)
    passes = rows.reshape(3, unique, LENGTH + 1)
    np.testing.assert_array_equal(passes[0], whole)
    for later in passes[1:]:
        assert sorted(later.tolist()) == sorted(whole.tolist())
    if unique >= 20:
        assert passes[0].tolist() != passes[1].tolist() != passes[2].tolist()


def test_later_passes_shuffle_the_first() -> None:
    """The composition P_0(P_e(i)) by the library's own permutation, element by element."""
    order = WindowOrder(50, 9, 20)
    expected = [
        index_shuffle(
            index_shuffle(element, 19, loading._key(9, number), 4) if number else element,
            49,
            loading._key(9, 0),
            4,
        )
        for number in range(3)
        for element in range(20)
    ]
    assert order(range(60)).tolist() == expected


def collect(cache: TokenCache, config: DataConfig, **options: Any) -> list[Batch]:
    return list(validation_batches(cache, config, **options))


@pytest.mark.parametrize(("rows", "processes"), [(1, 1), (4, 1), (21, 1), (64, 1), (4, 2), (64, 4)])
def test_validation_slice_is_the_same_in_any_batches(
    config: DataConfig, cache: TokenCache, rows: int, processes: int
) -> None:
    whole = collect(cache, config, batch_sequences=21)[0]
    shares = [
        collect(cache, config, batch_sequences=rows, process_index=process, process_count=processes)
        for process in range(processes)
    ]
    assert {len(share) for share in shares} == {math.ceil(21 / rows)}
    tokens, weights = [], []
    for step in zip(*shares, strict=True):
        for batch in step:
            assert batch.tokens.shape == (rows // processes, LENGTH + 1)
            assert batch.weights.shape == (rows // processes, LENGTH)
            assert (batch.tokens.dtype, batch.weights.dtype) == (np.int32, np.float32)
            tokens.append(batch.tokens)
            weights.append(batch.weights)
    counted = np.concatenate(weights).astype(bool)
    assert counted.sum() == config.validation_tokens
    np.testing.assert_array_equal(np.concatenate(tokens)[counted[:, 0]], whole.tokens)


def test_validation_slice_covers_many_documents_of_its_split(config: DataConfig, cache: TokenCache) -> None:
    stream = cache.split("validation").tokens.tobytes()
    (batch,) = collect(cache, config, batch_sequences=21)
    starts = [stream.find(bytes(row.astype(np.uint8))) for row in batch.tokens]
    assert all(start >= 0 and start % LENGTH == 0 for start in starts)
    offsets = cache.split("validation").document_offsets
    assert len(set(np.searchsorted(offsets, starts, side="right"))) >= 8


def test_validation_bytes_of_a_byte_slice(config: DataConfig, cache: TokenCache) -> None:
    (batch,) = collect(cache, config, batch_sequences=21)
    assert validation_bytes(cache, config) == np.count_nonzero(batch.tokens[:, 1:])


@pytest.mark.parametrize(
    ("changes", "options", "fragments"),
    [
        ({}, {"batch_tokens": 0}, ["batch_tokens=0", "data.sequence_length=16"]),
        ({}, {"batch_tokens": 40}, ["batch_tokens=40", "multiple"]),
        ({}, {"process_count": 3}, ["=4", "process_count=3"]),
        ({}, {"process_index": 2, "process_count": 2}, ["process_index=2", "from 0"]),
        ({"unique_tokens": 10**9}, {}, ["data.unique_tokens=1000000000", "0 for all"]),
        (
            {"sequence_length": 10**6, "validation_tokens": 10**6},
            {"batch_tokens": 10**6},
            ["data.sequence_length=1000000", "train split"],
        ),
    ],
)
def test_bad_training_sizes_are_refused(
    config: DataConfig, cache: TokenCache, changes: dict, options: dict, fragments: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        TrainLoader(
            cache, dataclasses.replace(config, **changes), **({"batch_tokens": 64, "seed": 0} | options)
        )
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


@pytest.mark.parametrize("position", [-64, 32, 65])
def test_a_position_inside_a_batch_is_refused(config: DataConfig, cache: TokenCache, position: int) -> None:
    with pytest.raises(BadInput, match=f"data position {position}: must be a multiple of batch_tokens=64"):
        TrainLoader(cache, config, batch_tokens=64, seed=0).from_token(position)


def test_a_held_out_split_that_is_too_short_is_refused(config: DataConfig, cache: TokenCache) -> None:
    longer = dataclasses.replace(config, validation_tokens=10**7)
    with pytest.raises(
        BadInput, match=r"data\.validation_tokens=10000000: the validation split has \d+ tokens"
    ):
        validation_batches(cache, longer, batch_sequences=4)
    with pytest.raises(BadInput, match="the test split has"):
        validation_bytes(cache, longer, split="test")
    with pytest.raises(BadInput, match="batch_sequences=5: must be a positive multiple of process_count=2"):
        validation_batches(cache, config, batch_sequences=5, process_count=2)


def test_opening_imports_nothing_heavy_and_reading_ends_cleanly(config: DataConfig, cache: TokenCache) -> None:
    program = (
        "import sys, data.cache, data.loader; from data.config import DataConfig; from pathlib import Path\n"
        "config = DataConfig(corpus=sys.argv[1], sequence_length=16, validation_tokens=64)\n"
        "cache = data.cache.open_or_build(config, Path(sys.argv[2]))\n"
        "heavy = {'tensorflow_datasets', 'pyarrow', 'tokenizers', 'grain', 'jax', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "next(data.loader.TrainLoader(cache, config, batch_tokens=64, seed=0).from_token(0))\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "print('read')"
    )
    root = cache.folder.parent.parent
    command = [sys.executable, "-c", program, config.corpus, str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "read\n"), ended.stderr
