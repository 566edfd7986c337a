"""sweep.json: what a sweep is, so that it can be named, listed, judged complete and resumed months later.

    {"experiment": "quickstart", "arguments": {"sizes": 5, ...}, "preset": null, "settings": {"model.width": "96"},
     "command": "python launch.py run quickstart --set model.width=96", "commit": "...", "diff_sha256": null,
     "runs": ["w96-...", ...], "created": "2026-01-02T03:04:05+00:00", "question": "optim.weight_decay",
     "history": [...], "copied": {...}, "sha256": "..."}

Whoever starts runs writes it before the first of them starts. A later command adds its runs; nothing is taken out.
Readers get None where there is none, as in a sweep of an earlier version, and `BadInput` in one line where it is
damaged: no reader of a sweep stops at that.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict, cast

from core import disk, seal
from core.codec import typed
from core.errors import BadInput, writes
from core.files import open_lock, write_json
from core.names import is_one_line, plain_name
from core.reading import Unreadable, parse_json, path_exists, printable, read_bytes
from core.rundir import SweepDirectory

AND: Final = " && "  # between commands that only together ask for all runs
PATIENCE_SECONDS: Final = 30.0  # for another launcher that writes it, which takes milliseconds
MOST_HISTORY: Final = 1000  # commands that are kept: a script that adds a run at a time stays readable


class AskedRuns(TypedDict):
    """One command that asked for runs of a sweep: `runs` is how many, `added` how many of them were new."""

    time: str
    command: str
    experiment: str
    arguments: dict[str, Any]
    preset: str | None
    settings: dict[str, str]
    commit: str | None
    diff_sha256: str | None
    folder: NotRequired[str]
    runs: int
    added: int


@dataclasses.dataclass(frozen=True)
class SweepRequest:
    """What a command line asks for: the sweep of an experiment, by its `runs`; `question` as in `SweepRecord`."""

    command: str
    experiment: str
    runs: tuple[str, ...]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    question: str = ""
    folder: str = ""


class CopiedRun(TypedDict):
    """Where a run was copied from that another sweep had finished."""

    sweep: str
    time: str


class SweepRecord(TypedDict):
    """sweep.json. Only `runs` must be there when it is read.

    experiment, arguments (of its `sweep` function, by name, defaults among them), preset and settings (of --set) are
    those of the last command that asked for more or other runs. command asks for all runs; where it takes several,
    they stand behind each other with &&. folder is where it was typed. commit is that of the code, diff_sha256 of its
    differences from it: null without any. runs are run_ids in the order asked for. created is ISO 8601, UTC. question
    is the setting that the sweep is about.
    """

    runs: list[str]
    experiment: NotRequired[str]
    arguments: NotRequired[dict[str, Any]]
    preset: NotRequired[str | None]
    settings: NotRequired[dict[str, str]]
    command: NotRequired[str]
    folder: NotRequired[str]
    commit: NotRequired[str | None]
    diff_sha256: NotRequired[str | None]
    created: NotRequired[str]
    question: NotRequired[str]
    history: NotRequired[list[AskedRuns]]
    copied: NotRequired[dict[str, CopiedRun]]
    sha256: NotRequired[str]


def read_sweep_file(directory: Path) -> SweepRecord | None:
    """The sweep.json of runs/<sweep>; None where there is none.

    Raises:
      BadInput: it is there and damaged, or no file that can be read; one line that names it.
    """
    path = SweepDirectory(directory).sweep
    try:
        return sweep_record_of(read_bytes(path), path)
    except FileNotFoundError:
        if path_exists(path):
            raise Unreadable(path, "is a link to nothing") from None
        return None


def known_sweep_file(directory: Path) -> tuple[SweepRecord | None, str]:
    """The same for readers that go on without it: the record if it can be used, and what is wrong with it."""
    try:
        return read_sweep_file(directory), ""
    except BadInput as error:
        return None, printable(str(error))


def sweep_record_of(payload: bytes, where: object) -> SweepRecord:
    """The content of a sweep.json from its bytes.

    Raises:
      BadInput: it is damaged; `where` names the file.
    """
    try:
        value = parse_json(payload)
        if not isinstance(value, dict):
            raise BadInput(f"holds no object but {type(value).__name__}")
        json.dumps(value, allow_nan=False)
        record = typed(SweepRecord, value)
        for run in record["runs"]:
            plain_name("runs", run)
        for key in ("experiment", "command", "folder", "created", "question", "commit"):
            if not is_one_line(str(value.get(key) or "")):
                raise BadInput(f"{key}: must be one line")
    except ValueError as error:  # BadInput is one
        raise BadInput(f"{where}: is damaged ({printable(str(error))})") from None
    if seal.is_sealed(value) and not seal.is_whole(value):
        raise BadInput(f"{where}: was changed after it was written (its checksum differs)")
    return record


def merged(
    before: SweepRecord | None, asked: AskedRuns, runs: Sequence[str], question: str = ""
) -> SweepRecord:
    """The record once a command has asked for `runs`: nothing that was asked for earlier is lost.

    A command that asks for all runs is the one to resume with. Where none does, several are.
    """
    old = before["runs"] if before else []
    known, wanted = set(old), set(runs)
    everything = [*old, *(run for run in dict.fromkeys(runs) if run not in known)]
    asked = cast(AskedRuns, {**asked, "runs": len(wanted), "added": len(everything) - len(old)})
    record: dict[str, Any] = dict(before or {})
    earlier = str(record.get("command", ""))
    if wanted >= known:
        record["command"] = asked["command"]
    elif not wanted <= known and asked["command"] not in earlier.split(AND):
        record["command"] = AND.join(filter(None, [earlier, asked["command"]]))
    if not before or not wanted < known:
        record |= {
            key: asked[key]
            for key in ("experiment", "arguments", "preset", "settings", "commit", "diff_sha256")
        }
        record |= {"folder": asked["folder"]} if "folder" in asked else {}
        record |= {"question": question} if question else {}
    record["runs"] = everything
    record.setdefault("created", asked["time"])
    history = list(record.get("history", ()))
    if asked["added"] or not any(_same(asked, one) for one in history):
        history.append(asked)
    record["history"] = [*history[:1], *history[1:][-(MOST_HISTORY - 1) :]]
    return cast(SweepRecord, record)


def _same(one: AskedRuns, other: AskedRuns) -> bool:
    """Whether the same command was given with the same code."""
    return all(one.get(key) == other.get(key) for key in ("command", "commit", "diff_sha256", "runs", "folder"))


def write_sweep_file(
    directory: Path, asked: SweepRequest, now: str, commit: str | None = None, diff_sha256: str | None = None
) -> tuple[SweepRecord, str]:
    """Add a command and its runs to the sweep.json of runs/<sweep>, which is made where there is none.

    Two that do so at once wait for each other. A damaged file is put aside, and the new one begins with these runs.

    Args:
      now: ISO 8601, UTC.
      commit, diff_sha256: of the code, as in `SweepRecord`.

    Returns:
      What it then holds, and what was wrong with the file that was put aside; empty where nothing was.

    Raises:
      BadInput: the folder cannot be written, or its lock is held for half a minute.
    """
    entry: AskedRuns = {
        "time": now,
        "command": asked.command,
        "experiment": asked.experiment,
        "arguments": dict(asked.arguments),
        "preset": asked.preset,
        "settings": dict(asked.settings),
        "commit": commit,
        "diff_sha256": diff_sha256,
        "runs": len(asked.runs),
        "added": 0,
    }
    if asked.folder:
        entry["folder"] = asked.folder
    return _change(directory, lambda before: merged(before, entry, asked.runs, asked.question))


def note_copied(directory: Path, copied: Mapping[str, CopiedRun]) -> None:
    """Say in sweep.json which runs were copied from where. Raises as `write_sweep_file`."""

    def change(before: SweepRecord | None) -> SweepRecord:
        record: dict[str, Any] = dict(before or {"runs": list(copied)})
        return cast(SweepRecord, record | {"copied": {**record.get("copied", {}), **copied}})

    if copied:
        _change(directory, change)


def _change(directory: Path, change: Callable[[SweepRecord | None], SweepRecord]) -> tuple[SweepRecord, str]:
    path = SweepDirectory(directory).sweep
    with writes(directory), _alone(directory):
        before, damage = known_sweep_file(directory)
        if damage:
            aside = put_aside(path)
            damage = f"{damage}; it is now {aside.name}"
        record = change(before)
        if record != before:
            record = cast(SweepRecord, seal.itself(record))
            write_json(path, record)
    return record, damage


def put_aside(path: Path) -> Path:
    """Rename what lies at `path`, whatever it is, to a name that is free; its new path."""
    names = (path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}") for number in range(10_000))
    aside = next(name for name in names if not path_exists(name))
    os.rename(path, aside)
    return aside


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time changes the file; where the file system has no locks, the last one wins."""
    directory.mkdir(parents=True, exist_ok=True)
    with open_lock(SweepDirectory(directory).sweep_lock) as file:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BadInput(f"{file.name}: another process holds it; stop that process") from None
                time.sleep(0.02)
            except OSError as error:
                if disk.number_of(error) is not None:
                    raise
                break
        yield
