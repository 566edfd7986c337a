"""Every file of a token cache, damaged in every way: the same tokens come back, or a refusal in one line."""

import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from tests.faults.test_damage import ends_in_time, without_privileges
from tests.support.damage import DAMAGES, damaged
from tests.support.small import write_corpus

SAMPLE = 25


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[DataConfig, Path]]:
    """A configuration and the root of its cache, where nobody may look into it."""
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir="/tmp"))
    folder.chmod(0o755)
    config = DataConfig(
        corpus=f"text:{write_corpus(folder / 'text', 30)}", sequence_length=16, validation_tokens=64
    )
    open_or_build(config, folder / "cache", workers=1, progress=False)
    yield config, folder / "cache"
    shutil.rmtree(folder)


def tokens(config: DataConfig, root: Path) -> list[bytes]:
    cache = open_or_build(config, root, workers=1, progress=False)
    splits = [cache.split(name) for name in ("train", "validation", "test")]
    return [array.tobytes() for split in splits for array in (split.tokens, split.document_offsets)]


def all_cases(root: Path) -> list[tuple[str, str]]:
    files = [
        path
        for path in sorted((root / "tokens").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    # Each file with a third of the damages, another third for the next.
    return [
        (str(path.relative_to(root)), damage)
        for place, path in enumerate(files)
        for damage in list(DAMAGES)[place % 3 :: 3]
    ]


def try_out(config: DataConfig, root: Path, cases: list[tuple[str, str]]) -> tuple[Counter, list[str]]:
    counts: Counter = Counter()
    whole, wrong = tokens(config, root), []
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        for number, (name, damage) in enumerate(cases):
            copy = shutil.copytree(root, Path(place, str(number)))
            other = next(path for path in (copy / "tokens").rglob("*.json"))
            with damaged(copy / name, other, DAMAGES[damage], keep=False), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                counts["damages"] += 1
                try:
                    with ends_in_time(), without_privileges(damage):
                        same = tokens(config, copy) == whole
                    counts["same tokens" if same else "other tokens"] += 1
                    wrong += [] if same else [f"{name}, {damage}: other tokens"]
                except BadInput:
                    counts["refused"] += 1
                except Exception as error:  # noqa: BLE001  this is what is looked for
                    counts["failures"] += 1
                    wrong.append(f"{name}, {damage}: {type(error).__name__}: {error}"[:300])
            shutil.rmtree(copy)
    return counts, wrong


@pytest.mark.slow
def test_a_sample_of_all_damages(built):
    config, root = built
    counts, wrong = try_out(config, root, random.Random(16).sample(all_cases(root), SAMPLE))
    assert not wrong, "\n".join(wrong)
    assert counts["damages"] == SAMPLE


@pytest.mark.long
def test_every_file_of_a_cache_by_every_damage(built, capsys):
    config, root = built
    counts, wrong = try_out(config, root, all_cases(root))
    with capsys.disabled():
        print(f"\n{dict(counts)}")
    assert not wrong, "\n".join(wrong)
