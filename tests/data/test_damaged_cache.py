"""Every wrong byte of a token cache is found before it is used; the cache is built again, with the same tokens."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInput
from data import cache as cache_module
from data.blocks import BLOCK, BLOCKS, DamagedCache
from data.cache import MARK, TokenCache, open_or_build
from data.config import DataConfig
from data.integrity import META, TOKENIZER
from data.loader import TrainLoader
from tests.data.conftest import write_documents
from tests.support.small import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[DataConfig, Path]:
    """A configuration and the root of its cache, whose train split has several blocks."""
    folder = tmp_path_factory.mktemp("built")
    text = write_documents(folder / "text", 1000)
    words = (text / "0001.txt").read_text("utf-8").split()
    chance = np.random.default_rng(0)
    (text / "long.txt").write_text("\n".join(" ".join(chance.choice(words, 50)) for _ in range(6000)), "utf-8")
    config = DataConfig(
        corpus=f"text:{text}", tokenizer="bpe:300", sequence_length=16, validation_tokens=64,
        skills="copying@0.1", skill_tokens=4096,
    )  # fmt: skip
    open_or_build(config, folder / "root", workers=1, progress=False)
    return config, folder / "root"


@pytest.fixture
def place(built, tmp_path) -> tuple[DataConfig, Path, Path]:
    """(configuration, root, folder) of a copy that may be damaged."""
    config, root = built
    shutil.copytree(root, tmp_path / "root")
    (meta,) = (tmp_path / "root" / "tokens").glob(f"*/{META}")
    return config, tmp_path / "root", meta.parent


def opened(config: DataConfig, root: Path) -> TokenCache:
    return open_or_build(config, root, workers=1, progress=False)


def content(cache: TokenCache) -> list[bytes]:
    splits = [cache.split(name) for name in ("train", "validation", "test")]
    return [array.tobytes() for split in splits for array in (split.tokens, split.document_offsets)]


def flip(path: Path, position: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def all_but_the_old_samples(path: Path) -> None:
    """Overwrite all that the 64 samples of 4 KiB of an older version do not read."""
    size = path.stat().st_size
    kept = np.zeros(size, bool)
    for number in range(64):
        start = (size - 4096) * number // 63
        kept[start : start + 4096] = True
    array = np.memmap(path, np.uint8, "r+")
    array[~kept] ^= 1
    array.flush()


def zero_a_stretch(path: Path) -> None:
    array = np.memmap(path, np.uint8, "r+")
    array[BLOCK + 100 : BLOCK + 2000] = 0
    array.flush()


@pytest.mark.parametrize("without_checksums", [False, True])
@pytest.mark.parametrize(
    "harm", [all_but_the_old_samples, zero_a_stretch, lambda path: flip(path, 3 * BLOCK // 2)]
)
def test_damage_that_samples_miss_is_found_and_built_again(place, built, harm, without_checksums):
    config, root, folder = place
    good = content(opened(*built))
    if without_checksums:  # as an earlier version wrote it
        (folder / BLOCKS).unlink()
    harm(folder / "train.tokens")
    named = "train.tokens does not hold what was written"
    with pytest.raises(DamagedCache, match=named if without_checksums else f"{named} in bytes .* \\(block"):
        TokenCache(folder)
    with pytest.warns(UserWarning, match=named):
        again = opened(config, root)
    assert content(again) == good


def test_a_flipped_bit_anywhere_is_found(place):
    _, _, folder = place
    chance = np.random.default_rng(0)
    for name in json.loads((folder / META).read_text())["files"]:
        path = folder / name
        for position in {0, path.stat().st_size - 1, *chance.integers(path.stat().st_size, size=12).tolist()}:
            flip(path, position, 3)
            with pytest.raises(DamagedCache, match=name):
                TokenCache(folder)
            flip(path, position, 3)
    TokenCache(folder)


def test_a_cache_without_checksums_gets_them_where_it_may_be_written(place, built):
    config, root, folder = place
    written = (folder / BLOCKS).read_bytes()
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(written[:-40])):
        damage(folder / BLOCKS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert content(opened(config, root)) == content(opened(*built))
        assert (folder / BLOCKS).read_bytes() == written


def test_a_long_file_is_checked_as_it_is_read(place, built, monkeypatch):
    config, root, folder = place
    good = content(opened(*built))
    monkeypatch.setattr(cache_module, "WHOLE_BYTES", 0)
    flip(folder / "train.tokens", 2 * BLOCK + 5)
    cache = opened(config, root)  # nothing is read yet
    batches = TrainLoader(cache, config, batch_tokens=64, seed=0).from_token(0)
    with pytest.raises(BadInput, match=r"train.tokens does not hold what was written in bytes .*again"):
        list(itertools.islice(batches, 100_000))
    assert (folder / MARK).exists()
    with pytest.warns(UserWarning, match=r"train.tokens .* \(block 2\); building it again"):
        again = opened(config, root)
    assert content(again) == good
    assert not list((root / "tokens").rglob(MARK))


def test_batches_of_a_long_file_are_those_of_a_short_one(place, built, monkeypatch):
    config, root, _ = place
    short = TrainLoader(opened(*built), config, batch_tokens=64, seed=0).from_token(0)
    monkeypatch.setattr(cache_module, "WHOLE_BYTES", 0)
    long = TrainLoader(opened(config, root), config, batch_tokens=64, seed=0).from_token(0)
    for _ in range(500):
        np.testing.assert_array_equal(next(long), next(short))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


HARMS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "noise": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "another JSON": lambda path: path.write_text("[1, NaN]"),
    "huge": lambda path: path.write_bytes(path.read_bytes() + b" " * 2**20),
    "deleted": lambda path: path.unlink(),
    "FIFO": fifo,
    "folder": folder_there,
    "link": loop,
}


@pytest.mark.long
def test_every_file_of_a_cache_by_every_damage(tmp_path):
    """Tokens, their corpus and the skills: afterwards all tokens are what they were."""
    text, root = write_documents(tmp_path / "text", 100), tmp_path / "root"
    config = DataConfig(
        corpus=f"text:{text}", tokenizer="char", sequence_length=16, validation_tokens=16,
        skills="copying@0.1", skill_tokens=512,
    )  # fmt: skip
    good = opened(config, tmp_path / "good")
    expected = [*content(good), *(stream.tobytes() for stream in good.skills)]
    files = [path.relative_to(tmp_path / "good") for path in sorted((tmp_path / "good").rglob("*"))]
    files = [name for name in files if (tmp_path / "good" / name).is_file() and name.suffix != ".lock"]
    assert len(files) > 15
    for name, harm in itertools.product(files, HARMS.values()):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(tmp_path / "good", root)
        harm(root / name)
        if "corpora" in name.parts:
            shutil.rmtree(root / "tokens")  # only a build reads it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = opened(config, root)
        assert [*content(found), *(stream.tobytes() for stream in found.skills)] == expected, name
        assert found.fingerprint == good.fingerprint


def test_a_lock_that_is_a_link_or_a_fifo_is_named_and_not_followed(place, tmp_path):
    config, root, folder = place
    precious = tmp_path / "precious.txt"
    precious.write_text("kept")
    lock = folder.parent / f".{folder.name}.lock"
    shutil.rmtree(folder)
    for make in (lambda: lock.symlink_to(precious), lambda: os.mkfifo(lock), lock.mkdir):
        lock.unlink(missing_ok=True)
        make()
        with pytest.raises(BadInput, match=f"{lock}: is a link or no regular file"):
            opened(config, root)
    assert precious.read_text() == "kept"


def test_verify_reads_all_and_names_the_block(place):
    config, root, folder = place
    flip(folder / "validation.bytes", 77)
    command = [sys.executable, "-m", "data.cache", "--verify", "--corpus", config.corpus]
    command += ["--tokenizer", config.tokenizer, "--root", str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "validation.bytes does not hold what was written in bytes 0 to" in done.stderr
    assert "(block 0); building it again" in done.stderr


def test_the_tokenizer_is_covered_too(place):
    _, _, folder = place
    flip(folder / TOKENIZER, 100)
    with pytest.raises(DamagedCache, match=TOKENIZER):
        TokenCache(folder)
