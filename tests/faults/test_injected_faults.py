"""Faults that show without training: leases between machines, clocks that jump, full disks, words of causes."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core.files import JsonLines, write_atomic
from core.rundir import RunDirectory
from tests.support.small import ROOT
from training.causes import advice
from training.processes import lease as leases
from training.processes.lease import Lease, acquire, generations, lease_path, read_lease
from training.records import RunIsLocked, is_locked, run_lock


@pytest.fixture
def quick(monkeypatch):
    """Seconds of minutes: a lease that counts every 0.05 s and expires after 0.6 s."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.6)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)


def from_elsewhere(directory: Path, generation: int, **content: object) -> Path:
    """A lease as a process on another machine would have left it."""
    path = lease_path(directory, generation)
    owner = {
        "host": "other",
        "boot": "another-boot",
        "process": 7,
        "nonce": "x",
        "count": "000000000001",
        "released": 0,
    }
    write_atomic(path, json.dumps({**owner, **content}))  # as a process does: nobody reads half of it
    return path


def test_a_dead_owner_on_another_machine_is_followed_within_the_expiry(tmp_path, quick):
    from_elsewhere(tmp_path, 3)
    started = time.monotonic()
    lease = acquire(tmp_path)
    assert isinstance(lease, Lease)
    assert 0.5 < time.monotonic() - started < 5.0
    assert generations(tmp_path) == [4]
    lease.release()


def test_the_real_expiry_is_within_a_minute():
    assert leases.EXPIRY_SECONDS + 2 * leases.POLL_SECONDS < 60
    assert leases.EXPIRY_SECONDS >= 4 * leases.HEARTBEAT_SECONDS


def test_a_live_owner_is_never_followed_whatever_its_clock_says(tmp_path, quick):
    path = from_elsewhere(tmp_path, 1)
    ended = threading.Event()

    def count() -> None:
        number = 1
        while not ended.wait(0.1):
            number += 1
            from_elsewhere(tmp_path, 1, count=f"{number:012}")
            jump = (0, 2_000_000_000)[number % 2]  # its clock jumps between 1970 and 2033
            os.utime(path, (jump, jump))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert isinstance(acquire(tmp_path, patience_seconds=3.0), dict)
        with pytest.raises(RunIsLocked, match="process 7 on 'other'"), run_lock(tmp_path, 0.2):
            pass
    finally:
        ended.set()
        thread.join()
    assert generations(tmp_path) == [1]


def test_a_jump_of_the_own_clock_changes_nothing(tmp_path, quick, monkeypatch):
    from_elsewhere(tmp_path, 1)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    started = time.monotonic()
    lease = acquire(tmp_path)
    assert isinstance(lease, Lease) and time.monotonic() - started > 0.5
    lease.release()


def test_a_released_lease_is_free_at_once(tmp_path):
    for generation in (1, 2, 3):
        started = time.monotonic()
        with run_lock(tmp_path):
            assert is_locked(tmp_path)
            assert generations(tmp_path) == [generation]
        assert time.monotonic() - started < 2
    assert not is_locked(tmp_path)


def test_of_many_that_follow_a_dead_owner_one_wins(tmp_path, quick):
    from_elsewhere(tmp_path, 5)
    won: list[Lease] = []

    def contend() -> None:
        lease = acquire(tmp_path, 2.0, file_lock_held=False)
        if isinstance(lease, Lease):
            won.append(lease)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert generations(tmp_path) == [6]
    won[0].release()


def test_who_was_suspended_and_followed_stops_at_once(tmp_path, quick):
    lost = threading.Event()
    lease = acquire(tmp_path, on_loss=lost.set)
    assert isinstance(lease, Lease)
    from_elsewhere(tmp_path, 2)
    assert lost.wait(2.0)
    lease.release()
    assert read_lease(lease_path(tmp_path, 2))["host"] == "other"


def test_a_killed_owner_on_this_machine_is_followed_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from training.records import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(RunIsLocked), run_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    started = time.monotonic()
    with run_lock(tmp_path, 5.0):
        assert time.monotonic() - started < 2
        assert generations(tmp_path) == [2]


