"""A checkpoint is restored as it was saved, or refused: never with other numbers."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from model.config import ModelConfig
from model.sharding import make_mesh
from training.checkpoint import Checkpoints, NoUsableCheckpoint, is_unchecked, why_unreadable
from training.checksums import ARRAYS, CHECKSUM, DamagedCheckpoint
from training.state import TrainState
from training.step import make_initialization

TOKENS = (1024, 2048)
PROGRESS = {"train_seconds": 1.25, "compile_seconds": 0.5, "attempt": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict[int, list[np.ndarray]], TrainState]:
    """(folder of checkpoints, arrays by tokens, target)"""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    config = ModelConfig(vocabulary=256, width=16, depth=1, heads=1, kv_heads=1)
    arrays = {}
    with jax.set_mesh(mesh):
        initialize, target = make_initialization(config, mesh, "adamw")
        checkpoints = Checkpoints(folder, TOKENS)
        for number, tokens in enumerate(TOKENS):
            state = initialize(np.uint32(number))
            checkpoints.save(tokens, state, {"tokens": tokens, **PROGRESS})
            arrays[tokens] = [np.asarray(array) for array in jax.tree.leaves(state)]
        checkpoints.close()
    return folder, arrays, target


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "checkpoints"))


def restored(folder: Path, target: TrainState):
    """(tokens, arrays, progress) of the newest readable checkpoint."""
    checkpoints = Checkpoints(folder, TOKENS)
    try:
        state, progress = checkpoints.restore_latest(target)
    finally:
        checkpoints.close()
    return progress["tokens"], [np.asarray(array) for array in jax.tree.leaves(state)], progress


def files_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def equal(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(one.tobytes() == other.tobytes() for one, other in zip(left, right, strict=True))


@pytest.mark.slow
def test_a_flipped_bit_anywhere_gives_what_was_saved_or_the_checkpoint_before(saved, copy):
    folder, arrays, target = saved
    chance = np.random.default_rng(0)
    counts = {1024: 0, 2048: 0}
    for path in files_of(copy / "2048"):
        size = path.stat().st_size
        for position in sorted({0, size - 1, *chance.integers(size, size=4).tolist()}) if size else ():
            good = path.read_bytes()
            flip(path, position, int(chance.integers(8)))
            tokens, found, progress = restored(copy, target)
            assert equal(found, arrays[tokens]), (path, position)
            assert {key: progress[key] for key in PROGRESS} == PROGRESS, (path, position)
            assert tokens == 2048 or not why_unreadable(copy, 1024)
            counts[tokens] += 1
            if not path.exists():  # removed with the checkpoint that could not be read
                shutil.rmtree(copy)
                shutil.copytree(folder, copy)
            path.write_bytes(good)
    assert counts[1024] > 20


def test_wrong_numbers_that_decode_are_named(saved, copy, caplog):
    """A checkpoint of other numbers, whole as far as its files go: only what was said of its arrays tells."""
    folder, arrays, target = saved
    shutil.rmtree(copy / "2048" / "state")
    shutil.copytree(folder / "1024" / "state", copy / "2048" / "state")
    assert "does not hold what was saved" in why_unreadable(copy, 2048)
    tokens, found, _ = restored(copy, target)
    assert tokens == 1024 and equal(found, arrays[1024])
    assert "2048 tokens is unreadable" in caplog.text
    assert "params." in caplog.text or "key" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"train_seconds": 9.0}, {"tokens": 1024}, {ARRAYS: None}, {CHECKSUM: None}, {CHECKSUM: None, ARRAYS: {}}],
)
def test_progress_is_covered(saved, copy, change):
    _, _, target = saved
    path = copy / "2048" / "progress" / "metadata"
    progress = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in progress.items() if value is not None}))
    assert "progress" in why_unreadable(copy, 2048)
    assert restored(copy, target)[0] == 1024


def test_a_branch_is_refused_in_one_line_and_where_no_checkpoint_is_left_so_is_the_run(saved, copy):
    _, _, target = saved
    for tokens in TOKENS:
        for path in files_of(copy / str(tokens) / "state" / "ocdbt.process_0" / "d"):
            flip(path, path.stat().st_size // 2, 0)
    reader = Checkpoints(copy, read_only=True)
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/2048 cannot be used: [^\n]*$"):
        reader.restore(2048, target)
    reader.close()
    with pytest.raises(NoUsableCheckpoint):
        restored(copy, target)


def test_checkpoints_of_an_earlier_version_are_restored_unchecked(saved, copy):
    _, arrays, target = saved
    for tokens in TOKENS:
        assert not is_unchecked(copy, tokens)
        path = copy / str(tokens) / "progress" / "metadata"
        progress = json.loads(path.read_text())
        path.write_text(json.dumps({key: progress[key] for key in ("tokens", *PROGRESS)}))
        assert is_unchecked(copy, tokens)
    tokens, found, _ = restored(copy, target)
    assert tokens == 2048 and equal(found, arrays[2048])
    assert why_unreadable(copy, 2048) == ""


def test_what_is_saved_does_not_depend_on_how_many_devices_hold_it(saved, tmp_path):
    """Two devices of one process: the checksums of every array are those of one device."""
    folder, _, _ = saved
    if len(jax.devices()) < 2:
        pytest.skip("one device")
    mesh = make_mesh((1, 2, 1), jax.devices()[:2])
    with jax.set_mesh(mesh):
        initialize, _ = make_initialization(
            ModelConfig(vocabulary=256, width=16, depth=1, heads=1, kv_heads=1), mesh, "adamw"
        )
        checkpoints = Checkpoints(tmp_path / "checkpoints", TOKENS)
        checkpoints.save(1024, initialize(np.uint32(0)), {"tokens": 1024, **PROGRESS})
        checkpoints.close()
    one, two = (
        json.loads((place / "1024" / "progress" / "metadata").read_text())[ARRAYS]
        for place in (folder, tmp_path / "checkpoints")
    )
    assert one == two
