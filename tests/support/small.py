"""A small corpus and small sweeps for tests that train for real."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

WORDS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "law",
    "loss",
    "token",
    "size",
    "width",
    "depth",
    "grid",
    "curve",
    "scale",
)


def write_corpus(folder: Path, documents: int = 400, seed: int = 0) -> Path:
    """Text files of random words with some structure to learn: folder/*.txt, about 1,000 bytes each."""
    generator = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        lines = [
            " ".join(generator.choice(WORDS) for _ in range(8)) + f" = {generator.randrange(100)}"
            for _ in range(20)
        ]
        (folder / f"{number:04}.txt").write_text(f"document {number}\n" + "\n".join(lines) + "\n")
    return folder


def cache_folder(folder: Path) -> Path:
    """folder/cache, as --cache takes it; what is compiled into it is shared with all tests (see tests/conftest.py)."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "xla").symlink_to(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).parent)
    return cache


def launch_command(corpus: Path, runs: Path, cache: Path, *arguments: str, verb: str = "run") -> list[str]:
    """The command line of a small quickstart on `corpus`."""
    return [
        sys.executable,
        "launch.py",
        verb,
        "quickstart",
        *([] if "--name" in arguments else ["--name", "quickstart"]),
        "--corpus",
        f"text:{corpus}",
        "--runs",
        str(runs),
        "--cache",
        str(cache),
        "--set",
        "data.validation_tokens=8192",
        *arguments,
    ]


def run_launch(*arguments: Any, timeout: float = 900, **keywords: Any) -> subprocess.CompletedProcess:
    """Run a launch command to its end from the project's root."""
    return subprocess.run(
        *arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, **keywords
    )


def final_evals(sweep: Path) -> dict[str, dict[str, float]]:
    """Evals of every complete run of a sweep, by run_id."""
    return {
        path.parent.name: json.loads(path.read_text())["evals"] for path in sorted(sweep.glob("*/result.json"))
    }
