"""The user's own text: .txt, .jsonl, .parquet, and what is said when they do not fit."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.cache import open_or_build
from data.config import DataConfig
from data.corpora.text import TextSource, cut


@given(st.text(alphabet="ab\né学🙂", max_size=400), st.integers(8, 40))
@settings(max_examples=300)
def test_cut_parts_are_the_whole_in_bounded_decodable_pieces(text: str, length: int) -> None:
    payload = text.encode()
    parts = list(cut([payload], length))
    assert b"".join(parts) == payload
    assert all(len(part) <= 2 * length for part in parts)
    assert "".join(part.decode() for part in parts) == text
    assert all(len(part) > length for part in parts[:-1])


def test_cut_prefers_line_ends() -> None:
    payload = b"".join(b"line %05d\n" % number for number in range(5000))
    assert all(part.endswith(b"\n") for part in cut([payload], 1024))


def test_reads_all_kinds_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain text\r\n", newline="")
    (tmp_path / "deep").mkdir()
    rows = [{"text": "row one"}, {"text": "row zwei ü", "id": 3}, {"text": ""}, {"text": "\ud800"}]
    (tmp_path / "deep" / "b.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    table = pyarrow.table({"text": ["column one", None, "row one"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / "notes.log").write_text("another kind")
    source = TextSource(tmp_path)
    assert {document.text for document in source} == {"plain text\r\n", "row one", "row zwei ü", "column one"}
    assert source.dropped == {"empty": 2, "not UTF-8": 1, "duplicate": 1}
    assert {document.text for document in source} == {"plain text\r\n", "row one", "row zwei ü", "column one"}
    assert source.dropped["duplicate"] == 1  # counted anew by every reading


def write_jsonl(folder: Path, content: str) -> str:
    path = folder / "rows.jsonl"
    path.write_text(content)
    return str(path)


def write_parquet(folder: Path, **columns: list) -> str:
    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def broken_parquet(folder: Path) -> str:
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    return str(folder / "broken.parquet")


def folder_with(folder: Path, name: str, content: bytes) -> str:
    (folder / "inside").mkdir()
    (folder / "inside" / name).write_bytes(content)
    return str(folder / "inside")


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        (lambda folder: str(folder / "absent"), ["no such file or folder", "absent"]),
        (lambda folder: folder_with(folder, "a.pdf", b"x"), ["no file", ".txt", "1 .pdf (a.pdf)"]),
        (lambda folder: folder_with(folder, "a.pdf", b"x") + "/a.pdf", [".pdf", "must be .txt"]),
        (lambda folder: folder_with(folder, "a.txt", b"  \n"), ["no usable document", "1 empty"]),
        (lambda folder: folder_with(folder, "a.txt", b"\xff\xfe"), ["no usable document", "1 not UTF-8"]),
        (lambda folder: folder_with(folder, "a.txt", b"a\0b"), ["no usable document", "1 NUL byte"]),
        (lambda folder: write_jsonl(folder, '{"content": "x"}\n'), ["line 1", '"text"', "'content'"]),
        (lambda folder: write_jsonl(folder, '{"text": "x"}\n{"text": 3}\n'), ["line 2", '"text"']),
        (lambda folder: write_jsonl(folder, '["x"]\n'), ["line 1", "list"]),
        (lambda folder: write_jsonl(folder, '{"text": "x"}\n{"text": \n'), ["line 2", "not JSON"]),
        (lambda folder: write_parquet(folder, body=["x"]), ['no column "text"', "body"]),
        (lambda folder: write_parquet(folder, text=[1]), ["int64", "must be string"]),
        (broken_parquet, ["broken.parquet", "not readable as parquet"]),
    ],
)
def test_bad_text_is_refused_in_one_line(tmp_path: Path, make, fragments: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        open_or_build(DataConfig(corpus=f"text:{make(tmp_path)}"), tmp_path / "cache", progress=False)
    message = str(caught.value)
    assert "data.corpus" in message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    assert not list((tmp_path / "cache").rglob("*building*"))
