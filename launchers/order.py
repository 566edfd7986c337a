"""Runs that may start only after a forecast of them is written: who they are, and the refusal to start them earlier."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import canonical_sha256, read_json, write_json
from training.cost import parameter_count
from training.records import git_commit
from training.spec import RunSpec

HELD_BACK = "held_back.json"
FORECAST = Path("forecast") / "forecast.json"
ROOT = Path(__file__).resolve().parent.parent


def hold_back(directory: Path, specs: Iterable[RunSpec], names: Iterable[str]) -> None:
    """Put down which runs of a sweep are to be forecast; what is there already must say the same.

    Raises:
      BadInput: the sweep holds back other runs, or its folder cannot be written.
    """
    held = [spec for spec in specs if spec.run_id in set(names)]
    value = {
        "runs": [
            {"run": spec.run_id, "params": parameter_count(spec), "tokens": spec.tokens}
            for spec in held
            if not spec.is_trunk
        ],
        "trunks": [spec.run_id for spec in held if spec.is_trunk],
    }
    path = directory / HELD_BACK
    if path.exists():
        if read_json(path) != value:
            raise BadInput(f"{path}: holds back other runs than these arguments; take another --name")
        return
    try:
        write_json(path, value)
    except OSError as error:
        raise BadInput(f"{directory}: cannot be written ({error.strerror})") from None


def check_order(directory: Path, specs: Sequence[RunSpec]) -> None:
    """Refuse to start a held-back run whose forecast is not written.

    Raises:
      BadInput: there is no forecast, it was changed after it was written, or it is not about the run.
    """
    path = directory / HELD_BACK
    if not path.exists():
        return
    held = _names(read_json(path), path)
    waiting = [spec for spec in specs if spec.run_id in held]
    if not waiting:
        return
    first = waiting[0].run_id
    forecast = directory / FORECAST
    if not forecast.exists():
        raise BadInput(
            f"{first}: held back until {forecast} is written (python -m analysis.register {directory})"
        )
    value = read_json(forecast)
    if not isinstance(value, dict) or value.get("digest") != canonical_sha256(value, leave_out="digest"):
        raise BadInput(f"{forecast}: changed after it was written; {first} stays held back")
    about = {one.get("run") for one in value.get("runs", []) if isinstance(one, dict)}
    for spec in waiting:
        if not spec.is_trunk and spec.run_id not in about:
            raise BadInput(f"{forecast}: is not about {spec.run_id}, which stays held back")


def _names(value: Any, path: Path) -> set[str]:
    try:
        return {run["run"] for run in value["runs"]} | set(value["trunks"])
    except (KeyError, TypeError):
        raise BadInput(f"{path}: not a list of held-back runs") from None


def register(directory: Path) -> int:
    """Write the forecast, in a process of its own that takes no accelerator; its exit status."""
    command = [sys.executable, "-m", "analysis.register", str(directory.absolute())]
    return _python([*command, "--commit", git_commit() or ""])


def score(directory: Path) -> int:
    """Compare the forecast with what landed, and write the report with its figure; the first bad exit status."""
    folder = (directory / FORECAST).parent.absolute()
    about = json.loads((directory / FORECAST).read_bytes())["run"]
    scored = _python(
        [
            sys.executable, "-m", "analysis.score", str(folder / "forecast.json"), str(directory.absolute() / about),
            "--out", str(folder / "score.json"),
        ]
    )  # fmt: skip
    return scored or _python([sys.executable, "-m", "analysis.report", str(directory.absolute())])


def _python(command: list[str]) -> int:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False).returncode
