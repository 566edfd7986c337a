"""Slurm's commands in memory: what `launchers` asks of sbatch, squeue, scancel and scontrol, answered as Slurm does."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest


@dataclasses.dataclass
class Job:
    """An array: its folder, the job elements that it waits for, and the state of each element that is still queued."""

    number: int
    folder: Path
    after: tuple[str, ...]
    elements: dict[int, str]


class FakeSlurm:
    """A queue; a test moves it with `start`, `requeue` and `end`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.jobs: dict[int, Job] = {}
        self.commands: list[list[str]] = []
        for module in ("launchers.slurm.submit", "launchers.slurm.queue"):
            monkeypatch.setattr(f"{module}.slurm_command", self)
        monkeypatch.setattr("launchers.slurm.submit.require_slurm", lambda: None)

    def __call__(self, command: Sequence[str], cwd: Path | None = None) -> str:
        self.commands.append(list(command))
        return {
            "sbatch": self._sbatch,
            "squeue": self._squeue,
            "scancel": self._scancel,
            "scontrol": self._scontrol,
        }[command[0]](command[1:], cwd)

    def _sbatch(self, words: Sequence[str], cwd: Path | None) -> str:
        assert cwd is not None
        script = (cwd / words[-1]).read_text()
        match = re.search(r"^#SBATCH --array=0-(\d+)(%\d+)?$", script, flags=re.M)
        assert match is not None
        waits = [word.removeprefix("--dependency=afterany:") for word in words if word.startswith("--dep")]
        number = len(self.jobs) + 40
        elements = dict.fromkeys(range(int(match[1]) + 1), "PENDING")
        self.jobs[number] = Job(number, cwd, tuple(waits[0].split(":")) if waits else (), elements)
        return f"{number}\n"

    def _squeue(self, words: Sequence[str], cwd: Path | None) -> str:
        assert words[-1] == "--format=%F|%K|%T|%r|%Z"
        return "".join(
            f"{job.number}|{index}|{state}|None|{job.folder}\n"
            for job in self.jobs.values()
            for index, state in job.elements.items()
        )

    def _scancel(self, words: Sequence[str], cwd: Path | None) -> str:
        for word in words:
            if word.isdigit():
                job = self.jobs[int(word)]
                job.elements = {
                    index: state
                    for index, state in job.elements.items()
                    if "--state=PENDING" in words and state != "PENDING"
                }
        return ""

    def _scontrol(self, words: Sequence[str], cwd: Path | None) -> str:
        return "MaxArraySize            = 1001\n"

    def is_live(self, name: str) -> bool:
        """Whether a job (40) or an element of one (40_3) is still queued."""
        number, _, index = name.partition("_")
        elements = self.jobs[int(number)].elements
        return int(index) in elements if index else bool(elements)

    def startable(self) -> list[tuple[Job, int]]:
        """Waiting elements whose dependencies have all ended."""
        return [
            (job, index)
            for job in self.jobs.values()
            if not any(self.is_live(name) for name in job.after)
            for index, state in job.elements.items()
            if state == "PENDING"
        ]