@pytest.mark.parametrize(
    "damage", ["empty", "torn", "a list", "NaN", "other types", "noise", "deep", "a folder", "a FIFO", "a link"]
)
def test_what_is_no_lease_of_ours_is_taken_over_within_the_expiry_and_said(tmp_path, quick, caplog, damage):
    path = lease_path(tmp_path, 1)
    if damage == "a folder":
        path.mkdir()
    elif damage == "a FIFO":
        os.mkfifo(path)
    elif damage == "a link":
        path.symlink_to(path.name)
    else:
        others = {"host": 5, "boot": None, "process": "x", "count": [1], "released": [0], "since": {}}
        contents = {
            "empty": "",
            "torn": '{"host": "oth',
            "a list": "[]",
            "NaN": '{"count": NaN}',
            "other types": json.dumps(others),
            "noise": "\0\xff",
            "deep": "[" * 60_000,
        }
        path.write_text(contents[damage])
        os.utime(path, (4e9, 4e9))  # its writer's clock is ahead of ours
    started = time.monotonic()
    with run_lock(tmp_path):
        assert 0.5 < time.monotonic() - started < 10.0
        assert generations(tmp_path)[-1] == 2
    (line,) = (record.getMessage() for record in caplog.records)
    assert "None" not in line and "held by a process whose lease .lease.1 cannot be read, since " in line
    assert not is_locked(tmp_path)


def test_a_lease_of_another_boot_is_taken_over_and_its_holder_named(tmp_path, quick, caplog):
    from_elsewhere(tmp_path, 2, since="2026-01-02T03:04:05+00:00")
    with run_lock(tmp_path):
        assert generations(tmp_path) == [3]
    (line,) = (record.getMessage() for record in caplog.records)
    assert "process 7 on 'other', since 2026-01-02T03:04:05+00:00" in line


@pytest.mark.parametrize("seconds", [-7200, 7200])
def test_a_dead_holder_whose_clock_was_apart_is_not_shown_as_running(tmp_path, seconds):
    path = from_elsewhere(tmp_path, 1)
    RunDirectory(tmp_path).lock.touch()
    assert is_locked(tmp_path)
    os.utime(path, (time.time() + seconds,) * 2)
    assert not is_locked(tmp_path)


def test_a_full_disk_leaves_no_lease_of_nobody(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(leases.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        acquire(tmp_path)
    assert generations(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), ["microbatch_tokens", "remat"]),
        (MemoryError(), ["microbatch_tokens", "fsdp"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["no space left", "resumes"]),
        (ValueError("RESOURCE_EXHAUSTED: ... [No space left on device]"), ["no space left"]),
        (OSError(errno.EROFS, "Read-only file system"), ["writable"]),
    ],
)
def test_a_cause_says_what_to_change(error, words):
    for word in words:
        assert word in str(advice(error))
    assert advice(ValueError("something else")) is None


def limited(code: str, folder: Path, size: int) -> subprocess.CompletedProcess:
    """Run Python code in `folder` where no file may grow beyond `size` bytes: what a full disk does to a write."""
    head = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    head += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", head + code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_the_whole_file_as_it_was(tmp_path):
    write_atomic(tmp_path / "result.json", "old")
    done = limited(
        "from core.files import write_atomic; write_atomic('result.json', 'x' * 5000)", tmp_path, 1000
    )
    assert done.returncode == 1 and "File too large" in done.stderr
    assert (tmp_path / "result.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_log_row_that_does_not_fit_is_an_error_and_the_next_attempt_heals_the_log(tmp_path):
    code = "from core.files import JsonLines\nlog = JsonLines('log')\nfor i in range(99): log.append({'tokens': i})"
    done = limited(code, tmp_path, 205)
    assert done.returncode == 1 and "bytes written" in done.stderr
    with JsonLines(tmp_path / "log") as log:
        log.append({"tokens": 1000})
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1]) == {"tokens": 1000}
