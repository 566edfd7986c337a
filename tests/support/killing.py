"""kill -9 of a run, a worker, the launcher or all of them, or SIGTERM to it, at random moments over a sweep."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from core.files import read_json_lines
from tests.support.small import ROOT, final_evals, run_launch


def start(command: list[str], sweep: Path) -> subprocess.Popen:
    """Start a launcher or a run; everything below it can be found again by the sweep."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TEST_SWEEP": str(sweep)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def workers(sweep: Path) -> list[int]:
    """Worker processes of launchers that `start` has started for this sweep."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"training.worker" in command and f"TEST_SWEEP={sweep}\0".encode() in environment:
                found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_everything(process: subprocess.Popen, sweep: Path) -> None:
    """kill -9 the launcher and every process that works in `sweep`."""
    process.kill()
    kill(workers(sweep))
    process.wait()


def on_one_core() -> None:
    """As the launcher's workers run: sums of one thread and of several differ in the last bit."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def logged(path: Path) -> dict:
    """Rows of a log by (tokens, name), the last attempt's where there are several."""
    return {(row["tokens"], row.get("name")): row for row in read_json_lines(path)}


def assert_same_runs(sweep: Path, reference: Path) -> None:
    """Every final number equal to the last bit, every logged value present once per attempt and equal."""
    assert final_evals(sweep) == final_evals(reference)
    for directory in sorted(path.parent for path in reference.glob("*/spec.json")):
        for name in ("metrics.jsonl", "evals.jsonl"):
            mine, theirs = logged(sweep / directory.name / name), logged(directory / name)
            assert mine.keys() == theirs.keys()
            for key, row in theirs.items():
                for field in ("loss", "value", "lr", "grad_norm", "stderr", "n", "flops"):
                    assert mine[key].get(field) == row.get(field), (directory.name, name, key, field)
            rows = [
                (row["tokens"], row.get("name"), row["attempt"])
                for row in read_json_lines(sweep / directory.name / name)
            ]
            assert max(Counter(rows).values()) == 1


def hears_signals(status: int) -> bool:
    """Whether a process that was sent SIGTERM had come as far as to hear it."""
    return status != -signal.SIGTERM


def unfinished(sweep: Path) -> list[Path]:
    """Run directories that were begun and are not complete."""
    begun = sorted(path.parent for path in sweep.glob("*/env.json"))
    return [directory for directory in begun if not (directory / "result.json").exists()]


class Killer:
    """Launches a sweep again and again and kills some of it at a random moment each time.

    Args:
      command: the launcher's command line.
      sweep: the folder that it fills.
      cache: as the command names it.
      runs: how many runs the sweep has.
      seed: of the moments and of the victims.
      longest: seconds until it is killed, at most.
    """

    def __init__(
        self, command: list[str], sweep: Path, cache: Path, runs: int, seed: int, longest: float = 4.0
    ):
        self.longest = longest
        self.command, self.sweep, self.cache, self.runs = command, sweep, cache, runs
        self.random = random.Random(seed)
        self.finished: dict[Path, int] = {}
        self.launcher: subprocess.Popen | None = None
        self.killed: Counter[str] = Counter()
        self.completed = 0
        self.victims: dict[str, Callable[[], bool]] = {
            "worker": self.kill_a_worker,
            "launcher": self.kill_the_launcher,
            "everything": self.kill_all,
            "run": self.kill_a_run,
            "asked": self.ask_the_launcher_to_stop,
        }

    def kill_a_worker(self) -> bool:
        alive = workers(self.sweep)
        if alive:
            kill([self.random.choice(alive)])
        return bool(alive)

    def kill_the_launcher(self) -> bool:
        """Its workers are orphans now: they save and end, maybe while the next launcher starts already."""
        assert self.launcher is not None
        alive = self.launcher.poll() is None
        self.launcher.kill()
        self.launcher.wait()
        return alive

    def kill_all(self) -> bool:
        assert self.launcher is not None
        alive = self.launcher.poll() is None
        kill_everything(self.launcher, self.sweep)
        return alive

    def kill_a_run(self) -> bool:
        """A run by its own command, while no launcher is there."""
        self.kill_all()
        candidates = unfinished(self.sweep)
        if not candidates:
            return False
        directory = self.random.choice(candidates)
        words = ["-m", "training.run", str(directory), "--cache", str(self.cache), "--cores", "1"]
        process = start([sys.executable, *words, "--checkpoint-seconds", "0.2"], self.sweep)
        time.sleep(self.random.uniform(0.5, 4.0))
        alive = process.poll() is None
        process.kill()
        process.wait()
        return alive

    def ask_the_launcher_to_stop(self) -> bool:
        """SIGTERM, sometimes twice: 75 whenever runs are left, and no complete run is taken for one that is left."""
        assert self.launcher is not None
        alive = self.launcher.poll() is None
        for _ in range(self.random.choice([1, 1, 2])):
            self.launcher.terminate()
            time.sleep(0.2)
        status = self.launcher.wait(timeout=300)
        if alive and not hears_signals(status):
            return False  # it came before the interpreter ran its first line
        if alive:
            complete = len(list(self.sweep.glob("*/result.json")))
            assert status == 75 if complete < self.runs else status in (0, 75), (status, complete)
        return alive

    def check(self) -> None:
        """Finished runs are as they were when they were first seen."""
        for path, changed in self.finished.items():
            assert path.stat().st_mtime_ns == changed, f"{path} of a finished run was touched"
        self.finished = {path: path.stat().st_mtime_ns for path in self.sweep.glob("*/result.json")}

    def once(self, victim: str, reference: Path) -> None:
        """Let it work for a while, kill, look; begin the sweep again where it is done."""
        if self.launcher is None or self.launcher.poll() is not None:
            self.launcher = start(self.command, self.sweep)
        time.sleep(self.random.uniform(0.2, self.longest))
        self.killed[victim] += self.victims[victim]()
        self.check()
        if len(self.finished) == self.runs:
            kill_everything(self.launcher, self.sweep)
            assert_same_runs(self.sweep, reference)
            self.completed += 1
            self.finished = {}
            shutil.rmtree(self.sweep)

    def end(self, reference: Path) -> None:
        """Nothing is killed any more: the same command ends the sweep, with the numbers of the undisturbed one."""
        if self.launcher is not None:
            kill_everything(self.launcher, self.sweep)
        done = run_launch(self.command)
        assert done.returncode == 0, done.stderr
        self.check()
        assert_same_runs(self.sweep, reference)
        self.completed += 1
