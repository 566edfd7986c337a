"""`python launch.py mirror runs/SWEEP --to TRACKER`: the sweep in an experiment tracker, made from its logs."""

import dataclasses
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from core import discover, stop
from core.bounds import Allowed
from core.cli import parse
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import read_object, write_json
from core.rundir import RunDirectory, SweepDirectory
from launchers.status import RunStatus, sweep_status
from launchers.watch.changed import RunStatuses, Signature, signature_of
from launchers.watch.totals import goes_on

TRACKERS = Path(__file__).parent / "trackers"
KNOWN = "mirrored.json"  # of a mirror's folder: {run_id: SHA-256 of what the mirror shows}

ABOUT = """Show a sweep in an experiment tracker; again = only what is new.

python launch.py mirror runs/quickstart --to tensorboard
python launch.py mirror runs/quickstart --to wandb --follow
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MirrorFlags:
    """The command line."""

    sweep: Positional[Path]
    """runs/<sweep>"""
    to: str
    """tensorboard, wandb or trackio"""
    out: Path | None = None
    """folder of the mirror; else runs/<sweep>/mirror/TRACKER"""
    follow: bool = False
    """go on until no run is left; Ctrl-C ends it"""
    every: Annotated[float, Allowed(0.1, 86_400)] = 30.0
    """seconds between two looks at the logs, with --follow"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Mirror a sweep; returns an exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    flags = parse(MirrorFlags, given, "python launch.py mirror", about=ABOUT)
    shown_by = check(flags.to)
    SweepDirectory(flags.sweep).folders()
    folder = flags.out or flags.sweep / "mirror" / flags.to
    mirror = Mirror(flags.sweep, flags.to, folder)
    if not flags.follow and not SweepDirectory(flags.sweep).runs():
        raise BadInput(f"{flags.sweep}: holds no run to mirror")
    try:
        while True:
            with stop.deferred():
                left = _once(mirror)
            stop.check()
            if not flags.follow or not left:
                break
            time.sleep(flags.every)
    except stop.StopRequested:
        if not flags.follow:
            raise
    sys.stdout.write(f"to look at it: {shown_by.format(folder=folder)}\n")
    return EXIT_COMPLETE


def _once(mirror: "Mirror") -> bool:
    """Renew the mirror and say so; whether runs are left that may still write."""
    written, lines = mirror.renew()
    sys.stderr.writelines(f"warning: {line}\n" for line in lines)
    sys.stdout.write(f"{mirror.folder}: {written} runs written, {mirror.current} in it\n")
    sys.stdout.flush()
    return goes_on(mirror.statuses())


def check(name: str) -> str:
    """How a tracker is shown.

    Raises:
      BadInput: no such tracker, or its package is not installed.
    """
    discover.check("--to", name, TRACKERS)
    declared = discover.declared(TRACKERS, name)
    if importlib.util.find_spec(declared["PACKAGE"]) is None:
        raise BadInput(
            f"--to {name}: needs the package {declared['PACKAGE']}; pip install -e '.[{declared['EXTRA']}]'"
        )
    return str(declared["SHOWN_BY"])


class Mirror:
    """The mirror of a sweep: what has not changed since it was made is not made again.

    Attributes:
      current: how many runs are in it.
    """

    def __init__(self, sweep: Path, name: str, folder: Path):
        # here: the packages of trackers load slowly
        from launchers.mirror.trackers import tracker

        self.sweep, self.folder, self.tracker = sweep, folder, tracker(name)
        self.current = 0
        self._seen: dict[str, Signature] = {}
        self._statuses = RunStatuses()

    def renew(self) -> tuple[int, list[str]]:
        """Write every run whose logs have changed; how many were written, and what was left out, one line each."""
        with writes(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        known, lines, written = _known(self.folder), list[str](), 0
        for run in self._changed():
            # here: polars, which a mistyped flag is spared
            from launchers.mirror.mirrored import read_mirrored

            mirrored, said = read_mirrored(run.path)
            lines += said
            if mirrored is None or (
                known.get(run.name) == mirrored.sha256 and self.tracker.is_there(run.name, self.folder)
            ):
                continue
            with writes(self.folder):
                self.tracker.write(mirrored, self.folder)
                known[run.name] = mirrored.sha256
                write_json(self.folder / KNOWN, known)
            written += 1
        self.current = len(known)
        return written, lines

    def statuses(self) -> list[RunStatus]:
        """Where every run of the sweep stands; none where none has begun."""
        try:
            return sweep_status(self.sweep, of_run=self._statuses)
        except BadInput:
            SweepDirectory(self.sweep).folders()  # gone: that is said
            return []

    def _changed(self) -> Iterator[RunDirectory]:
        for run in SweepDirectory(self.sweep).runs():
            now = signature_of(run.path)
            if self._seen.get(run.name) != now:
                yield run
                self._seen[run.name] = now


def _known(folder: Path) -> dict[str, str]:
    """What the mirror shows, by run_id; nothing where its file is damaged, so that all of it is made again."""
    try:
        found = read_object(folder / KNOWN)
    except BadInput:
        return {}
    return {run: digest for run, digest in found.items() if isinstance(digest, str)}
