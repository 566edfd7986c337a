"""Who trains a run, across machines: a lease file with a heartbeat, for file systems whose locks reach one machine.

A lease is `.lease.N` in the run directory, N its generation. A run belongs to the holder of the highest generation; to
take it over is to create generation N + 1, which the file system lets exactly one process do. The holder counts up a
number in its file; a watcher judges by its own monotonic clock whether that number moves, so neither a clock that
jumps nor clocks that differ between machines make a live holder look dead.
"""

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import EXIT_STOPPED
from core.reading import parse_json, read_bytes
from core.rundir import LEASE, RunDirectory

# A holder counts this often; one whose count stands still for EXPIRY_SECONDS is dead. Both are choices: take-over
# within a minute, and four counts may be late before it.
HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 45.0
POLL_SECONDS = 0.5


def boot_id() -> str:
    """Names this boot of this machine's kernel; on systems that do not tell, a name that no other process has."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"process-{os.getpid()}-{secrets.token_hex(8)}"


def generations(directory: Path) -> list[int]:
    """Generations of the leases in a run directory, ascending."""
    matches = (LEASE.fullmatch(entry.name) for entry in os.scandir(directory))
    return sorted(int(match[1]) for match in matches if match)


def lease_path(directory: Path, generation: int) -> Path:
    return RunDirectory(directory).lease(generation)


def read_lease(path: Path) -> dict[str, Any]:
    """The content of a lease; empty where it is gone or half written, which counts as a holder that does not move."""
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
        }
        self.count = 0
        self._ended = threading.Event()
        self._write(released=False)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _write(self, *, released: bool) -> None:
        """One write of constant length through a fresh descriptor, so that other machines see it at once."""
        content = json.dumps({**self.owner, "count": f"{self.count:012}", "released": int(released)}) + "\n"
        descriptor = os.open(lease_path(self.directory, self.generation), os.O_WRONLY)
        try:
            os.pwrite(descriptor, content.encode(), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.count += 1
            # A full or unreachable disk is the training loop's to report; while it lasts, nobody sees this count.
            with contextlib.suppress(OSError):
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
        with contextlib.suppress(OSError):  # not released is not lost: the next holder waits until it expires
            self._write(released=True)


def end_at_once() -> None:
    """What a process does whose run belongs to another: nothing more, least of all a save."""
    os._exit(EXIT_STOPPED)


def acquire(
    directory: Path,
    patience_seconds: float = 0.0,
    *,
    file_lock_held: bool = True,
    until_it_moves: bool = False,
    on_loss: Callable[[], None] = end_at_once,
) -> Lease | dict[str, Any]:
    """Take the lease of a run directory.

    Args:
      directory: run directory.
      patience_seconds: how long to watch a living holder before giving up.
      file_lock_held: this process has the directory's file lock. A lease of this same boot is then free at once: its
        holder had that lock, and the kernel has let go of it.
      until_it_moves: give up as soon as the holder has shown that it lives.
      on_loss: see `Lease`.

    Returns:
      The held lease, or the content of the living holder's file once `patience_seconds` are over.

    Raises:
      OSError: the directory cannot be written.
    """
    deadline = time.monotonic() + patience_seconds
    seen: tuple[int, dict[str, Any]] | None = None
    since = 0.0
    while True:
        existing = generations(directory)
        newest = existing[-1] if existing else 0
        held = read_lease(lease_path(directory, newest)) if existing else {"released": 1}
        if (newest, held) != seen:
            if seen is not None and until_it_moves and not held.get("released"):
                return held
            seen, since = (newest, held), time.monotonic()
        dead = time.monotonic() - since >= EXPIRY_SECONDS
        orphaned = file_lock_held and held.get("boot") == boot_id()
        if held.get("released") or orphaned or dead:
            lease = _create(directory, newest, on_loss)
            if lease is not None:
                return lease
            continue
        if time.monotonic() >= deadline:
            return held
        time.sleep(POLL_SECONDS)


def _create(directory: Path, newest: int, on_loss: Callable[[], None]) -> Lease | None:
    """Generation `newest` + 1; None where another process was first."""
    path = lease_path(directory, newest + 1)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return None
    existing = generations(directory)
    if existing[-1] > newest + 1:  # others came and went since `newest` was read
        path.unlink(missing_ok=True)
        return None
    lease = Lease(directory, newest + 1, on_loss)
    for old in existing[:-1]:
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

    For display: it trusts the clocks of two machines, which `acquire` never does.
    """
    existing = generations(directory)
    if not existing:
        return None
    path = lease_path(directory, existing[-1])
    lease = read_lease(path)
    if lease.get("released") or lease.get("boot") == boot_id() or "host" not in lease:
        return None
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    return str(lease["host"]) if age < EXPIRY_SECONDS else None
