"""Text as people have it: every kind of file, each once, and what is left out is named."""

import bz2
import gzip
import itertools
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from data.corpora.text import TextSource
from data.notes import notes
from tests.data.conftest import write_documents
from tests.support.small import ROOT


def texts(path: Path, field: str = "text") -> list[str]:
    return sorted(document.text for document in TextSource(path, field))


def data_cache(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m data.cache` from another folder than the project's."""
    return subprocess.run(
        [sys.executable, "-m", "data.cache", "--root", str(folder / "cache"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def zstandard(content: bytes) -> bytes:
    return pyarrow.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.md", b"# Title\n", ["# Title\n"]),
        ("a.TXT", b"capitals", ["capitals"]),
        ("a.JSONL", b'{"text": "x"}\n', ["x"]),
        ("a.ndjson", b'{"text": "x"}\n', ["x"]),
        ("a.json", b'[{"text": "x"}, "y", {"text": null}]', ["x", "y"]),
        ("a.json", b'{"text": "x"}', ["x"]),
        ("a.json", b'{"text": "x"}\n{"text": "y"}\n', ["x", "y"]),
        ("a.csv", b'id,text\n1,"two\nlines, ""quoted"""\n2,\n', ['two\nlines, "quoted"']),
        ("a.tsv", b"id\ttext\n1\tone, two\n", ["one, two"]),
        ("a.html", b"<title>T &amp; t</title><script>x</script><p>A <b>bad</b> move<br>z", ["T & t\nA bad move\nz\n"]),
        ("a.txt.gz", gzip.compress(b"one ") + gzip.compress(b"two"), ["one two"]),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n'), ["x"]),
        ("a.txt.bz2", bz2.compress(b"x"), ["x"]),
        ("a.txt.xz", lzma.compress(b"x"), ["x"]),
        ("a.txt.zst", zstandard(b"one ") + zstandard(b"two"), ["one two"]),
    ],
    ids=itertools.count(),  # compressed bytes hold the time, and workers of a test run must agree on names
)  # fmt: skip
def test_every_kind_is_read(tmp_path: Path, name: str, content: bytes, expected: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    assert texts(tmp_path / name) == texts(tmp_path) == expected


def test_a_long_text_is_cut_alike_however_it_is_packed(tmp_path: Path) -> None:
    lines = b"".join(b"line %06d of a long text\n" % number for number in range(120_000))
    for folder, name, content in (("a", "x.txt", lines), ("b", "x.txt.gz", gzip.compress(lines, 1))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    assert texts(tmp_path / "a") == texts(tmp_path / "b")
    assert sum(map(len, texts(tmp_path / "a"))) == len(lines)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.binary(), pyarrow.large_binary(),
        pyarrow.binary_view(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
    ids=str,
)  # fmt: skip
def test_parquet_columns_of_text_are_read(tmp_path: Path, kind: pyarrow.DataType) -> None:
    values = pyarrow.array(["ein text", None, "学习"])
    column = values.dictionary_encode().cast(kind) if pyarrow.types.is_dictionary(kind) else values.cast(kind)
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    source = TextSource(tmp_path)
    assert sorted(document.text for document in source) == ["ein text", "学习"]
    assert source.dropped == {"empty": 1}


def test_each_file_once_through_links_that_go_in_circles(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    top.mkdir()
    elsewhere.mkdir()
    (top / "a.jsonl").write_text('{"text": "a"}\n')
    (top / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "b"}\n'))
    (top / "C.JSONL").write_text('{"text": "c"}\n')
    (elsewhere / "d.txt").write_text("d")
    (top / "linked").symlink_to(elsewhere)
    (top / "again").symlink_to(elsewhere)
    (top / "a-too.jsonl").symlink_to(top / "a.jsonl")
    (top / "circle").symlink_to(top)
    (elsewhere / "back").symlink_to(top)
    source = TextSource(top)
    assert sorted(document.text for document in source) == ["a", "b", "c", "d"]
    assert not source.dropped


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    corpus = write_documents(tmp_path / "mine", 60)
    for number in range(5):
        (corpus / f"scan{number}.pdf").write_bytes(b"%PDF")
    (corpus / "LICENSE").write_text("terms")
    (corpus / ".git").mkdir()
    (corpus / "info.json").write_text('{"rows": 60}')
    (corpus / "labels.csv").write_text("id,label\n1,2\n")
    (corpus / "broken.txt").write_bytes(b"\xff\xff")
    cache = open_or_build(DataConfig(corpus=f"text:{corpus}"), tmp_path / "cache", progress=False)
    (line,) = notes(cache.statistics, "text:mine", "byte")
    assert line == (
        'corpus text:mine: not read: 1 .csv without "text" (labels.csv), 1 .json without "text" (info.json), '
        "5 .pdf (scan0.pdf, scan1.pdf, scan2.pdf, ...), 1 hidden (.git), 1 without an ending (LICENSE)"
    )
    manifest = json.loads(next((tmp_path / "cache" / "corpora").glob("*/manifest.json")).read_text())
    assert manifest["left_out"]["skipped_files"][".pdf"]["files"] == 5
    said = data_cache(tmp_path, "--corpus", "text:mine")
    assert said.returncode == 0, said.stderr
    assert "5 .pdf (scan0.pdf" in said.stdout and "1 not UTF-8 (broken.txt#0)" in said.stdout


def test_which_of_two_bad_files_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    (tmp_path / "b.txt").write_bytes(b"  ")
    with pytest.raises(BadInput, match=r"1 empty \(b\.txt#0\), 1 not UTF-8 \(a\.txt#0\)"):
        open_or_build(DataConfig(corpus=f"text:{tmp_path}"), tmp_path / "cache", progress=False)


def test_another_field_is_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "text": "not this"}\n')
    (tmp_path / "b.csv").write_text("body\ny\n")
    pyarrow.parquet.write_table(pyarrow.table({"body": ["z"]}), tmp_path / "c.parquet")
    assert texts(tmp_path, "body") == ["x", "y", "z"]
    rows = "".join(json.dumps({"body": f"{number} a text of some length"}) + "\n" for number in range(200))
    (tmp_path / "rows.jsonl").write_text(rows)
    said = data_cache(tmp_path, "--corpus", "text:rows.jsonl?field=body")
    assert said.returncode == 0 and "?field=body, tokenizer byte" in said.stdout
    refused = data_cache(tmp_path, "--corpus", "text:rows.jsonl?field=")
    assert refused.returncode == 2 and "field" in refused.stderr


def test_a_null_text_is_dropped_alike_in_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "x"}\n')
    (tmp_path / "b.json").write_text('[{"text": null}, {"text": "y"}]')
    pyarrow.parquet.write_table(pyarrow.table({"text": [None, "z"]}), tmp_path / "c.parquet")
    source = TextSource(tmp_path)
    assert sorted(document.text for document in source) == ["x", "y", "z"]
    assert source.dropped == {"empty": 3}
    assert source.left_out["dropped_first"] == {"empty": ["a.jsonl#0", "b.json#0", "c.parquet#0"]}


def parquet(path: Path, column: pyarrow.Array, names: tuple[str, ...] = ("text",)) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([column] * len(names), names=list(names)), path)


def bad_utf8(folder: Path) -> None:
    buffers = pyarrow.array([b"good", b"bad \xff"]).buffers()
    parquet(folder / "a.parquet", pyarrow.Array.from_buffers(pyarrow.string(), 2, buffers))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bad_utf8, ["a.parquet row 1 is not UTF-8"]),
        (lambda f: parquet(f / "a.parquet", pyarrow.array(["x"]), ("text",) * 2), ['a.parquet has 2 columns "text"']),
        (lambda f: (f / "a.jsonl").write_text('{"text": ' + "[" * 100_000 + "\n"), ["a.jsonl line 1 is not JSON"]),
        (lambda f: (f / "z.txt").symlink_to("nowhere"), ["z.txt: a link to nothing"]),
        (lambda f: (f / "z").symlink_to("z"), ["z: cannot be read", "symbolic links"]),
        (lambda f: os.mkfifo(f / "x.txt"), ["x.txt is no regular file"]),
        (lambda f: (f / os.fsdecode(b"b\xff.txt")).write_text("x"), ["b\\\\xff.txt is not UTF-8; rename it"]),
        (lambda f: (f / "a.txt.gz").write_bytes(gzip.compress(os.urandom(999))[:300]), ["a.txt.gz cannot be unpacked"]),
        (lambda f: (f / "a.jsonl.gz").write_bytes(b"no"), ["a.jsonl.gz cannot be read"]),
        (lambda f: (f / "a.csv").write_bytes(b'text\n"no end'), ["a.csv line 1 is not CSV"]),
        (lambda f: (f / "a.json").write_bytes(b"{"), ["a.json is not JSON"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path: Path, make, words: list[str]) -> None:
    corpus = write_documents(tmp_path / "mine", 3)
    make(corpus)
    said = data_cache(tmp_path, "--corpus", "text:mine")
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1 and said.stderr.startswith("error: data.corpus")
    assert all(word in said.stderr for word in words), said.stderr


def test_no_home_is_one_line(tmp_path: Path) -> None:
    for arguments in (["--corpus", "text:~nobody-here/x"], ["--tokenizer", "file:~nobody-here/x.json"]):
        said = data_cache(tmp_path, *arguments)
        assert said.returncode == 2 and "home folder ~nobody-here is not known" in said.stderr
        assert said.stderr.count("\n") == 1
