"""What tests compiled before: kept in .pytest_cache, since compilation is most of a small run's time.

A call of pytest works on a copy, so that a test may damage what it finds, and a process that is killed while it writes
leaves nothing torn behind: what is new at the end is kept where it reads as a whole program.
"""

import hashlib
import platform
import shutil
from pathlib import Path

from jax._src import compilation_cache

MOST_BYTES = 2**30  # then it begins anew


def kept_folder(root: Path) -> Path:
    """Of this processor, whose programs another may not run; JAX's keys hold all else."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    machine = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]
    return root / machine


def take(kept: Path, session: Path) -> None:
    """Copy what is kept into the folder of a session; names that begin with a dot are being written."""
    session.mkdir(parents=True, exist_ok=True)
    for path in kept.glob("[!.]*") if kept.exists() else ():
        shutil.copy(path, session)


def keep(session: Path, kept: Path) -> None:
    """Copy what a session compiled beside what is kept."""
    kept.mkdir(parents=True, exist_ok=True)
    if sum(path.stat().st_size for path in kept.iterdir()) > MOST_BYTES:
        shutil.rmtree(kept)
        kept.mkdir()
    for path in session.glob("*-cache"):
        if not (kept / path.name).exists() and _is_whole(path):
            part = kept / f".{path.name}"
            shutil.copy(path, part)
            part.rename(kept / path.name)


def _is_whole(path: Path) -> bool:
    try:
        compilation_cache.decompress_executable(path.read_bytes())
    except Exception:  # noqa: BLE001  of whichever library compresses here
        return False
    return True
