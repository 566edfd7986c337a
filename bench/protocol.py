"""How `bench.speed` talks to a peer: one JSON object a line on standard input, one JSON answer a line back.

Commands: {"do": "prepare", "model": {...}, "batch": B, "sequence": T, "parameters": PATH.npz} answers
{"loss", "seconds", "versions"}: the loss before the first step and the seconds until it was known. {"do": "steps",
"count": n} answers {"wall", "cpu", "faults"} for n training steps on fresh batches, to the end of the last: seconds of
clock, seconds of this process's cores, and pages of memory that the process met for the first time. Commands that only
one peer knows are described there. Nothing here may import JAX or PyTorch: either peer runs without the other.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SEED = 0
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.95)
EPSILON = 1e-8
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0


def batches(vocabulary: int, batch: int, sequence: int) -> list[np.ndarray]:
    """A few int32 (B, T + 1) batches of random tokens, the same for every peer."""
    generator = np.random.default_rng(SEED)
    return [generator.integers(0, vocabulary, (batch, sequence + 1)).astype(np.int32) for _ in range(8)]


class Stopwatch:
    """Seconds and page faults since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.faults = time.perf_counter(), time.process_time(), _faults()

    def read(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"wall": wall, "cpu": cpu, "faults": _faults() - self.faults}


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def serve(commands: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer commands until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = commands[request.pop("do")](**request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
