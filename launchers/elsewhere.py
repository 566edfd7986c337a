"""Runs that another sweep under the same folder of sweeps has finished: they are copied, never trained twice.

A copy is a run of its own. It outlives the sweep that it comes from, and what is written into one of them later (a
backfill, a repair) does not reach the other: logs and records are copied byte by byte. Files of checkpoints are hard
links where the disk has them, for they are written once and only ever removed.
"""

import collections
import contextlib
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from core import seal
from core.errors import BadInput, writes
from core.files import write_atomic
from core.reading import Unreadable, path_exists
from core.rundir import CHECKPOINTS, ENVIRONMENT, METRICS, RESULT, RunDirectory, SweepDirectory
from core.sweep_file import CopiedRun, note_copied
from launchers.condition import condition
from training.records import is_locked, read_spec, utc_now
from training.same_text import reads_the_same
from training.spec import RunSpec

BEGUN = (ENVIRONMENT, METRICS, CHECKPOINTS, RESULT)
HIDDEN = ".copying-"  # begins the name of a folder in which a copy is made
STALE_SECONDS = 3600.0  # no copy takes longer between two of its files


class NotWhole(Exception):
    """Why a run of another sweep is not taken, in words."""


def finished_elsewhere(directory: Path, specs: Sequence[RunSpec]) -> dict[str, list[RunDirectory]]:
    """Complete runs of other sweeps in the same folder that are runs of these specs, by run_id.

    Their files are not compared with each other, and not with the text that is here: `copy_finished` does so.

    Args:
      directory: runs/<sweep>, of which no run is named.
    """
    wanted = {spec.run_id for spec in specs}
    found: dict[str, list[RunDirectory]] = {}
    for sweep in other_sweeps(directory):
        for name in sorted(wanted & _names_in(sweep)):
            run = RunDirectory(sweep / name)
            with contextlib.suppress(BadInput, OSError):
                if run.is_complete():
                    found.setdefault(name, []).append(run)
    return found


def copy_finished(directory: Path, specs: Sequence[RunSpec]) -> list[str]:
    """Copy those of these runs that another sweep has finished into runs/<sweep>; what to tell the user.

    Taken is a run whose files are those that were sealed when it was complete, and that has read the text that is to be
    read here. Not taken: what has begun here, and what is held back for a forecast, whose point is to come first.

    Raises:
      BadInput: the folder cannot be written.
      OSError: the disk refuses.
    """
    sweep = SweepDirectory(directory)
    held = _held_back(sweep)
    due = [spec for spec in specs if spec.run_id not in held and not _begun(sweep.run(spec.run_id))]
    found = finished_elsewhere(directory, due)
    if not found:
        return []
    prepared = sweep.read_prepared()
    copied: dict[str, CopiedRun] = {}
    refused: dict[str, str] = {}
    with writes(directory), _workshop(directory) as workshop:
        for spec in due:
            for run in found.get(spec.run_id, ()):
                try:
                    _copy(run, spec, prepared.get(spec.run_id), workshop, sweep.run(spec.run_id))
                except NotWhole as error:
                    refused.setdefault(spec.run_id, f"{run.path}: {error}")
                    continue
                copied[spec.run_id] = {"sweep": str(run.path.parent), "time": utc_now()}
                break
    note_copied(directory, copied)
    return _lines(directory, copied, {run: why for run, why in refused.items() if run not in copied})


def say_copied(directory: Path, specs: Sequence[RunSpec]) -> None:
    """`copy_finished`, and its lines on standard error."""
    sys.stderr.writelines(f"{line}\n" for line in copy_finished(directory, specs))


def _lines(directory: Path, copied: dict[str, CopiedRun], refused: dict[str, str]) -> list[str]:
    said = []
    if copied:
        counts = collections.Counter(one["sweep"] for one in copied.values())
        sources = ", ".join(f"{count} from {name}" for name, count in counts.most_common())
        are = "run was" if len(copied) == 1 else "runs were"
        said.append(
            f"{directory}: {len(copied)} {are} complete in other sweeps and copied, not trained: {sources}"
        )
    if refused:
        are = "run that is" if len(refused) == 1 else "runs that are"
        why = next(iter(refused.values()))
        said.append(f"{directory}: {len(refused)} {are} complete in other sweeps cannot be copied ({why})")
    return said


