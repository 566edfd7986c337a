"""Damage is found, one writer writes, and workers end with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.integrity import build_folder, damage, describe, only_one
from data.pool import map_in_order


@given(size=st.integers(1, 200_000), data=st.data())
@settings(max_examples=40)
def test_every_truncation_is_found(
    size: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "file"
    path.write_bytes(bytes(range(256)) * (size // 256 + 1))
    record = describe(path)
    assert damage(path, record) == ""
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    assert "bytes instead of" in damage(path, record)


def test_a_zeroed_stretch_is_found_at_once_and_a_flipped_byte_by_reading_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2_000_000))
    record = describe(path)
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes(64 * 1024))
    assert damage(path, record) == "file does not hold what was written"
    path.write_bytes(os.urandom(2_000_000))
    record = describe(path)
    with path.open("r+b") as file:
        file.seek(10_000)  # between the first blocks that the quick digest reads
        byte = file.read(1)
        file.seek(10_000)
        file.write(bytes([byte[0] ^ 1]))
    assert damage(path, record) == ""
    assert damage(path, record, whole=True) == "file does not hold what was written"
    path.unlink()
    assert damage(path, record) == "file is missing"


def writes(content: str) -> Callable[[Path], None]:
    def write(inside: Path) -> None:
        (inside / "content").write_text(content)

    return write


def test_a_failed_build_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    build_folder(folder, writes("old"))

    def fail(inside: Path) -> None:
        (inside / "content").write_text("new")
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        build_folder(folder, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["built"]
    assert (folder / "content").read_text() == "old"


def test_replacing_a_folder_leaves_open_files_readable(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    build_folder(folder, writes("old"))
    with (folder / "content").open() as reader:
        build_folder(folder, writes("new"))
        assert reader.read() == "old"
    assert (folder / "content").read_text() == "new"


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from data.integrity import only_one\n"
        "with only_one(Path(sys.argv[1]), notify=False):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "f")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    start = time.monotonic()
    with only_one(tmp_path / "f", notify=False):
        assert time.monotonic() - start < 5


def test_results_come_in_order_from_several_processes() -> None:
    assert list(map_in_order(abs, range(-40, 0), workers=2)) == list(range(40, 0, -1))
    assert list(map_in_order(abs, [], workers=2)) == []


def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import os, sys, time\n"
        "from data.pool import map_in_order\n"
        "from tests.data.test_integrity import announce_and_sleep\n"
        "if __name__ == '__main__':\n    list(map_in_order(announce_and_sleep, [0, 1], workers=2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(alive(worker) for worker in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def announce_and_sleep(number: int) -> int:
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(60)
    return number


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
