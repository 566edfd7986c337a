"""`python launch.py status`: every sweep in a folder of sweeps, how far it is, and the command that goes on with it."""

import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from core.bounds import Allowed
from core.cli import parse
from core.errors import EXIT_COMPLETE, BadInput
from core.files import read_object
from core.reading import path_exists, printable
from core.records import provenance_of
from core.rundir import RunDirectory, SweepDirectory
from core.sweep_file import SweepRecord, known_sweep_file
from launchers.status import show_status
from training.records import is_locked

WIDTH = 80

ABOUT = """Show where every run of a sweep stands; alone, every sweep.

python launch.py status              every sweep and the command that resumes it
python launch.py status runs/quickstart      done, running, queued, failed, lost
python launch.py status runs/quickstart --watch       while it trains
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusFlags:
    """The command line."""

    sweep: Positional[Path | None] = None
    """runs/<sweep>; where none, every sweep in `runs`"""
    runs: Path = Path("runs")
    """folder of sweeps"""
    json: bool = False
    """as JSON"""
    watch: bool = False
    """go on showing it until no run is left; Ctrl-C ends it"""
    every: Annotated[float, Allowed(0.2, 3600)] = 5.0
    """seconds between two looks, with --watch"""


@dataclasses.dataclass(frozen=True)
class SweepStatus:
    """One sweep. Of its `runs`, those on the disk and those that only sweep.json names, `left` is what is neither
    complete (`done`) nor `failed`; `running` of these are held by a live process, `missing` have no folder.

    experiment, created and command are empty where there is no sweep.json and the runs do not say either.
    """

    sweep: str
    experiment: str
    runs: int
    done: int
    left: int
    failed: int
    running: int
    missing: int
    created: str
    command: str
    question: str = ""
    problem: str = ""


def list_sweeps(runs: Path) -> list[SweepStatus]:
    """Every sweep below a folder, by name; what holds no run and no sweep.json is none.

    Raises:
      BadInput: no such folder, or it cannot be listed.
    """
    try:
        folders = sorted(path for path in runs.iterdir() if not path.name.startswith(".") and path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{runs}: no such folder of sweeps; python launch.py run quickstart makes one") from None
    except OSError as error:
        raise BadInput(f"{runs}: cannot be read ({error.strerror})") from None
    return [found for folder in folders if (found := _status_of(folder)) is not None]


def _status_of(folder: Path) -> SweepStatus | None:
    record, problem = known_sweep_file(folder)
    try:
        runs = SweepDirectory(folder).runs()
    except (BadInput, OSError) as error:
        runs, problem = [], problem or str(error)
    if not runs and record is None and not problem:
        return None
    said: SweepRecord = record or {"runs": []}
    named = set(said["runs"])
    states = [_state(run) for run in runs]
    missing = len(named - {run.name for run in runs})
    count, done, failed = len(runs) + missing, states.count("done"), states.count("failed")
    return SweepStatus(
        sweep=printable(folder.name),
        experiment=said.get("experiment", ""),
        runs=count,
        done=done,
        left=count - done - failed,
        failed=failed,
        running=states.count("running"),
        missing=missing,
        created=said.get("created", "") or min(filter(None, map(_started, runs)), default=""),
        command=said.get("command", ""),
        question=said.get("question", ""),
        problem=printable(problem),
    )


def _state(run: RunDirectory) -> str:
    try:
        if run.is_complete():
            return "done"
        if is_locked(run.path):
            return "running"
    except (BadInput, OSError):
        return "left"
    return "failed" if path_exists(run.error) else "left"


def _started(run: RunDirectory) -> str:
    try:
        return provenance_of(read_object(run.environment)).started
    except (BadInput, OSError):
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    given = sys.argv[1:] if arguments is None else arguments
    flags = parse(StatusFlags, given, "python launch.py status", about=ABOUT)
    return show(flags.sweep, flags.runs, as_json=flags.json, watch=flags.watch, every=flags.every)


def show(directory: Path | None, runs: Path, *, as_json: bool, watch: bool = False, every: float = 5.0) -> int:
    """The command `status`: one sweep, or all of a folder of sweeps; returns exit status 0.

    Args:
      watch: show it again every so many seconds, until no run is left.

    Raises:
      BadInput: there is no such sweep or folder, or flags that do not go together.
    """
    if watch and (directory is None or as_json):
        raise BadInput(f"--watch: {'not with --json' if as_json else 'of one sweep; give runs/<sweep>'}")
    if directory is None:
        show_sweeps(runs, as_json=as_json)
        return EXIT_COMPLETE
    check_sweep(directory, runs)
    if watch:
        from launchers.watch.terminal import watch_in_terminal  # here: rich is slow to load

        watch_in_terminal(directory, every)
        return EXIT_COMPLETE
    show_status(directory, as_json=as_json)
    return EXIT_COMPLETE


def check_sweep(directory: Path, runs: Path) -> None:
    """Raises BadInput where there is no such sweep; it names one of `runs` that is spelled alike."""
    if not path_exists(directory):
        known = [str(path) for folder in {runs, directory.parent} for path in _folders(folder)]
        by_name = {Path(path).name: path for path in known}
        near = difflib.get_close_matches(directory.name, by_name, n=1)
        raise BadInput(f"{directory}: no such sweep{f', did you mean {by_name[near[0]]}?' if near else ''}")


def _folders(runs: Path) -> list[Path]:
    try:
        return sorted(path for path in runs.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []


def show_sweeps(runs: Path, *, as_json: bool = False) -> None:
    """Print a row a sweep, and below it its command; as JSON a list of `SweepStatus`."""
    rows = list_sweeps(runs)
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))  # noqa: T201
        return
    names = [max(len(row.sweep), 5) for row in rows]
    wide = min(max(names, default=5), WIDTH - 40)
    heading = f"{'sweep':<{wide}}  {'done':>9}  {'left':>5}  {'failed':>6}  created"
    lines = [heading] if rows else []
    for row in rows:
        name = [row.sweep, " " * wide] if len(row.sweep) > wide else [f"{row.sweep:<{wide}}"]
        cells = f"  {f'{row.done}/{row.runs}':>9}  {row.left:>5}  {row.failed:>6}  {_day(row.created)}"
        lines += [*name[:-1], f"{name[-1]}{cells}".rstrip()]
        counts = [f"{row.running} running"] * bool(row.running) + [f"{row.missing} without a folder"] * bool(
            row.missing
        )
        if row.experiment and row.experiment != row.sweep:
            counts.insert(0, f"of {row.experiment}")
        lines += [f"    {', '.join(counts)}"] if counts else []
        lines += [f"    {row.command}"] if row.command else []
        lines += [f"    warning: {row.problem}"] if row.problem else []
    lines.append(
        f"{len(rows)} sweeps in {runs}; python launch.py status {runs}/NAME shows one"
        if rows
        else f"no sweep in {runs}"
    )
    sys.stdout.write("\n".join(lines) + "\n")


def _day(created: str) -> str:
    return printable(created)[:16].replace("T", " ") or "?"
