"""Who trains a run, across machines: a lease file with a heartbeat, for file systems whose locks reach one machine.

A lease is `.lease.N` in the run directory, N its generation. A run belongs to the holder of the highest generation; to
take it over is to create generation N + 1, which the file system lets exactly one process do. The holder counts up a
number in its file; a watcher judges by its own monotonic clock whether that number moves, so neither a clock that
jumps nor clocks that differ between machines make a live holder look dead. What is no lease of ours (empty, torn, of
another type) is watched likewise: a file that does not change for EXPIRY_SECONDS has no living writer.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import platform
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core import disk, stop
from core.errors import EXIT_STOPPED, BadInput
from core.files import open_own
from core.rundir import LEASE, RunDirectory

# A holder counts this often; one whose count stands still for EXPIRY_SECONDS is dead. Both are choices: take-over
# within a minute, and four counts may be late before it.
HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 45.0
POLL_SECONDS = 0.5
MOST_BYTES = 1 << 16

log = logging.getLogger(__name__)


def boot_id() -> str:
    """Names this boot of this machine's kernel; on systems that do not tell, a name that no other process has."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return f"process-{os.getpid()}-{secrets.token_hex(8)}"


def generations(directory: Path) -> list[int]:
    """Generations of the leases in a run directory, ascending."""
    matches = (LEASE.fullmatch(entry.name) for entry in os.scandir(directory))
    return sorted(int(match[1]) for match in matches if match)


def lease_path(directory: Path, generation: int) -> Path:
    return RunDirectory(directory).lease(generation)


def read_lease(path: Path) -> dict[str, Any]:
    """The content of a lease; empty where it is gone, half written or no lease."""
    return _parsed(_bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    """What is in the file; nothing where it cannot be read or is no file, which must not be waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.read(descriptor, MOST_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def described(path: Path, content: dict[str, Any]) -> str:
    """Who holds a lease, and since when as far as the file tells."""
    process, host, since = (content.get(key) for key in ("process", "host", "since"))
    if isinstance(process, int) and isinstance(host, str):
        who = f"process {process} on {host[:100]!r}"
    else:
        who = f"a process whose lease {path.name} cannot be read"
    if not isinstance(since, str):
        try:
            since = _iso(path.lstat().st_mtime)
        except (OSError, ValueError, OverflowError):
            return who
    return f"{who}, since {since[:40]}"


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


class Lease:
    """A held lease; counts in a thread until `release`.

    Args:
      directory: run directory.
      generation: of the file that `acquire` has created.
      on_loss: called from the thread when a later generation exists: this process was suspended for so long
        that another has taken over. It must not write to the run any more.
    """

    def __init__(self, directory: Path, generation: int, on_loss: Callable[[], None]):
        self.directory, self.generation, self.on_loss = directory, generation, on_loss
        self.owner = {
            "host": platform.node(),
            "boot": boot_id(),
            "process": os.getpid(),
            "nonce": secrets.token_hex(8),
            "since": _iso(time.time()),
        }
        self.count = 0
        self._ended = threading.Event()
        self._write(released=False)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _write(self, *, released: bool) -> None:
        """One write of constant length through a fresh descriptor, so that other machines see it at once."""
        content = json.dumps({**self.owner, "count": f"{self.count:012}", "released": int(released)}) + "\n"
        path = lease_path(self.directory, self.generation)
        descriptor = open_own(path, os.O_WRONLY)
        try:
            with disk.named(path):
                if os.pwrite(descriptor, content.encode(), 0) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.count += 1
            # A full or unreachable disk is the training loop's to report; while it lasts, nobody sees this count.
            with contextlib.suppress(OSError, BadInput):
                if generations(self.directory)[-1:] != [self.generation]:
                    if not self._ended.is_set():
                        self.on_loss()
                    return
                self._write(released=False)

    def release(self) -> None:
        """Stop counting and say so in the file, so that the next holder need not wait."""
        self._ended.set()
        self._thread.join()
        self.count += 1
        with contextlib.suppress(
            OSError, BadInput
        ):  # not released is not lost: the next holder waits until it expires
            self._write(released=True)


def end_at_once() -> None:
    """What a process does whose run belongs to another: nothing more, least of all a save."""
    stop.end_process(
        EXIT_STOPPED, "note: another process has taken this run over, so this one ends without a save"
    )


def acquire(
    directory: Path,
    patience_seconds: float = 0.0,
    *,
    file_lock_held: bool = True,
    on_loss: Callable[[], None] = end_at_once,
) -> Lease | dict[str, Any]:
    """Take the lease of a run directory, from a holder that has died within EXPIRY_SECONDS, which is said.

    Args:
      directory: run directory.
      patience_seconds: how long to wait for a holder that has shown that it lives.
      file_lock_held: this process has the directory's file lock. A lease of this same boot is then free at once: its
        holder had that lock, and the kernel has let go of it.
      on_loss: see `Lease`.

    Returns:
      The held lease, or the content of the living holder's file: never before it has shown that it lives.

    Raises:
      OSError: the directory cannot be written.
    """
    deadline = time.monotonic() + patience_seconds
    seen: tuple[int, bytes] | None = None
    since, lives, said = 0.0, False, False
    while True:
        existing = generations(directory)
        newest = existing[-1] if existing else 0
        path = lease_path(directory, newest)
        payload = _bytes_of(path)
        held = _parsed(payload)
        if (newest, payload) != seen:
            lives = seen is not None
            seen, since = (newest, payload), time.monotonic()
        dead = time.monotonic() - since >= EXPIRY_SECONDS
        orphaned = file_lock_held and held.get("boot") == boot_id()
        if not existing or held.get("released") == 1 or orphaned or dead:
            lease = _create(directory, newest, on_loss)
            if lease is not None:
                return lease
            continue
        if lives and time.monotonic() >= deadline:
            return held
        if not said:
            said = True
            log.warning(
                "%s: held by %s; taking it over unless it shows life within %g seconds",
                directory,
                described(path, held),
                EXPIRY_SECONDS,
            )
        time.sleep(POLL_SECONDS)


def _create(directory: Path, newest: int, on_loss: Callable[[], None]) -> Lease | None:
    """Generation `newest` + 1; None where another process was first."""
    path = lease_path(directory, newest + 1)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return None
    existing = generations(directory)
    if existing[-1] > newest + 1:  # others came and went since `newest` was read
        path.unlink(missing_ok=True)
        return None
    try:
        lease = Lease(directory, newest + 1, on_loss)
    except OSError:  # a full disk: no lease of nobody is left behind
        path.unlink(missing_ok=True)
        raise
    for old in existing[:-1]:
        with contextlib.suppress(OSError):  # no file of ours
            lease_path(directory, old).unlink(missing_ok=True)
    return lease


@contextlib.contextmanager
def held(lease: Lease) -> Iterator[Lease]:
    """Release the lease at the end, however the block ends."""
    try:
        yield lease
    finally:
        lease.release()


def holder_elsewhere(directory: Path) -> str | None:
    """Host of a lease of another boot that was counted within the last EXPIRY_SECONDS by its file's own time.

    For display: it trusts the clocks of two machines to agree so far, which `acquire` never does.
    """
    existing = generations(directory)
    if not existing:
        return None
    path = lease_path(directory, existing[-1])
    lease = read_lease(path)
    if lease.get("released") == 1 or lease.get("boot") == boot_id() or "host" not in lease:
        return None
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    return str(lease["host"]) if abs(age) < EXPIRY_SECONDS else None
