"""A real Slurm on the loopback address for one test module, and what can happen to it."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


class Cluster:
    """Three nodes n1, n2, n3 of four cores each; partitions main, grace, abrupt (preempted) and urgent (preempts)."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {**os.environ, "SLURM_CONF": str(root / "etc" / "slurm.conf")}

    def command(self, *words: str, check: bool = True, timeout: float = 60) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )
        assert not check or done.returncode == 0, (words, done.stderr)
        return done.stdout

    def queue(self) -> list[tuple[str, str, str]]:
        """(job_element, state, node) of everything that Slurm has."""
        lines = self.command("squeue", "--noheader", "--array", "--format=%F_%K|%T|%N").splitlines()
        return [tuple(line.split("|")) for line in lines]  # type: ignore[misc]

    def until(self, what: Callable[[], object], seconds: float = 1200, every: float = 0.3) -> None:
        """Wait until `what()` is true; a wait that was in vain shows what Slurm was doing."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                log = (self.root / "log" / "slurmctld.log").read_text().splitlines()[-40:]
                queue = self.command("squeue", check=False)
                raise AssertionError("\n".join([f"not within {seconds} seconds", queue, *log]))
            time.sleep(every)

    def holds(self, job: str) -> bool:
        """Whether Slurm still has an element of this array."""
        return any(element.startswith(f"{job}_") for element, _, _ in self.queue())

    def answers(self) -> bool:
        """Whether the controller answers."""
        done = subprocess.run(["squeue"], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def urgent(self, node: str, seconds: int = 1) -> None:
        """A job that takes all of a node and sends away what may be preempted there."""
        wrap = f"sleep {seconds}"
        self.command("sbatch", "-p", "urgent", "-w", node, "-c", "4", "-o", "/dev/null", "--wrap", wrap)

    def kill_node(self, node: str) -> None:
        """The node loses power: its daemon and everything that ran on it are gone without a word."""
        daemon = int((self.root / "run" / f"slurmd.{node}.pid").read_text())
        steps = [pid for pid, words in processes() if words.startswith("slurmstepd:")]
        jobs = {element.partition("_")[0]: None for element, _, where in self.queue() if where == node}
        raw = {line.split()[0] for line in self.command("squeue", "-h", "-w", node, "-o", "%A").splitlines()}
        mine = [pid for pid in steps if any(f"[{job}." in command_line(pid) for job in (*jobs, *raw))]
        doomed = [child for pid in mine for child in descendants(pid)] + mine + [daemon]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        (self.root / "run" / f"slurmd.{node}.pid").unlink()

    def start_node(self, node: str) -> None:
        subprocess.run(["slurmd", "-N", node], env=self.environment, check=True)

    def restart_controller(self) -> None:
        """kill -9 of slurmctld, three seconds without one, and a new one that reads the old one's state."""
        path = self.root / "run" / "slurmctld.pid"
        os.kill(int(path.read_text()), signal.SIGKILL)
        time.sleep(3)
        path.unlink(missing_ok=True)
        subprocess.run(["slurmctld"], env=self.environment, check=True)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processes() -> list[tuple[int, str]]:
    return [
        (int(entry.name), command_line(int(entry.name)))
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    ]


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, deepest last."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found += [int(entry.name), *descendants(int(entry.name))]
    return found


def trainers(directory: Path) -> list[int]:
    """The processes that train a run directory, alone or in a pack, without the srun that has started them."""
    return [
        pid
        for pid, line in processes()
        if f" {directory} " in line
        and ("-m training.run " in line or "-m training.pack " in line)
        and not line.startswith("srun")
    ]


def hold(pids: list[int]) -> None:
    """Suspend processes, so that however fast the machine is, they are still at work when something happens to them."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def is_told(pid: int) -> bool:
    """Whether a suspended process has a SIGTERM to answer, was woken up, or is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    pending = int(fields["ShdPnd"], 16) | int(fields["SigPnd"], 16)
    return not fields["State"].startswith("T") or bool(pending & 1 << (signal.SIGTERM - 1))


def let_go(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def running_cluster(*, sacct: bool) -> Iterator[Cluster]:
    """Bring a cluster up, and down again however the block ends."""
    # Not below pytest's folder: munged wants a socket that every user may reach.
    with tempfile.TemporaryDirectory(prefix="slurm-test-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        # One with accounting comes up beside one without: it has ports of its own.
        more = {"SACCT": "1", "SLURM_TEST_PORT": "27917"} if sacct else {"SACCT": "0"}
        environment = {**os.environ, "SLURM_TEST_DIR": str(root), **more}
        try:
            subprocess.run(["bash", str(FOLDER / "up.sh")], env=environment, check=True, timeout=300)
            yield Cluster(root)
        finally:
            subprocess.run(["bash", str(FOLDER / "down.sh")], env=environment, check=True, timeout=180)
