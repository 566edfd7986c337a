"""What Slurm says, through its own commands: never through sacct, which many clusters switch off."""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from core.errors import BadInput
from core.reading import read_bytes

PATIENCE_SECONDS = 60
DEFAULT_MAX_ARRAY_SIZE = 1001  # slurm.conf(5)
BATCHES = "slurm"  # folder of a sweep that holds what was submitted


class SlurmDoesNotAnswer(RuntimeError):
    """A Slurm command is missing, failed or hung."""


def slurm_command(command: Sequence[str], cwd: Path | None = None) -> str:
    """Standard output of one Slurm command.

    Raises:
      SlurmDoesNotAnswer: it is not installed, hangs or fails; the message is Slurm's own.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmDoesNotAnswer(f"{command[0]}: not installed here") from None
    except subprocess.TimeoutExpired:
        raise SlurmDoesNotAnswer(f"{command[0]}: no answer within {PATIENCE_SECONDS} seconds") from None
    if done.returncode:
        raise SlurmDoesNotAnswer(" ".join(done.stderr.split()) or f"{command[0]}: status {done.returncode}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Queued:
    """One array element in Slurm's queue.

    Attributes:
      job: as Slurm names it, 123_4.
      state: PENDING, RUNNING, COMPLETING, ...
      reason: why it waits, in Slurm's words.
      batch: folder that it was submitted from.
    """

    job: str
    state: str
    reason: str
    batch: Path


def read_queue(sweep: Path) -> dict[str, Queued]:
    """Every run of this sweep that Slurm has in its queue, by run_id.

    A job is known by the folder that it was submitted from (its working directory) and its line in runs.txt there: no
    record has to be kept that a kill between submission and recording could lose. The runs of a pack share an element.

    Raises:
      SlurmDoesNotAnswer: see there.
    """
    root = sweep.resolve() / BATCHES
    text = slurm_command(
        ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%F|%K|%T|%r|%Z"]
    )
    names: dict[Path, list[tuple[str, ...]]] = {}
    found: dict[str, Queued] = {}
    for line in text.splitlines():
        job, index, state, reason, folder = line.split("|", 4)
        batch = Path(folder)
        if batch.parent != root or not index.isdigit():
            continue
        if batch not in names:
            names[batch] = read_manifest(batch)
        for run in names[batch][int(index)] if int(index) < len(names[batch]) else ():
            found[run] = Queued(f"{job}_{index}", state, reason, batch)
    return found


def read_manifest(batch: Path) -> list[tuple[str, ...]]:
    """run_ids of each array element of a batch; empty where the folder or its manifest is gone."""
    try:
        text = read_bytes(batch / "runs.txt").decode("utf-8", "replace")
    except (FileNotFoundError, BadInput):
        return []
    return [tuple(line.split()) for line in text.splitlines()]


def batches(sweep: Path) -> list[Path]:
    """Folders of everything that was submitted for this sweep, oldest first."""
    root = sweep.resolve() / BATCHES
    try:
        names = os.listdir(root)
    except OSError:
        return []
    return [root / name for name in sorted(names) if re.fullmatch(r"\d{3,18}", name)]


def submitted_runs(sweep: Path) -> dict[str, Path]:
    """The newest batch of each run that was ever submitted and not cancelled since."""
    found: dict[str, Path] = {}
    for batch in batches(sweep):
        for element in read_manifest(batch):
            found |= dict.fromkeys(element, batch)
    return {run: batch for run, batch in found.items() if not (batch / "cancelled").exists()}


def max_array_size() -> int:
    """Most elements of one array on this cluster.

    Raises:
      SlurmDoesNotAnswer: see there.
    """
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", slurm_command(["scontrol", "show", "config"]), flags=re.M)
    return int(match[1]) if match else DEFAULT_MAX_ARRAY_SIZE


def require_slurm() -> None:
    """Refuse a machine without Slurm's commands."""
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        if shutil.which(name) is None:
            raise BadInput(f"--backend slurm: {name} is not installed here; submit from a login node")
