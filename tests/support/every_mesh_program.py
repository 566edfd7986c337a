"""Run as its own process with 8 fake devices: a short run of every architecture on one device and cut over meshes.

    python -m tests.support.every_mesh_program FOLDER CORPUS CACHE NAME...

Prints one JSON object: for each architecture and mesh the losses of its steps.
"""

import json
import sys
from pathlib import Path

from core.codec import to_json
from core.files import write_json
from core.rundir import RunDirectory
from data.config import DataConfig
from tests.support import architectures
from training.execute import execute
from training.execution import Execution

MESHES = (
    "data=1,fsdp=1,tensor=1",
    "data=8,fsdp=1,tensor=1",
    "data=1,fsdp=4,tensor=2",
    "data=2,fsdp=2,tensor=2",
)


def losses(name: str, mesh: str, folder: Path, corpus: Path, cache: Path) -> list[float]:
    data = DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024)
    spec = architectures.spec(name, data, steps=6, depth=2, scan=True)
    directory = folder / mesh / spec.run_id
    write_json(directory / "spec.json", to_json(spec))
    outcome = execute([directory], Execution(cache_root=cache, mesh=mesh))[directory]
    assert outcome.status == 0, outcome
    rows = RunDirectory(directory).read_metrics()[0]
    return [row["loss"] for row in rows] + [row["grad_norm"] for row in rows]


def main() -> None:
    folder, corpus, cache = map(Path, sys.argv[1:4])
    found = {
        name: {mesh: losses(name, mesh, folder, corpus, cache) for mesh in MESHES} for name in sys.argv[4:]
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
