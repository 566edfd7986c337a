"""Signals to a command at its earliest: it is known when it hears them."""

import signal
import subprocess
import time
from pathlib import Path


def deaf() -> None:
    """For a child process: Ctrl-C is ignored until the command takes it over, so that `hears` can tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def hears(process: subprocess.Popen) -> bool:
    """Whether a command that began `deaf` listens to Ctrl-C by now, or has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return True
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")), 0)
    return bool(caught >> (signal.SIGINT - 1) & 1) or process.poll() is not None


def wait_until_it_hears(process: subprocess.Popen, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not hears(process):
        assert time.monotonic() < deadline, f"process {process.pid} never listened"
        time.sleep(0.005)
