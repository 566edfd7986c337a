"""Whether files are what they were when they were written, and one writer at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from core import rundir
from core.epochs import CACHE_META
from core.files import open_lock

CACHE_FORMAT = 1  # raised when the same corpus and tokenizer would give other bytes on disk
META = CACHE_META
TOKENIZER: Final = rundir.TOKENIZER  # of the same name as in a run

_BLOCK = 4096
_BLOCKS = 64


def checksum(meta: dict[str, Any]) -> str:
    """SHA-256 of a header's canonical JSON without its own checksum."""
    content = {key: value for key, value in meta.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def quick_digest(path: Path) -> str:
    """A digest of 64 blocks of 4 KiB, evenly spaced from the first to the last, and of the length.

    Milliseconds whatever the size, but most damage lies between these blocks. It is for long files of caches that are
    older than checksums by block (data/blocks.py).
    """
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        state.update(str(size).encode())
        last = max(size - _BLOCK, 0)
        for start in sorted({last * number // (_BLOCKS - 1) for number in range(_BLOCKS)}):
            file.seek(start)
            state.update(file.read(_BLOCK))
    return state.hexdigest()


def full_digest(path: Path) -> str:
    """SHA-256 of the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> dict[str, Any]:
    """What `damage` compares a file with: {"size", "quick", "sha256"}."""
    return {"size": path.stat().st_size, "quick": quick_digest(path), "sha256": full_digest(path)}


def damage(path: Path, record: dict[str, Any], *, whole: bool = False) -> str:
    """How `path` differs from its `record` of `describe`, in a few words; empty where it does not.

    Args:
      whole: read every byte instead of 64 blocks.
    """
    if fault := damage_of_size(path, record):
        return fault
    same = full_digest(path) == record["sha256"] if whole else quick_digest(path) == record["quick"]
    return "" if same else f"{path.name} does not hold what was written"


def damage_of_size(path: Path, record: dict[str, Any]) -> str:
    """As `damage`, without reading: a file that is there, may be read and has its length."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return f"{path.name} is no file"
    if status.st_size != record["size"]:
        return f"{path.name} has {status.st_size} bytes instead of {record['size']}"
    return "" if os.access(path, os.R_OK, effective_ids=True) else f"{path.name} cannot be read (no permission)"


@contextlib.contextmanager
def only_one(folder: Path, *, notify: bool) -> Iterator[None]:
    """Hold the lock beside `folder`; wait for whoever has it. The kernel frees it when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(folder.parent / f".{folder.name}.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if notify:
                sys.stderr.write(f"waiting for another process that builds {folder}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, flush it to disk and rename it to `folder`, replacing what is there.

    The caller holds `only_one(folder)`, so temporary folders found beside it are what a kill left behind.
    """
    for left_over in folder.parent.glob(f".{folder.name}.building-*"):
        _remove(left_over)
    temporary = folder.parent / f".{folder.name}.building-{os.getpid()}-{time.time_ns():x}"
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        for file in sorted(temporary.rglob("*")):
            _flush(file)
        _flush(temporary)
        if folder.exists():
            # Readers that have the old files mapped keep them: a rename leaves their contents alone.
            displaced = temporary.with_name(f"{temporary.name}-old")
            os.rename(folder, displaced)
            os.rename(temporary, folder)
            _remove(displaced)
        else:
            os.rename(temporary, folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _remove(folder: Path) -> None:
    """Remove a folder; of a link to one, as where a cache was moved to another disk, the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
