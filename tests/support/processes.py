"""Start `training.run` as several processes on this machine, for tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.small import ROOT

# As `python -m training.run`, but that a process is lost after the seconds of its first argument, and that it is asked
# to stop after as many steps as its second says (0: never).
PROGRAM = """
import sys
from core import stop
from training import run
from training.processes import distributed

distributed.SILENCE_SECONDS = float(sys.argv.pop(1))
steps = int(sys.argv.pop(1))

class Stop:
    asked = 0

    def __call__(self):
        self.asked += 1
        return stop.requested() or self.asked == steps

execution_of = run.Arguments.execution
run.Arguments.execution = lambda options, _, report: execution_of(options, Stop(), report)
stop.listen(75, resumes=True)
sys.exit(run.main())
"""


def environment(devices: int) -> dict[str, str]:
    """Of a process that sees `devices` fake CPU devices, and no cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {
        **kept,
        "JAX_PLATFORMS": "cpu",
        # Compiling takes most of a small run's time, and quick code is not what these tests are about. A busy machine
        # may keep one fake device's thread waiting for longer than the 40 seconds after which XLA ends the process.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0 "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        "PYTHONPATH": str(ROOT),
    }


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start(
    directory: Path,
    cache: Path,
    *arguments: str,
    processes: int = 1,
    devices: int = 1,
    mesh: Sequence[str] = ("",),
    silence_seconds: float = 60.0,
    stop_after: int = 0,
) -> list[subprocess.Popen]:
    """The processes of one run; a single one is started without a coordinator.

    Args:
      devices: fake devices of each process.
      silence_seconds: after which a process is lost.
      stop_after: steps after which the run is asked to stop; 0 for never.
      mesh: --mesh of each process, the last one of all further ones.
    """
    port = free_port()
    started = []
    for index in range(processes):
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            str(silence_seconds),
            str(stop_after),
            str(directory),
            "--cache",
            str(cache),
            *arguments,
        ]
        command += ["--mesh", mesh[min(index, len(mesh) - 1)]]
        if processes > 1:
            command += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
            command += ["--process-index", str(index)]
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(devices),
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        )
    return started


def ends(started: Sequence[subprocess.Popen], timeout: float = 400) -> list[tuple[int, str]]:
    """(exit status, standard error) of each, once all have ended; none is left behind."""
    try:
        said = [process.communicate(timeout=timeout)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def wait_until(
    condition: Callable[[], bool], started: Sequence[subprocess.Popen], timeout: float = 300
) -> None:
    """Until the condition holds; fails where a process ends first, or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        if any(process.poll() is not None for process in started):
            raise AssertionError(ends(started, 30))
        time.sleep(0.02)
