"""Only regular files are read, up to a size and a depth; whatever else lies there is named and never waited for."""

import os
import socket

import pytest

from core.errors import BadInput
from core.files import read_json, read_rows
from core.reading import DEPTH, Unreadable, odd_file, parse_json, printable, read_bytes, shown


def test_what_is_no_file_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    os.mkfifo("fifo")
    os.mkdir("folder")
    os.symlink("loop", "loop")
    os.symlink("/dev/zero", "zeros")
    os.symlink("fifo", "link")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in ("fifo", "folder", "loop", "zeros", "link", "socket", "/dev/null", "/dev/zero", "a\0b"):
            for read in (read_bytes, read_json, read_rows):
                with pytest.raises(BadInput, match="cannot be read") as caught:
                    read(name)
                assert "\n" not in str(caught.value)


def test_what_is_not_there_is_missing_and_a_link_is_followed(tmp_path):
    os.symlink("nowhere", tmp_path / "broken")
    for name in ("none", "broken"):
        with pytest.raises(FileNotFoundError):
            read_bytes(tmp_path / name)
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    os.symlink("file", tmp_path / "link")
    assert read_bytes(tmp_path / "link") == b"x" * 100_000


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 42)
    with pytest.raises(Unreadable, match="4,398,046,511,104 bytes"):
        read_bytes(tmp_path / "huge")
    with pytest.raises(BadInput, match="bytes"):
        read_rows(tmp_path / "huge")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_is_read_to_a_depth(opening):
    closing = "]" if opening == "[" else "}"
    assert parse_json(opening * DEPTH + "1" + closing * DEPTH)
    for depth in (DEPTH + 1, 500, 200_000):
        for text in (opening * depth + "1" + closing * depth, opening * depth):
            with pytest.raises(ValueError):
                parse_json(text)
            with pytest.raises(ValueError):
                parse_json(text.encode())
    assert parse_json('["' + "[" * 1000 + '"]') == ["[" * 1000]


def test_values_and_texts_fit_on_one_line():
    for value in (10**400, "x" * 1000, "\ud800\x1b[2J\n", [[[]]] * 500, float("nan")):
        assert len(shown(value)) <= 120 and shown(value).isprintable()
    assert printable("a\ud800\x1b[2J\n b") == "a\\ud800\\x1b[2J b"
    assert len(printable("x" * 1000)) == 300


def test_an_odd_file_is_found_at_any_depth(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "data").touch()
    os.truncate(tmp_path / "d" / "data", 1 << 40)
    assert odd_file(tmp_path, data="d") == ""
    assert "bytes" in odd_file(tmp_path)
    os.mkfifo(tmp_path / "d" / "fifo")
    assert "FIFO" in odd_file(tmp_path, data="d")
