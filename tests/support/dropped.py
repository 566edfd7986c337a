"""A copy of the code into which one file is dropped, and what happens when runs are trained with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.small import ROOT, cache_folder, write_corpus

WAYS = ("whole", "resumed", "packed", "packed_resumed")
ROOMS = ("core", "data", "model", "training", "experiments")

# Trains the run of its first argument, a RunSpec as JSON, alone, stopped and resumed, and as a pack with another seed.
PROGRAM = """
import dataclasses, json, sys
from pathlib import Path
from core.codec import from_json, to_json
from core.files import write_json
from core.rundir import RunDirectory
from training.execute import execute
from training.execution import Execution
from training.spec import RunSpec

spec = from_json(RunSpec, json.loads(sys.argv[1]))
specs = [spec, dataclasses.replace(spec, seed=spec.seed + 1)]

class StopAfter:
    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left == 0

def train(sweep, specs, *stops):
    paths = [Path(sweep) / one.run_id for one in specs]
    for one, path in zip(specs, paths):
        write_json(RunDirectory(path).spec, to_json(one))
    statuses = []
    for steps in (*stops, 0):
        outcomes = execute(paths, Execution(cache_root=Path("cache"), stop_requested=StopAfter(steps)))
        assert all(outcome.status in (0, 75) for outcome in outcomes.values()), outcomes
        statuses.append([outcome.status for outcome in outcomes.values()])
    runs = [RunDirectory(path) for path in paths]
    rows = [{row["tokens"]: [row["loss"], row["grad_norm"]] for row in run.read_metrics()[0]} for run in runs]
    return {"statuses": statuses, "rows": [list(own.values()) for own in rows],
            "evals": [run.read_result()["evals"] for run in runs], "run": specs[0].run_id}

ways = {"whole": specs[:1], "resumed": specs[:1], "packed": specs, "packed_resumed": specs}
print(json.dumps({
    way: train(way, ways[way], *([7] if way.endswith("resumed") else [])) for way in sys.argv[2:]
}))
"""

# The bytecode goes with the code: its compilation is a second of each copy's first process.
HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")


def write_copy(folder: Path, path: str, text: str) -> Path:
    """The code as it is, with one new file; a corpus beside it."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=HALF_WRITTEN)
    (folder / path).write_text(text)
    write_corpus(folder / "corpus", documents=60)
    cache_folder(folder)
    return folder


def call(copy: Path, program: str, *arguments: str) -> Any:
    """What a Python program prints in the copy, as JSON; on two devices."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environment.pop("PYTHONPATH", None)  # the copy's own files
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def small_run(copy: Path, **changes: Any) -> dict[str, Any]:
    """A RunSpec of 20 steps on the corpus of the copy, with these fields."""
    return {
        "model": {"width": 16, "depth": 1, "heads": 1, "kv_heads": 1, "scan": False},
        "data": {"corpus": f"text:{copy / 'corpus'}", "sequence_length": 32, "validation_tokens": 1024},
        "tokens": 20 * 256,
        "batch_tokens": 256,
        **changes,
    }


def train_everywhere(copy: Path, ways: tuple[str, ...] = WAYS, **changes: Any) -> dict[str, Any]:
    """Numbers of `small_run`, by how it was trained."""
    return call(copy, PROGRAM, json.dumps(small_run(copy, **changes)), *ways)


def assert_trains_resumes_and_packs(numbers: dict[str, Any], relative: float = 1e-4) -> None:
    """The loss falls; a stop changes no bit; a pack changes the last bits only."""
    assert numbers["resumed"]["statuses"] == [[75], [0]]
    assert numbers["packed_resumed"]["statuses"] == [[75, 75], [0, 0]]
    for whole, resumed in (("whole", "resumed"), ("packed", "packed_resumed")):
        for key in ("rows", "evals"):
            assert numbers[whole][key] == numbers[resumed][key]
    (alone,), (packed, other) = numbers["whole"]["rows"], numbers["packed"]["rows"]
    assert len(alone) == 20
    assert alone[-1][0] < alone[0][0]
    assert [loss for loss, _ in packed] == pytest.approx([loss for loss, _ in alone], rel=relative)
    assert other != packed
