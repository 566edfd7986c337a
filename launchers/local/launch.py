"""Run a sweep on this machine: long-lived workers, one an accelerator or a CPU core.

What is on disk is the only truth: launching again skips what is complete and resumes the rest.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from core import disk, stop, voice
from core.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput, writes
from core.files import append_to, open_lock
from core.rundir import SweepDirectory
from launchers.local.devices import Place, devices_of_a_run, places
from launchers.local.progress import Progress
from launchers.order import check_order
from launchers.packs import PackSizes, choose_sizes
from launchers.queue import RunQueue
from training.records import write_spec
from training.spec import RunSpec

# A worker killed from outside (out of memory, kill -9) gets its run back this often before the run counts as failed.
# A run that was in a pack then has as many tries alone: the others, or their number, may have been the cause.
RETRIES = 1
# A worker that ends before it can take a run is started this often: its machine or its installation is the cause.
STARTS = 3


@dataclasses.dataclass(frozen=True)
class LocalOptions:
    """How the local launcher works: none of it changes what is computed."""

    cache_root: Path = Path("cache")
    workers: int | None = None
    cores_per_worker: int = 1
    checkpoint_seconds: float = 60.0
    mesh: str = ""
    devices_per_worker: int = 0  # by rule
    profile: bool = False
    pack: str | int = "auto"  # launchers/packs.py


@dataclasses.dataclass(frozen=True)
class LaunchSummary:
    """How a launch ended, by run_id."""

    complete: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    stopped: tuple[str, ...]
    refused: dict[str, str]

    @property
    def status(self) -> int:
        """Exit status: while runs are left that the same command trains, 75; then what was refused or failed."""
        if self.stopped:
            return EXIT_STOPPED
        if self.refused:
            return EXIT_BAD_INPUT
        return EXIT_FAILED if self.failed else EXIT_COMPLETE


@contextlib.contextmanager
def sweep_lock(directory: Path) -> Iterator[None]:
    """One launcher a sweep; the kernel lets go of the lock however the launcher ends.

    Raises:
      BadInput: another launcher works on this sweep, or its folder cannot be written.
    """
    with writes(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = open_lock(SweepDirectory(directory).launcher_lock)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"{directory}: another launcher works on this sweep (process "
                f"{file.read().decode().strip() or 'unknown'}); wait for it or stop it"
            ) from None
        with disk.named(directory):
            file.truncate(0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())
        yield


class Worker:
    """One worker process and the runs it trains, by run_id: none, one or a pack."""

    def __init__(self, index: int, place: Place, log: Path, options: LocalOptions):
        self.index, self.place = index, place
        self.runs: dict[str, RunSpec] = {}
        self.waits_for_trunk = False
        self.is_ready = False
        self._log = log
        command = [sys.executable, "-m", "training.worker", "--cache", str(options.cache_root.absolute())]
        command += ["--checkpoint-seconds", str(options.checkpoint_seconds), "--folder", os.getcwd()]
        if options.mesh:
            command += ["--mesh", options.mesh]
        command += ["--profile"] * options.profile
        if place.cores:
            command += ["--cores", ",".join(map(str, place.cores))]
        with append_to(log) as file:
            self._said_before = file.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **place.environment, "PYTHONUNBUFFERED": "1"},
                cwd=Path(__file__).resolve().parents[2],
                start_new_session=True,
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.orders: IO[bytes] = self.process.stdin
        self.events: IO[bytes] = self.process.stdout
        os.set_blocking(self.events.fileno(), False)
        self._partial = b""

    def train(self, specs: Sequence[RunSpec], sweep: Path) -> None:
        self.runs = {spec.run_id: spec for spec in specs}
        paths = [str((sweep / run_id).absolute()) for run_id in self.runs]
        order = {"run": paths[0]} if len(paths) == 1 else {"pack": paths}
        with contextlib.suppress(BrokenPipeError):  # a dead worker is seen by its closed output
            self.orders.write(json.dumps(order).encode() + b"\n")
            self.orders.flush()

    def read_events(self) -> list[dict[str, Any]] | None:
        """Events since the last call; None once the process has closed its output."""
        chunk = os.read(self.events.fileno(), 1 << 16)
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        events = [json.loads(line) for line in lines if line.strip()]
        return events if chunk or events else None

    def cause_of_death(self) -> str:
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f"its worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"its worker ended with status {code} ({self.last_words()})"

    def last_words(self) -> str:
        """The last line that this process wrote on standard error."""
        with self._log.open("rb") as file:
            file.seek(self._said_before)
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class LocalLauncher:
    """Trains the runs of one sweep; `run` returns when all have ended or a signal asked to stop."""

    def __init__(self, directory: Path, specs: Sequence[RunSpec], options: LocalOptions):
        self.sweep, self.options = SweepDirectory(directory), options
        self.complete: list[str] = []
        self.failed: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.stopped: list[str] = []
        complete = {spec.run_id for spec in specs if self.sweep.run(spec.run_id).is_complete()}
        self.skipped = [spec.run_id for spec in specs if spec.run_id in complete]
        self.todo = [spec for spec in specs if spec.run_id not in complete]
        self.names = {spec.run_id for spec in self.todo}
        self.sizes = PackSizes({})
        self._retries: dict[str, int] = {}
        self._alone: set[str] = set()
        self._starts: dict[int, int] = {}
        self._never_started = ""

    def _is_ready(self, spec: RunSpec) -> bool:
        """A branch is ready once its trunk's checkpoint is committed: Orbax renames it into place when whole. A later
        stage is once the run that it begins with is complete."""
        if spec.parent not in self.names:
            return True  # no trunk, or one that this launch does not train: the run itself says what it misses
        parent = self.sweep.run(spec.parent)
        return parent.checkpoint(spec.branch_at_tokens).exists() if spec.is_branch else parent.is_complete()

    def run(self) -> LaunchSummary:
        """Train everything that is not complete."""
        if self.todo:
            self.places = places(
                len(self.todo),
                self.options.workers,
                self.options.cores_per_worker,
                self.options.devices_per_worker or devices_of_a_run(self.todo),
            )
            for spec in self.todo:
                write_spec(self.sweep.run(spec.run_id).path, spec)
            self._choose_packs()
            self._train_all()
        return LaunchSummary(
            tuple(self.complete), tuple(self.skipped), self.failed, tuple(self.stopped), self.refused
        )

    def _choose_packs(self) -> None:
        """Decide how many runs of each shape go together, and say so."""
        log = self.sweep.workers / "packs.log"
        note = Progress([], 0).note
        self.sizes = choose_sizes(self.todo, self.options.pack, self.places, self.options.cache_root, log, note)
        for line in self.sizes.lines:
            note(line)

    def _most(self, spec: RunSpec) -> int:
        """The most runs of a pack with this one in it."""
        return 1 if spec.run_id in self._alone else self.sizes(spec)

    def _train_all(self) -> None:
        self.queue = RunQueue(self.todo, self._is_ready)
        self.selector = selectors.DefaultSelector()
        self.workers: dict[int, Worker] = {}
        told: set[Worker] = set()
        with stop.deferred():
            try:
                with Progress(self.todo, len(self.skipped)) as self.progress:
                    for index, place in enumerate(self.places):
                        if not stop.requested():
                            self._start_worker(index, place)
                    while self.workers:
                        for key, _ in self.selector.select(timeout=0.5):
                            self._handle(self.workers[key.data])
                        for worker in list(self.workers.values()):
                            if stop.requested() and worker not in told:
                                worker.process.terminate()
                                told.add(worker)
                            elif worker.waits_for_trunk:
                                self._assign(worker)
                        self.progress.refresh()
            finally:
                for worker in self.workers.values():
                    worker.process.terminate()
                self.selector.close()
            left = self.queue.waiting()
            if stop.requested():
                self.stopped += left
            else:
                self.failed |= dict.fromkeys(left, self._never_started)

    def _start_worker(self, index: int, place: Place) -> None:
        self.sweep.workers.mkdir(exist_ok=True)
        worker = Worker(index, place, self._log(index), self.options)
        self.workers[index] = worker
        self._starts[index] = self._starts.get(index, 0) + 1
        self.selector.register(worker.events, selectors.EVENT_READ, index)

    def _log(self, index: int) -> Path:
        """What a worker says on standard error."""
        return self.sweep.workers / f"{index}.log"

    def _handle(self, worker: Worker) -> None:
        events = worker.read_events()
        if events is None:
            self._bury(worker)
            return
        for event in events:
            spec = worker.runs.get(Path(event.get("run", "")).name)
            if event["event"] == "ready":
                worker.is_ready, self._starts[worker.index] = True, 0
            if event["event"] == "note":
                self.progress.note(event["message"])
                continue
            if event["event"] == "progress" and spec is not None:
                self.progress.update(spec, event["tokens"], event["loss"], event["tokens_per_second"])
            elif event["event"] == "end" and spec is not None:
                del worker.runs[spec.run_id]
                self._finish(spec, event["status"], event["message"])
            if not worker.runs:
                self._assign(worker)

    def _assign(self, worker: Worker) -> None:
        specs = [] if stop.requested() else self.queue.take_pack(worker.index, self._most)
        worker.waits_for_trunk = not specs and len(self.queue) > 0 and not stop.requested()
        if worker.waits_for_trunk:
            return
        if not specs:
            with contextlib.suppress(BrokenPipeError):
                worker.orders.close()
        else:
            for spec in specs:
                self.progress.start(spec, worker.place.name)
            worker.train(specs, self.sweep.path)

    def _finish(self, spec: RunSpec, status: int, message: str) -> None:
        if status == EXIT_COMPLETE:
            self.complete.append(spec.run_id)
        elif status == EXIT_STOPPED:
            self.stopped.append(spec.run_id)
        elif status == EXIT_BAD_INPUT:
            self.refused[spec.run_id] = message
        else:
            self.failed[spec.run_id] = message
        self.progress.finish(spec, status, message)
        if status != EXIT_COMPLETE:
            for follower in self.queue.drop_followers_of(spec.run_id):
                if not self._is_ready(follower):
                    begins = "its trunk" if follower.is_branch else "the run that it begins with,"
                    self._finish(follower, status, f"{begins} {spec.run_id} did not finish")
                else:
                    self.queue.put_back(follower)

    def _bury(self, worker: Worker) -> None:
        """A worker has ended; the runs it still had go back, or count as failed once they had their tries."""
        self.selector.unregister(worker.events)
        del self.workers[worker.index]
        cause = worker.cause_of_death()
        packed = len(worker.runs) > 1
        for spec in reversed(worker.runs.values()):
            if stop.requested():
                self._finish(spec, EXIT_STOPPED, cause)
            elif self._may_retry(spec, packed):
                self.progress.note(f"{spec.run_id}: {cause}; resuming it")
                self.queue.put_back(spec)
            else:
                cause = f"{cause}; its last words are in {self._log(worker.index)}: {worker.last_words()}"
                with contextlib.suppress(OSError):  # a full disk: it is said all the same
                    self.sweep.run(spec.run_id).write_error(cause)
                self._finish(spec, EXIT_FAILED, cause)
        if len(self.queue) and not stop.requested():
            self._start_again(worker)

    def _start_again(self, dead: Worker) -> None:
        """A worker in the place of a dead one, unless none comes to life there."""
        starts = self._starts[dead.index]
        if dead.is_ready or starts < STARTS:
            self._start_worker(dead.index, dead.place)
            return
        log = self._log(dead.index)
        self._never_started = (
            f"a worker was started {starts} times and never got ready: {dead.last_words()} ({log})"
        )
        self.progress.note(f"{dead.place.name}: {self._never_started}")

    def _may_retry(self, spec: RunSpec, packed: bool) -> bool:
        """Count a death of the run's worker; whether it is tried again, after its tries in a pack alone."""
        self._retries[spec.run_id] = self._retries.get(spec.run_id, 0) + 1
        if self._retries[spec.run_id] <= RETRIES:
            return True
        if packed:
            self._alone.add(spec.run_id)
            self._retries[spec.run_id] = 0
        return packed


def launch(directory: Path, specs: Sequence[RunSpec], options: LocalOptions) -> LaunchSummary:
    """Train every run of `specs` under `directory` that is not complete.

    Raises:
      BadInput: the folder cannot be written, another launcher holds it, a run directory holds another spec, or a run is
        held back until its forecast is written.
    """
    with sweep_lock(directory):
        launcher = LocalLauncher(directory, specs, options)
        check_order(directory, launcher.todo)
        voice.keep(SweepDirectory(directory).workers / "launcher.log")
        return launcher.run()


__all__ = ["LaunchSummary", "LocalLauncher", "LocalOptions", "launch"]
