"""`python launch.py bench --start`: seconds from starting a run to its first step, and what a checkpoint costs.

Everything is timed from outside on `python -m training.run` as a user starts it: a cold start compiles, a warm one
finds the programs of the run before in the cache folder. The cost of checkpoints is that of two long runs in turn,
one that saves every few seconds and one that saves at its end alone, as seconds for each save.
"""

import dataclasses
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.side import ROOT, Bench, environment_of
from core.rundir import RunDirectory
from data.config import DataConfig
from model.ledger import ledger
from training.records import write_spec
from training.spec import RunSpec

FEW_STEPS = 8  # of a run that is timed to its first
SAVE_SECONDS = 5.0  # between saves of the run that saves
SAVES = 4  # of that run, besides the one at its end
NEVER = 1e9  # seconds between saves
MINUTE = 60.0
POLL_SECONDS = 0.005


def measure_all(options: Bench, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every size, reported as it is done."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.jsonl"
        write_words(text)
        for size in options.sizes:
            rows.append(measure(options, size, Path(folder), text))
            report(sentence(rows[-1]))
    return rows


def write_words(path: Path) -> None:
    """Words enough for every run here: what they learn does not matter."""
    lines = (
        '{"text": "' + f"line {number} of a text that is only read " * 20 + '"}' for number in range(5_000)
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(options: Bench, size: str, folder: Path, text: Path) -> dict[str, Any]:
    """Every number of one size."""
    sequence, batch_tokens = options.shape(size)
    spec = RunSpec(
        model=options.model(size),
        data=DataConfig(corpus=f"text:{text}", sequence_length=sequence, validation_tokens=sequence),
        tokens=FEW_STEPS * batch_tokens,
        batch_tokens=batch_tokens,
    )
    home = folder / size

    def timed(name: str, spec: RunSpec, save_seconds: float = NEVER) -> Timed:
        return train(options, spec, home / name, folder / "cache", save_seconds)

    timed("data", spec_of_data(spec))  # reads the text into the token cache, which is no part of a start
    cold = timed("cold", spec)
    warm = [timed(f"warm{number}", spec) for number in range(options.rounds)]
    step_seconds = statistics.median(run.training / (FEW_STEPS - 1) for run in warm)
    steps = max(2 * FEW_STEPS, math.ceil(SAVES * SAVE_SECONDS / step_seconds))
    long = dataclasses.replace(spec, tokens=steps * batch_tokens)
    costs = []
    for number in range(options.rounds):
        saving = timed(f"saving{number}", long, SAVE_SECONDS)
        plain = timed(f"plain{number}", long)
        costs.append((saving.training - plain.training) / max(1, saving.training // SAVE_SECONDS))
    cost = statistics.median(costs)
    return {
        "size": size,
        "params": ledger(spec.model, sequence)["params"]["total"],
        "model": dataclasses.asdict(spec.model),
        "first_step_seconds": {"cold": cold.first, "warm": statistics.median(run.first for run in warm)},
        "rounds": {"warm": [run.first for run in warm], "seconds_per_save": costs},
        "seconds_per_save": cost,
        "share_at_one_save_a_minute": cost / MINUTE,
    }


def spec_of_data(spec: RunSpec) -> RunSpec:
    """The smallest run that reads the same text."""
    network = dataclasses.replace(spec.model, width=16, depth=1, heads=1, kv_heads=1)
    return dataclasses.replace(spec, model=network)


@dataclasses.dataclass(frozen=True)
class Timed:
    """Seconds of one run: from its start to the row of its first step, and from there to the row of its last."""

    first: float
    training: float


def train(options: Bench, spec: RunSpec, home: Path, cache: Path, save_seconds: float) -> Timed:
    """One run as a process of its own, timed by what it writes.

    A row is written when the step after it has been sent to the device, so `first` holds up to one step more.

    Raises:
      RuntimeError: it did not end well; its own message is in the error.
    """
    run = RunDirectory(home / spec.run_id)
    run.path.mkdir(parents=True)
    write_spec(run.path, spec)
    log = run.metrics
    command = [sys.executable, "-m", "training.run", str(run.path), "--cache", str(cache)]
    if options.threads:
        command += ["--cores", str(options.threads)]
    began, first = time.time(), math.nan
    process = subprocess.Popen(
        [*command, "--checkpoint-seconds", str(save_seconds)],
        cwd=ROOT,
        env=environment_of(options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    while math.isnan(first) and process.poll() is None:
        if log.exists() and log.stat().st_size:
            first = time.time()
        time.sleep(POLL_SECONDS)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[-500:]}")
    return Timed(first - began, log.stat().st_mtime - first)


def sentence(row: dict[str, Any]) -> str:
    """One size in one line."""
    cold, warm = row["first_step_seconds"]["cold"], row["first_step_seconds"]["warm"]
    return (
        f"{row['size']:>5} {row['params']:>11,} params | first step {cold:.1f} s cold, {warm:.1f} s warm"
        f" | a checkpoint costs {row['seconds_per_save']:.2f} s,"
        f" {row['share_at_one_save_a_minute']:.2%} at one a minute"
    )
