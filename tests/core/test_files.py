"""Durable files: torn lines, torn writes, full disks."""

import errno
import os
import subprocess
import sys

import pytest

from core import files
from core.errors import BadInput
from core.files import JsonLines, append_to, open_lock, read_json, read_json_lines, write_atomic, write_json
from tests.support.small import ROOT


def test_rows_come_back_and_a_torn_last_line_spoils_only_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    with JsonLines(path) as log:
        log.append({"a": 1})
        log.append({"a": 2})
    with path.open("a") as file:
        file.write('{"a": 3, "b')
    with pytest.warns(UserWarning, match="line 3 is torn"):
        assert [row["a"] for row in read_json_lines(path)] == [1, 2]
    with JsonLines(path) as log:
        log.append({"a": 4})
    with pytest.warns(UserWarning, match="line 3 is torn"):
        assert [row["a"] for row in read_json_lines(path)] == [1, 2, 4]


def test_a_missing_log_is_empty(tmp_path):
    assert list(read_json_lines(tmp_path / "none.jsonl")) == []


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_json(path, {"old": True})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"new": True})
    assert read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_kill_between_writes_never_leaves_half_a_file(tmp_path):
    path = tmp_path / "value.json"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from core.files import write_json\n"
        "number = 0\n"
        f"while True: number += 1; write_json({str(path)!r}, {{'number': number, 'pad': 'x' * 100000}})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not path.exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    assert len(read_json(path)["pad"]) == 100_000


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_unreadable_json_names_the_file(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BadInput, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


def test_a_short_write_is_an_error(tmp_path, monkeypatch):
    with JsonLines(tmp_path / "log.jsonl") as log:
        monkeypatch.setattr(files.os, "write", lambda *_: 3)
        with pytest.raises(OSError, match="disk full"):
            log.append({"a": 1})


def test_write_atomic_takes_text_and_bytes(tmp_path):
    write_atomic(tmp_path / "deep" / "a.txt", "text")
    write_atomic(tmp_path / "b.bin", b"\x00\x01")
    assert (tmp_path / "deep" / "a.txt").read_text() == "text"
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\x01"


def test_a_file_never_takes_the_place_of_a_device_a_pipe_or_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "folder", tmp_path / "pipe"):
        with pytest.raises(BadInput, match="no regular file"):
            write_atomic(path, "x")
    # Only asked: whoever runs this as root would lose them where it is wrong.
    assert files._is_no_place("/dev/null") and files._is_no_place("/dev/stdout")
    assert (tmp_path / "pipe").is_fifo()
    write_atomic(tmp_path / "link", "x")  # replaced
    assert (tmp_path / "pipe").is_fifo() and not (tmp_path / "link").is_symlink()


def test_a_written_file_takes_the_place_of_a_link_and_nothing_is_written_through_one(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "file"
    precious.write_text("kept")
    path.symlink_to(precious)
    for opens in (JsonLines, open_lock, append_to):
        with pytest.raises(BadInput, match=f"{path}: is a link or no regular file"):
            opens(path)
    write_atomic(path, "new")
    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    path = tmp_path / "file"
    make(path)
    for write in (JsonLines, open_lock, append_to):
        with pytest.raises(BadInput, match="is a link or no regular file"):
            write(path)


def test_a_lock_keeps_what_is_in_its_file(tmp_path):
    path = tmp_path / "lock"
    path.write_text("content")
    open_lock(path).close()
    assert path.read_text() == "content"


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_the_umask_decides(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        JsonLines(tmp_path / "b.jsonl").close()
        open_lock(tmp_path / "c.lock").close()
        append_to(tmp_path / "d.log").close()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