def other_sweeps(directory: Path) -> list[Path]:
    """The folders beside runs/<sweep>, by name; a link to it is none."""
    here = os.path.realpath(directory)
    try:
        names = sorted(os.listdir(directory.absolute().parent))
    except OSError:
        return []
    paths = [directory.parent / name for name in names if not name.startswith(".")]
    return [path for path in paths if os.path.isdir(path) and os.path.realpath(path) != here]


def _names_in(sweep: Path) -> set[str]:
    try:
        return set(os.listdir(sweep))
    except OSError:
        return set()


def _held_back(sweep: SweepDirectory) -> set[str]:
    if not path_exists(sweep.held_back):
        return set()
    value = sweep.read_held_back()
    return {run["run"] for run in value["runs"]} | set(value["trunks"])


def _begun(run: RunDirectory) -> bool:
    return any(path_exists(run.path / name) for name in BEGUN) or is_locked(run.path)


@contextlib.contextmanager
def _workshop(directory: Path) -> Iterator[Path]:
    """A hidden folder of the sweep for copies that are not whole yet; those that a kill left behind go."""
    for old in directory.glob(f"{HIDDEN}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    folder = directory / f"{HIDDEN}{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(
    source: RunDirectory, spec: RunSpec, fingerprint: str | None, workshop: Path, target: RunDirectory
) -> None:
    """Make a copy beside the runs, look at it as a whole, and rename it into its place.

    Raises:
      NotWhole: the run is not what it was when it was complete, or has read another text.
    """
    copy = RunDirectory(workshop / spec.run_id)
    try:
        try:
            _copy_files(source, copy)
            _check(copy, spec, fingerprint)
        except (BadInput, FileNotFoundError) as error:
            raise NotWhole(str(error)) from None
        if target.path.is_symlink() or _begun(target):
            raise NotWhole(f"{target.path} has begun here")
        if path_exists(target.path):  # its spec.json alone
            os.rename(target.path, workshop / f"{spec.run_id}.before")
        os.rename(copy.path, target.path)
    finally:
        shutil.rmtree(copy.path, ignore_errors=True)


def _copy_files(source: RunDirectory, copy: RunDirectory) -> None:
    copy.path.mkdir()
    for name in sorted(os.listdir(source.path)):
        if name.endswith((".json", ".jsonl")) and not name.startswith("."):
            payload = source.read(name)
            if payload is not None:
                write_atomic(copy.path / name, payload)
    if path_exists(source.checkpoints):
        _link_tree(source.checkpoints, copy.checkpoints)


def _link_tree(source: Path, copy: Path) -> None:
    """Folders made anew, files as hard links, or as copies where the disk has no links or they are on another one."""
    copy.mkdir()
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path = copy / entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            _link_tree(Path(entry.path), path)
        elif not stat.S_ISREG(mode):
            raise Unreadable(entry.path, "is a link or no regular file")
        else:
            try:
                os.link(entry.path, path, follow_symlinks=False)
            except OSError:
                shutil.copyfile(entry.path, path)


def _check(copy: RunDirectory, spec: RunSpec, fingerprint: str | None) -> None:
    """Raises BadInput or NotWhole where a copy is not the run that was sealed, of this text."""
    read_spec(copy.path)
    completion = copy.completion()
    if completion.result is None:
        raise NotWhole(completion.problem or "it is not complete")
    if not seal.is_sealed(completion.result):
        raise NotWhole(f"{RESULT} has no checksums: an earlier version wrote it")
    if notes := condition(copy, spec, completion.result):
        raise NotWhole("; ".join(map(str, notes)))
    if not reads_the_same(spec, fingerprint, copy.read_environment()["corpus"]):
        raise NotWhole("it has read another text than the one that is here")
    if lost := sorted(set(spec.checkpoint_marks) - set(copy.checkpoint_tokens())):
        raise NotWhole(f"its checkpoint at {lost[0]} tokens is gone, where branches start")
