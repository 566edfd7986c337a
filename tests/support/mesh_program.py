"""Run as its own process with 8 fake devices: what the compiled train step does and holds on every mesh.

Prints one JSON object: for each mesh (data, fsdp, tensor) the losses of 50 steps, bytes of the step's arguments on one
device and how many of them its outputs reuse, and the sizes of all-gathers in the compiled text.
"""

import json
import re
from typing import Any

import jax
import numpy as np

from model import sharding
from model.config import ModelConfig
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

CONFIG = ModelConfig(
    vocabulary=32, width=64, depth=4, heads=8, kv_heads=8, head_width=8, ff_width=192, tied=False, qk_norm=True
)
MESHES = ((1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2))
STEPS, SEQUENCES, LENGTH = 50, 8, 16
BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}


def batches() -> list[np.ndarray]:
    """Counting modulo the vocabulary with a stride of each sequence's own: something to learn."""
    generator = np.random.default_rng(0)
    start, stride = generator.integers(0, 32, (2, STEPS, SEQUENCES, 1))
    return list(((start + (stride % 4) * np.arange(LENGTH + 1)) % 32).astype(np.int32))


def gathers(text: str) -> tuple[list[int], list[int]]:
    """Bytes of the output of each all-gather outside loops, and inside them, from a compiled program's text."""
    computations: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?(%[\w.-]+) .*\{$", line):
            name = head[1]
        computations.setdefault(name, []).append(line)
    called = {name: set(re.findall(r"%[\w.-]+", "\n".join(body))) for name, body in computations.items()}
    inside = set(re.findall(r"body=(%[\w.-]+)", text))
    while more := {n for name in inside for n in called[name] if n in computations} - inside:
        inside |= more
    found: tuple[list[int], list[int]] = ([], [])
    for name, body in computations.items():
        for line in body:
            if operation := re.search(r"= (.*?) all-gather(?:-start)?\(", line):
                shapes = re.findall(r"(\w+)\[([\d,]*)\]", operation[1])
                sizes = [
                    BYTES[kind] * int(np.prod([int(n) for n in dims.split(",") if n])) for kind, dims in shapes
                ]
                found[name in inside].append(sum(sizes))
    return found


def measure(shape: tuple[int, int, int]) -> dict[str, Any]:
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    initialize, target = make_initialization(CONFIG, mesh)
    place = sharding.batch_sharding(mesh)
    hyper = hyperparameters(OptimConfig(z_loss=1e-4)) | {"learning_rate": 2e-3}
    with jax.set_mesh(mesh):
        batch = jax.ShapeDtypeStruct((SEQUENCES, LENGTH + 1), np.int32, sharding=place)
        compiled = make_train_step(Program(CONFIG), mesh).lower(target, batch, hyper).compile()
        state, losses = initialize(np.uint32(0)), []
        for batch_BT in batches():
            state, metrics = compiled(state, jax.device_put(batch_BT, place), hyper)
            losses.append(float(metrics["loss"]))  # one step at a time: fake devices share few threads
    memory = compiled.memory_analysis()
    outside, inside = gathers(compiled.as_text())
    return {
        "losses": losses,
        "argument_bytes": memory.argument_size_in_bytes,
        "reused_bytes": memory.alias_size_in_bytes,
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "gathered_outside_loops": outside,
        "gathered_inside_loops": inside,
    }


if __name__ == "__main__":
    print(json.dumps({"x".join(map(str, shape)): measure(shape) for shape in MESHES}))
