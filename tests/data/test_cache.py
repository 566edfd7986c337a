"""The token cache: exact counts, one fingerprint per content, and every way to damage it."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInput
from data import build
from data.cache import DamagedCache, TokenCache, open_or_build
from data.config import DataConfig
from data.integrity import META
from data.loader import validation_bytes
from tests.data.conftest import write_documents

SPLITS = ("train", "validation", "test")
SPECIFICATIONS = ("byte", "char", "word:60", "bpe:320")


def config_of(folder: Path, tokenizer: str = "byte") -> DataConfig:
    return DataConfig(corpus=f"text:{folder}", tokenizer=tokenizer, sequence_length=16, validation_tokens=64)


def open_cache(config: DataConfig, root: Path) -> TokenCache:
    return open_or_build(config, root, workers=1, progress=False)


def documents_of(cache: TokenCache, split: str) -> list[str]:
    part = cache.split(split)
    bounds = part.document_offsets.tolist()
    return [
        cache.tokenizer.decode(part.tokens[start : end - 1].tolist())
        for start, end in itertools.pairwise(bounds)
    ]


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_counts_are_exact(text_folder: Path, tmp_path: Path, specification: str) -> None:
    cache = open_cache(config_of(text_folder, specification), tmp_path)
    contents = {path.read_bytes() for path in text_folder.glob("*.txt")}
    totals = [row for rows in cache.statistics["splits"].values() for row in rows.values()]
    assert sum(row["documents"] for row in totals) == len(contents) == 400
    assert sum(row["bytes"] for row in totals) == sum(map(len, contents))
    seen: list[str] = []
    for split in SPLITS:
        part = cache.split(split)
        row = cache.statistics["splits"][split]["text"]
        texts = documents_of(cache, split)
        assert part.token_count == len(part.tokens) == row["tokens"]
        assert len(texts) == row["documents"]
        assert part.tokens.max() < cache.vocabulary
        ends = part.document_offsets[1:] - 1
        np.testing.assert_array_equal(np.flatnonzero(part.tokens == cache.separator), ends)
        if split != "train" and specification != "byte":
            assert part.token_bytes is not None
            assert int(part.token_bytes.sum(dtype=np.int64)) == part.byte_count
            assert not part.token_bytes[ends].any()
        seen += texts
    if specification in ("byte", "char", "bpe:320"):  # nothing of this corpus is unknown to them
        assert {text.encode() for text in seen} == contents
        assert len(seen) == len(contents)


def test_streams_are_the_files_themselves(text_folder: Path, tmp_path: Path) -> None:
    """Byte streams against the files, with no tokenizer of this project in between."""
    cache = open_cache(config_of(text_folder), tmp_path)
    pieces = [piece for split in SPLITS for piece in cache.split(split).tokens.tobytes().split(b"\0")[:-1]]
    assert sorted(pieces) == sorted(path.read_bytes() for path in text_folder.glob("*.txt"))


def test_validation_is_never_in_training(text_folder: Path, tmp_path: Path) -> None:
    copies = write_documents(tmp_path / "twice" / "a", 300)
    write_documents(tmp_path / "twice" / "b", 300)
    cache = open_cache(config_of(copies.parent), tmp_path / "cache")
    assert cache.statistics["dropped"] == {"duplicate": 300}
    by_split = {split: set(documents_of(cache, split)) for split in SPLITS}
    assert all(by_split.values())
    assert not by_split["train"] & by_split["validation"]
    assert not by_split["train"] & by_split["test"]
    assert not by_split["validation"] & by_split["test"]


def test_fingerprint_changes_with_content_alone(tmp_path: Path) -> None:
    plain = write_documents(tmp_path / "plain", 60)
    first = open_cache(config_of(plain), tmp_path / "cache")

    rows = tmp_path / "rows.jsonl"  # the same texts, another file, another kind, another order
    texts = [path.read_text("utf-8") for path in sorted(plain.iterdir(), reverse=True)]
    rows.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    again = open_cache(config_of(rows), tmp_path / "cache")
    assert again.folder != first.folder
    assert again.fingerprint == first.fingerprint
    assert again.split("train").tokens.tobytes() == first.split("train").tokens.tobytes()

    other_tokens = open_cache(config_of(plain, "char"), tmp_path / "cache")
    assert other_tokens.corpus_fingerprint == first.corpus_fingerprint
    assert other_tokens.fingerprint != first.fingerprint

    (plain / "0007.txt").write_text("one other text\n")
    changed = open_cache(config_of(plain), tmp_path / "cache")
    assert changed.corpus_fingerprint != first.corpus_fingerprint
    (plain / "0007.txt").write_text(texts[-8], encoding="utf-8")
    os.utime(plain / "0007.txt", (1, 1))
    assert open_cache(config_of(plain), tmp_path / "cache").fingerprint == first.fingerprint


@pytest.mark.parametrize("specification", ["byte", "bpe:320"])
def test_tokens_do_not_depend_on_workers(
    text_folder: Path, tmp_path: Path, specification: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_cache(config_of(text_folder, specification), tmp_path / "one")
    monkeypatch.setattr(build, "_PARALLEL_FROM_BYTES", 0)
    monkeypatch.setattr(build, "_TASK_BYTES", 9_000)
    two = open_or_build(config_of(text_folder, specification), tmp_path / "two", workers=2, progress=False)
    assert two.fingerprint == one.fingerprint
    for file in one.folder.iterdir():
        assert (two.folder / file.name).read_bytes() == file.read_bytes()


def test_second_open_builds_nothing(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_cache(config_of(text_folder), tmp_path)
    monkeypatch.setattr(build, "build_tokens", None)
    assert open_cache(config_of(text_folder), tmp_path).fingerprint == first.fingerprint


def damage_meta(folder: Path) -> None:
    meta = json.loads((folder / META).read_text())
    meta["vocabulary"] += 1
    (folder / META).write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda folder: os.truncate(folder / "train.tokens", 1000), "train.tokens has 1000 bytes instead of"),
        (lambda folder: (folder / "validation.offsets").unlink(), "validation.offsets is missing"),
        (lambda folder: os.truncate(folder / META, 50), "not readable as JSON"),
        (damage_meta, "does not match its checksum"),
        (
            lambda folder: overwrite(folder / "train.tokens", 5000),
            "train.tokens does not hold what was written",
        ),
    ],
)
def test_damage_is_named_and_built_again(text_folder: Path, tmp_path: Path, harm, named: str) -> None:
    first = open_cache(config_of(text_folder), tmp_path)
    tokens = first.split("train").tokens.tobytes()
    harm(first.folder)
    with pytest.raises(DamagedCache, match=named):
        TokenCache(first.folder)
    with pytest.warns(UserWarning, match=named):
        again = open_cache(config_of(text_folder), tmp_path)
    assert again.fingerprint == first.fingerprint
    assert again.split("train").tokens.tobytes() == tokens
    again.verify()


def overwrite(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xff\xff\xff\xff")


def test_a_damaged_corpus_is_built_again(text_folder: Path, tmp_path: Path) -> None:
    first = open_cache(config_of(text_folder), tmp_path)
    record = next((tmp_path / "corpora").rglob("*train.array_record*"))
    os.truncate(record, record.stat().st_size // 2)
    with pytest.warns(UserWarning, match="building the corpus again"):
        other = open_cache(config_of(text_folder, "char"), tmp_path)
    assert other.corpus_fingerprint == first.corpus_fingerprint


BUILD = """
import sys
from pathlib import Path
from data import build
from data.config import DataConfig
from data.cache import open_or_build
from core.errors import exit_on_bad_input
{before}
with exit_on_bad_input():
    config = DataConfig(corpus="text:" + sys.argv[1], sequence_length=16, validation_tokens=64)
    print(open_or_build(config, Path(sys.argv[2]), workers=1, progress=False).fingerprint)
