"""Blocks of code in Markdown pages, and how their commands are run or, where that is too much, held to their flags.

A comment after a command, or above it, says what it takes, for the reader and for the tests alike:

    # ... 20 s, 6 minutes      how long: run at full size only (pytest -m long), and its flags are checked otherwise
    # ... (after CMD)          reads what a command of some duration wrote: run with it
    # ... (needs Slurm)        something that this machine may lack: its flags are checked, never run
"""

import dataclasses
import functools
import math
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.dropped import HALF_WRITTEN
from tests.support.small import ROOT, cache_folder, write_corpus

STORED = ROOT / "tests" / "stored"
ROOMS = ("analysis", "bench", "core", "data", "experiments", "launchers", "model", "planning", "training")
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.M | re.S)
DURATION = re.compile(r"\b(\d+) (s|minutes?)\b|\bminutes\b")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is to be saved as (or ""), its text, and where it stands."""

    language: str
    title: str
    text: str
    where: str


@dataclasses.dataclass(frozen=True)
class Command:
    """One line of a shell block, and the comment after it."""

    line: str
    comment: str

    @property
    def seconds(self) -> float:
        """How long it takes, as its comment says: 0 where it says nothing, infinite where it says only `minutes`."""
        said = DURATION.search(self.comment)
        if said is None:
            return 0.0
        return float("inf") if said[1] is None else float(said[1]) * (1 if said[2] == "s" else 60)

    @property
    def waits(self) -> bool:
        return "(after " in self.comment

    @property
    def needs(self) -> bool:
        return "(needs " in self.comment

    def runs(self, longest: float) -> bool:
        """Whether it is run where commands of up to `longest` seconds are; 0 for those that say no duration."""
        return not self.needs and self.seconds <= longest and not (self.waits and not longest)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            found[1], found[2] or "", found[3], f"{page.name}, line {text.count(chr(10), 0, found.start()) + 1}"
        )
        for found in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The lines of a shell block; a comment stands after its command, or on the lines above it."""
    found, above = [], ""
    for line in filter(None, block.text.splitlines()):
        if line.startswith("#"):
            above += line
        else:
            command, *after = re.split(r"\s+#\s", line, maxsplit=1)
            found.append(Command(command, " ".join([above, *after])))
            above = ""
    return found


def write_checkout(folder: Path, trained: Path | None) -> Path:
    """A copy of the code with what the pages take as given: my_text/, table.csv, and a sweep as runs/quickstart.

    Args:
      trained: a folder with a sweep in runs/, and with corpus/ where that is not pysource; None for no sweep.
    """
    checkout = folder / "checkout"
    for room in ROOMS:
        shutil.copytree(ROOT / room, checkout / room, ignore=HALF_WRITTEN)
    for name in ("launch.py", "Makefile", "requirements.txt", "requirements.lock", "requirements-dev.txt"):
        shutil.copy(ROOT / name, checkout)
    write_corpus(checkout / "my_text")
    write_table(checkout / "table.csv")
    cache_folder(checkout)
    if trained is not None:
        (sweep,) = (trained / "runs").iterdir()
        shutil.copytree(sweep, checkout / "runs" / "quickstart")
        if (trained / "corpus").exists():
            shutil.copytree(trained / "corpus", checkout / "corpus")
        for built in ("corpora", "tokens"):
            if (trained / "cache" / built).exists():
                (checkout / "cache" / built).symlink_to(trained / "cache" / built)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (programs / "python").chmod(0o755)
    return checkout


def write_table(path: Path) -> None:
    """A user's own table: 30 losses by the law of Besiroglu et al. 2024 (arXiv 2404.10102), with 0.3% of noise."""
    noise = random.Random(0)
    rows = ["params,tokens,loss"]
    for params in (1e8, 2e8, 5e8, 1e9, 2e9):
        for tokens in (1e9, 3e9, 1e10, 3e10, 1e11, 3e11):
            loss = (1.82 + 482 / params**0.348 + 2085 / tokens**0.366) * math.exp(noise.gauss(0, 0.003))
            rows.append(f"{params:.0f},{tokens:.0f},{loss:.5f}")
    path.write_text("\n".join(rows) + "\n")


def run(line: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    """A line as a user would type it, in the checkout."""
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line], cwd=checkout, env={**os.environ, "PATH": path, "COLUMNS": "200"},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip


def check(command: Command, checkout: Path, longest: float = 0) -> str:
    """What is wrong with a command that is not run where `longest` seconds are the limit; empty where nothing is."""
    words = shlex.split(command.line)
    while "=" in words[0]:
        words = words[1:]  # a variable of the environment
    if words[0] == "srun":
        words = words[words.index("python") :]
    match words:
        case ["make", target]:
            done = run(f"make -n {target}", checkout)
            return done.stderr if done.returncode else ""
        case ["pip", "install", "-r", name]:
            return "" if (checkout / name).exists() else f"no file {name}"
        case ["python", "-m", "pytest", *names]:
            return "".join(f"no file {name}" for name in names if not (ROOT / name).exists())
        case ["python", name] if name.endswith(".py"):
            return "" if (checkout / name).exists() else f"no file {name}"
        case ["python", "launch.py", "run" | "submit", *_] if longest or not command.waits:
            done = run(f"{shlex.join(words)} --dry-run", checkout)
            return done.stderr if done.returncode else ""
        case ["python", "launch.py", "plan", *flags] if "--budget" in flags or "--next" in flags:
            return _unknown(["launch.py", "plan", "--budget", "1"], flags, checkout)
        case ["python", "launch.py", verb, first, *flags] if not first.startswith("-") and "/" not in first:
            return _unknown(["launch.py", verb, first], flags, checkout)
        case ["python", "launch.py", verb, *flags]:
            return _unknown(["launch.py", verb], flags, checkout)
        case ["python", "-m", module, *flags]:
            return _unknown(["-m", module], flags, checkout)
    return f"no way to check {words[0]}"


@functools.cache
def _help(folder: Path, *program: str) -> str:
    command = [sys.executable, *program, "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


def _unknown(program: list[str], words: list[str], checkout: Path) -> str:
    """Flags among `words` that the program's --help does not have."""
    try:
        new = len(program) == 3 and not (ROOT / "experiments" / f"{program[2]}.py").exists()
        known = _help(checkout if new else ROOT, *program)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    flags = [word for word in words if word.startswith("--")]
    return "".join(f"{flag} is no flag of {program[-1]}; " for flag in flags if flag not in known)
