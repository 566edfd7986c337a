"""Our own side of `python launch.py bench`: the training step as `training.run` compiles it, timed in a process.

Beside the commands of `protocol` it knows {"do": "bare", "count": n}: n steps on one batch that is already on the
device and with no metric fetched, so that what is left is the device's own time; and {"do": "peak"}, the FLOPs a second
of a large matrix product.
"""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import protocol
from model import sharding
from model.config import ModelConfig
from model.kernels.device import this_device
from model.kernels.install import record
from training.processes.cores import use_cores_as_devices
from training.processes.mesh import shape_here
from training.processes.start import give_gpu_memory
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization, make_train_step


class Peer:
    """One prepared training step at a time."""

    def prepare(self, model: dict[str, Any], batch: int, sequence: int, parameters: str) -> dict[str, Any]:
        config = ModelConfig(**model)
        devices = jax.devices()
        shape = shape_here(config, batch) or (1, 1, 1)
        self.mesh = sharding.make_mesh(shape, devices[: math.prod(shape)])
        with jax.set_mesh(self.mesh):
            initialize, _ = make_initialization(config, self.mesh)
            self.state = initialize(protocol.SEED)
        flat = jax.tree_util.tree_flatten_with_path(self.state.params)[0]
        arrays: dict[str, Any] = {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in flat}
        np.savez(parameters, **arrays)
        optim = OptimConfig(
            beta1=protocol.BETAS[0],
            beta2=protocol.BETAS[1],
            epsilon=protocol.EPSILON,
            weight_decay=protocol.WEIGHT_DECAY,
            clip_norm=protocol.CLIP_NORM,
        )
        numbers = hyperparameters(optim) | {"learning_rate": protocol.LEARNING_RATE}
        self.hyper = {
            name: jnp.asarray(number, jnp.float32) for name, number in numbers.items()
        }  # as a run has them
        self.batches = protocol.batches(config.vocabulary, batch, sequence)
        started = time.perf_counter()
        self.step = make_train_step(Program(config), self.mesh)
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step(self.state, self.place(0), self.hyper)
        loss = float(metrics["loss"])
        seconds = time.perf_counter() - started
        return {
            "loss": loss,
            "seconds": seconds,
            "bytes": self.bytes(),
            "implementations": record(config, this_device(), shape, batch, sequence),
            "versions": f"jax {jax.__version__}",
            "device": f"{math.prod(shape)} x {devices[0].device_kind}",
        }

    def bytes(self) -> dict[str, int]:
        """XLA's account of the step that was just taken: nothing is compiled again."""
        with jax.set_mesh(self.mesh):
            compiled = self.step.lower(self.state, self.place(0), self.hyper).compile()  # type: ignore[attr-defined]
        account = compiled.memory_analysis()
        state = account.argument_size_in_bytes
        return {
            "state": state,
            "scratch": account.temp_size_in_bytes,
            "total": state + account.temp_size_in_bytes,
        }

    def place(self, index: int) -> jax.Array:
        return jax.device_put(self.batches[index % len(self.batches)], sharding.batch_sharding(self.mesh))

    def steps(self, count: int) -> dict[str, Any]:
        """Steps as the training loop takes them: a fresh batch each, metrics fetched one step late."""
        watch = protocol.Stopwatch()
        previous = None
        with jax.set_mesh(self.mesh):
            for index in range(1, count + 1):
                self.state, metrics = self.step(self.state, self.place(index), self.hyper)
                if previous is not None:
                    jax.device_get(previous)
                previous = metrics
        jax.block_until_ready(self.state)
        return dict(watch.read())

    def bare(self, count: int) -> dict[str, Any]:
        batch_BT = jax.block_until_ready(self.place(0))
        watch = protocol.Stopwatch()
        with jax.set_mesh(self.mesh):
            for _ in range(count):
                self.state, _ = self.step(self.state, batch_BT, self.hyper)
        jax.block_until_ready(self.state)
        return dict(watch.read())

    def peak(self, dtype: str, clock: str) -> dict[str, Any]:
        on_cpu = jax.default_backend() == "cpu"
        size, calls = (
            (1024, 1) if on_cpu else (8192, 16)
        )  # in a row, so that a wait and a launch are not counted
        factor = jax.random.normal(jax.random.key(0), (size, size), dtype)
        multiply = jax.jit(jnp.matmul)
        jax.block_until_ready(multiply(factor, factor))
        best = float("inf")
        for _ in range(8):
            watch = protocol.Stopwatch()
            jax.block_until_ready([multiply(factor, factor) for _ in range(calls)])
            best = min(best, watch.read()[clock])
        return {"flops_per_second": calls * 2 * size**3 / best}


def main() -> None:
    give_gpu_memory()
    use_cores_as_devices()
    peer = Peer()
    protocol.serve({"prepare": peer.prepare, "steps": peer.steps, "bare": peer.bare, "peak": peer.peak})


if __name__ == "__main__":
    main()