"""
COUNT_BUILDS = """
original = build.build_tokens
def counted(*arguments, **options):
    with open(sys.argv[2] + "/builds", "a") as log:
        log.write("build\\n")
    return original(*arguments, **options)
build.build_tokens = counted
"""
SLEEP_WHILE_WRITING_TOKENS = """
import time
def sleep(*arguments, **options):
    print("building", flush=True)
    time.sleep(60)
build.encode = sleep
"""
SLEEP_WHILE_WRITING_CORPUS = """
import os, time
from data.corpora.text import TextSource
original = TextSource._documents
def slow(self):
    for number, document in enumerate(original(self)):
        if number == 300:
            os.write(1, b"building\\n")
            time.sleep(60)
        yield document
TextSource._documents = slow
"""


def start(before: str, folder: Path, root: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD.format(before=before), str(folder), str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_build_at_once_build_once(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    builders = [start(COUNT_BUILDS, text_folder, tmp_path / "cache") for _ in range(3)]
    outputs = [builder.communicate(timeout=60) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], outputs
    assert len({output for output, _ in outputs}) == 1
    assert (tmp_path / "cache" / "builds").read_text() == "build\n"


@pytest.mark.parametrize("before", [SLEEP_WHILE_WRITING_TOKENS, SLEEP_WHILE_WRITING_CORPUS])
def test_a_killed_build_is_built_anew(text_folder: Path, tmp_path: Path, before: str) -> None:
    builder = start(before, text_folder, tmp_path)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "building\n"
    time.sleep(0.1)
    builder.kill()
    builder.communicate()
    assert list(tmp_path.rglob("*.building-*"))
    assert not list(tmp_path.rglob(META))
    cache = open_cache(config_of(text_folder), tmp_path)
    assert cache.split("train").token_count == len(cache.split("train").tokens) > 0
    assert not list(tmp_path.rglob("*.building-*"))


@pytest.mark.parametrize("limit", [20_000, 300_000])
def test_a_full_disk_is_one_line(tmp_path: Path, limit: int) -> None:
    """A limit on file length stands for the full disk: the first limit meets the corpus, the second the tokens."""
    folder = tmp_path / "text"
    folder.mkdir()
    chance = random.Random(0)  # hexadecimal digits: 390 kB that compress to half
    (folder / "a.txt").write_text("".join(f"{chance.getrandbits(256):064x}\n" for _ in range(6_000)))
    before = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))"
    builder = start(before, folder, tmp_path / "cache")
    _, message = builder.communicate(timeout=60)
    assert builder.returncode == 1, message
    (line,) = message.splitlines()
    assert line.startswith(f"error: {tmp_path / 'cache'}")
    assert line.endswith("no space left for a file of this size")
    assert bool(list((tmp_path / "cache").rglob("manifest.json"))) == (limit == 300_000)
    assert not list((tmp_path / "cache").rglob("*.building-*"))
    assert open_cache(config_of(folder), tmp_path / "cache").split("train").byte_count > 300_000


def test_a_root_that_is_a_file_is_refused(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cache folder .*file: Not a directory"):
        open_cache(config_of(text_folder), tmp_path / "file")


def test_an_unknown_split_is_refused(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="split='dev': must be one of train, validation, test"):
        open_cache(config_of(text_folder), tmp_path).split("dev")


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_bytes_of_the_validation_slice_are_exact(text_folder: Path, tmp_path: Path, specification: str) -> None:
    """The whole validation stream as slice: all its bytes but those of the first token, which no target is."""
    cache = open_cache(config_of(text_folder, specification), tmp_path)
    part = cache.split("validation")
    length = part.token_count - 1
    config = DataConfig(
        corpus=f"text:{text_folder}", tokenizer=specification, sequence_length=length, validation_tokens=length
    )
    first = 1 if part.token_bytes is None else int(part.token_bytes[0])
    assert validation_bytes(cache, config) == part.byte_count - first


def test_command_prints_what_is_in_the_cache(text_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.cache", "--corpus", f"text:{text_folder}", "--root", str(tmp_path)]
    shown = subprocess.run([*command, "--verify"], capture_output=True, text=True, check=True).stdout
    cache = open_cache(config_of(text_folder), tmp_path)
    assert f"fingerprint {cache.fingerprint}" in shown
    assert f"{cache.split('train').token_count:,}" in shown
    overwrite(cache.folder / "train.tokens", 5000)
    refused = subprocess.run([*command[:4], "nothing", *command[5:]], capture_output=True, text=True)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "error: data.corpus='nothing': must be bigram:LETTERS, pysource, text:PATH or tfds:NAME\n"
    )
