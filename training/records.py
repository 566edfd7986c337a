"""What a run writes down besides its logs: environment, ledger, result, the cause of a failure."""

import contextlib
import datetime
import errno
import fcntl
import functools
import importlib.metadata
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from core.codec import from_json, to_json
from core.errors import BadInput, writes
from core.files import open_lock, open_own, read_json, write_json
from core.records import Attempt, CorpusRecord, Environment, StageRecord
from core.rundir import RunDirectory
from model.kernels import chips, choose
from training.processes.lease import (
    EXPIRY_SECONDS,
    acquire,
    described,
    generations,
    held,
    holder_elsewhere,
    lease_path,
)
from training.same_text import check_begun, check_resumed
from training.spec import RunSpec

if TYPE_CHECKING:
    from jax.sharding import Mesh

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def utc_now() -> str:
    """The time in ISO 8601, UTC, to the microsecond."""
    return datetime.datetime.now(datetime.UTC).isoformat()


@functools.cache
def git_commit() -> str | None:
    """The commit of the code that runs, with a + where files differ from it; None outside a checkout.

    Asked once a process: what it has loaded stays what it was.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def read_spec(directory: Path) -> RunSpec:
    """The RunSpec of a run directory.

    Raises:
      BadInput: spec.json is missing, not JSON, holds a wrong key, or does not belong to this directory.
    """
    path = RunDirectory(directory).spec
    value = read_json(path)
    try:
        spec = from_json(RunSpec, value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if spec.run_id != directory.absolute().name:
        raise BadInput(
            f"{path}: describes run {spec.run_id}, but lies in {directory.absolute().name}; restore the "
            "original file or delete the directory"
        )
    return spec


def write_spec(directory: Path, spec: RunSpec) -> None:
    """Create the run directory with its spec.json; an existing one must hold the same spec."""
    path = RunDirectory(directory).spec
    if path.exists():
        read_spec(directory)
        return
    with writes(directory):
        write_json(path, to_json(spec))


def start_attempt(
    directory: Path,
    corpus: CorpusRecord,
    mesh: "Mesh",
    code: str | None,
    pack: int = 0,
    lineage: list[StageRecord] | None = None,
) -> int:
    """Append this attempt to env.json and return its number, from 1.

    Args:
      pack: runs that are trained together as one program; 0, for a run alone, is not written.
      lineage: the stages behind a run that begins with the weights of another; None where it does not begin here.

    Raises:
      BadInput: the corpus is not the one that an earlier attempt of this run, its trunk or its sweep read, or the
        weights are not those that an earlier attempt began with.
    """
    import jax  # here: the launcher and `status` read records without JAX

    # JAX: launchers and status read records without it
    from model.kernels.device import described
    from model.kernels.install import record

    files = RunDirectory(directory)
    previous = files.read_environment() if files.environment.exists() else None
    spec = read_spec(directory)
    if previous is None:
        check_begun(spec, directory, corpus)
    else:
        check_resumed(directory, previous["corpus"], corpus)
        _check_lineage(directory, previous.get("lineage"), lineage)
    attempts = previous["attempts"] if previous else []
    now = utc_now()
    device = mesh.devices.flat[0]
    length, kind = spec.data.sequence_length, described(device)
    sequences = (spec.optim.microbatch_tokens or spec.batch_tokens) // length
    made = record(spec.model, kind, tuple(mesh.shape.values()), sequences, length)
    peak = chips.peak_flops(kind.kind, made["products"]["name"])
    if warning := choose.slow(choose.Choice(**made["attention"]), kind, length):
        logging.getLogger(__name__).warning("%s: %s", directory, warning)
    attempt: Attempt = {
        "attempt": len(attempts) + 1,
        "started": now,
        "commit": code,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "host": platform.node(),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "implementations": made,
        "processes": jax.process_count(),
        "cpus": sorted(os.sched_getaffinity(0)),
    }
    if pack:
        attempt["pack"] = pack
    environment: Environment = {
        "started": previous["started"] if previous else now,
        "commit": code,
        "corpus": corpus,
        "mfu": {"convention": "palm", "peak_flops_per_device": peak},
        "attempts": [*attempts, attempt],
    }
    if known := lineage or (previous.get("lineage") if previous else None):
        environment["lineage"] = known
    files.write_environment(environment)
    return attempt["attempt"]


def _check_lineage(directory: Path, before: list[StageRecord] | None, here: list[StageRecord] | None) -> None:
    if before and here and before[-1]["weights"] != here[-1]["weights"]:
        raise BadInput(
            f"{directory}: the weights of {here[-1]['run']} changed since this run began; delete the run's directory "
            "to begin with the new ones"
        )


class RunIsLocked(RuntimeError):
    """Another process trains this run."""


# What flock answers on file systems that have no locks.
NO_LOCKS_HERE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextlib.contextmanager
def run_lock(directory: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold the run for this process: a file lock against this machine's processes, a lease against other machines'.

    The kernel lets go of the lock however the process ends; the lease of a machine that died expires within a minute.

    Raises:
      RunIsLocked: another process still holds it after `patience_seconds`.
      BadInput: something else than a file is in the lock's place.
    """
    with open_lock(RunDirectory(directory).lock) as file:
        # `is_locked` of a watcher holds the lock for an instant: a second is always allowed.
        deadline = time.monotonic() + max(1.0, patience_seconds)
        locked = _file_lock(file, deadline)
        if locked is False:
            raise RunIsLocked(f"{directory}: another process trains this run")
        lease = acquire(directory, max(0.0, deadline - time.monotonic()), file_lock_held=locked is True)
        if isinstance(lease, dict):
            raise RunIsLocked(
                f"{directory}: {described(lease_path(directory, generations(directory)[-1]), lease)}, trains this run; "
                f"its lease expires {EXPIRY_SECONDS:g} seconds after that process has died"
            )
        with held(lease):
            yield


def _file_lock(file: IO[bytes], deadline: float) -> bool | None:
    """True once locked, False where another process has the lock until `deadline`, None where there are no locks."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                raise
            return None


def is_locked(directory: Path) -> bool:
    """Whether a live process, here or on another machine, trains the run. Asks without taking the lock for long."""
    try:
        file = open_own(RunDirectory(directory).lock, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(file)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            raise
    except BadInput:  # no file, so nobody has locked it; who wants to train the run is told
        pass
    return holder_elsewhere(directory) is not None


def write_error(directory: Path, cause: str) -> None:
    """Record why a run failed; the next attempt removes the file."""
    RunDirectory(directory).write_error(cause)
