"""Runs that may start only after a forecast of them is written: who they are, and the refusal to start them earlier."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from core import voice
from core.errors import BadInput, writes
from core.files import canonical_sha256, read_json
from core.reading import path_exists
from core.records import HeldBack, HeldBackRun
from core.rundir import SweepDirectory
from training.cost import parameter_count
from training.records import git_commit
from training.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent


def hold_back(directory: Path, specs: Iterable[RunSpec], names: Iterable[str]) -> None:
    """Put down which runs of a sweep are to be forecast; what is there already must say the same.

    A sweep has one forecast. Runs that are asked for after it was written, such as another seed of the size that it is
    about, are no part of it and wait for nothing. Before it is written, the list may still grow or shrink, as long as
    no run of it has started.

    Raises:
      BadInput: the sweep holds back other runs that have started, or its folder cannot be written.
    """
    held = [spec for spec in specs if spec.run_id in set(names)]
    value: HeldBack = {
        "runs": [_entry(spec) for spec in held if not spec.is_trunk],
        "trunks": [spec.run_id for spec in held if spec.is_trunk],
    }
    sweep = SweepDirectory(directory)
    if path_exists(sweep.held_back):
        if path_exists(sweep.forecast) or read_json(sweep.held_back) == value:
            return
        if any(sweep.run(spec.run_id).environment.exists() for spec in held):
            raise BadInput(
                f"{sweep.held_back}: holds back other runs than these arguments; take another --name"
            )
    with writes(directory):
        sweep.write_held_back(value)


def _entry(spec: RunSpec) -> HeldBackRun:
    entry: HeldBackRun = {"run": spec.run_id, "params": parameter_count(spec), "tokens": spec.tokens}
    if spec.data.mixture:
        entry["mixture"] = spec.data.mixture
    return entry


def check_order(directory: Path, specs: Sequence[RunSpec]) -> None:
    """Refuse to start a held-back run whose forecast is not written.

    Raises:
      BadInput: there is no forecast, it was changed after it was written, or it is not about the run.
    """
    sweep = SweepDirectory(directory)
    if not path_exists(sweep.held_back):
        return
    held_back = sweep.read_held_back()
    held = {run["run"] for run in held_back["runs"]} | set(held_back["trunks"])
    waiting = [spec for spec in specs if spec.run_id in held]
    if not waiting:
        return
    first = waiting[0].run_id
    if not sweep.forecast.exists():
        raise BadInput(
            f"{first}: held back until {sweep.forecast} is written (python -m analysis.register {directory})"
        )
    value = read_json(sweep.forecast)
    if not isinstance(value, dict) or value.get("digest") != canonical_sha256(value, leave_out="digest"):
        raise BadInput(f"{sweep.forecast}: changed after it was written; {first} stays held back")
    runs = value.get("runs")
    about = [one.get("run") for one in runs if isinstance(one, dict)] if isinstance(runs, list) else []
    for spec in waiting:
        if not spec.is_trunk and spec.run_id not in about:
            raise BadInput(f"{sweep.forecast}: is not about {spec.run_id}, which stays held back")


def register(directory: Path) -> int:
    """Write the forecast; its exit status."""
    return _fit("analysis.register", str(directory.absolute()), "--commit", git_commit() or "")


def score(directory: Path) -> int:
    """Compare the forecast with what landed, and write the report with its figure; the first bad exit status.

    Raises:
      BadInput: the forecast or the run that it is about cannot be read.
    """
    from analysis.forecast.score import read_forecast, score_run  # loads polars, which no other order needs

    sweep = SweepDirectory(directory.absolute())
    forecast, _ = read_forecast(sweep.forecast)
    sys.stdout.write(score_run(sweep.forecast, sweep.run(forecast["run"]).path, sweep.forecast_score))
    return _fit("analysis.report", str(sweep.path))


def _fit(*arguments: str) -> int:
    # In a process of its own. Fits run on JAX, which must leave the accelerators to the workers; to tell it so takes
    # an environment that the workers, started from here later, must not have. And its memory goes back at the end.
    sys.stdout.flush()
    command = [sys.executable, "-m", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, stderr=voice.terminal(), check=False).returncode
