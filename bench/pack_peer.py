"""The steps that `python launch.py bench --pack` times, in a process of their own: one run alone, and packs.

Commands of `protocol`, with more: {"do": "prepare", "model", "batch", "sequence", "members"} compiles and warms up one
program and answers {"seconds", "device", "versions"}, or {"short_of_memory": true}; {"do": "steps", "members", "count"}
times it; {"do": "clear"} forgets all programs.
"""

import time
from typing import Any

import jax

from bench import protocol
from core.errors import is_out_of_memory
from data.config import DataConfig
from model.config import ModelConfig
from training.packs.probe import Probe
from training.processes.cores import use_cores_as_devices
from training.spec import OptimConfig, RunSpec


class Peer:
    """The prepared programs by number of members."""

    def __init__(self) -> None:
        self.probes: dict[int, Probe] = {}

    def prepare(self, model: dict[str, Any], batch: int, sequence: int, members: int) -> dict[str, Any]:
        spec = RunSpec(
            model=ModelConfig(**model),
            data=DataConfig(sequence_length=sequence, validation_tokens=sequence),
            optim=OptimConfig(learning_rate=protocol.LEARNING_RATE),
            tokens=batch * sequence,
            batch_tokens=batch * sequence,
        )
        started = time.perf_counter()
        try:
            probe = Probe(spec, members)
            probe.steps(2)
        except jax.errors.JaxRuntimeError as error:
            if is_out_of_memory(error):
                return {"short_of_memory": True}
            raise
        self.probes[members] = probe
        return {
            "seconds": time.perf_counter() - started,
            "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
            "versions": f"jax {jax.__version__}",
        }

    def steps(self, members: int, count: int) -> dict[str, Any]:
        return dict(self.probes[members].steps(count))

    def clear(self) -> dict[str, Any]:
        self.probes = {}
        return {}


def main() -> None:
    use_cores_as_devices()
    peer = Peer()
    protocol.serve({"prepare": peer.prepare, "steps": peer.steps, "clear": peer.clear})


if __name__ == "__main__":
    main()
