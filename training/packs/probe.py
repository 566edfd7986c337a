"""How fast packs of one shape train on this device: total tokens a second, timed."""

import time

import jax
import numpy as np

from core.errors import is_out_of_memory
from training.lanes import lanes_of
from training.objectives import example
from training.processes.mesh import choose_mesh
from training.program import program_of
from training.spec import RunSpec
from training.state import hyperparameters
from training.step import make_initialization

SECONDS = 0.3  # of one timing


class Probe:
    """The compiled step of `members` runs like `spec` on made-up batches; `steps` times it."""

    def __init__(self, spec: RunSpec, members: int):
        self.spec, self.members = spec, members
        generator = np.random.default_rng(0)
        rows, length = spec.batch_tokens // spec.data.sequence_length, spec.data.sequence_length
        shape = (4, members, rows, length + 1)
        tokens = generator.integers(0, spec.model.vocabulary, shape).astype(np.int32)
        self.batches = [[example(spec, own) for own in some] for some in tokens]
        numbers = {
            **hyperparameters(spec.optim, spec.objective),
            "learning_rate": spec.optim.learning_rate,
        }
        self.hyper = dict.fromkeys(range(members), numbers)
        mesh = choose_mesh("", spec)
        with jax.set_mesh(mesh):
            initialize, target = make_initialization(spec.model, mesh, spec.optim.name)
            states = [initialize(np.uint32(0)) for _ in range(members)]
        self.lanes = lanes_of(program_of(spec), mesh, rows, states, target)

    def steps(self, count: int) -> dict[str, float]:
        """Seconds of clock ("wall") and of processor ("cpu") of `count` steps, to the end of the last."""
        wall, cpu = time.perf_counter(), time.process_time()
        previous = None
        with self.lanes.devices():
            for index in range(count):
                batches_M = self.batches[index % len(self.batches)]
                metrics = self.lanes.step(dict(enumerate(batches_M)), self.hyper)
                if previous is not None:
                    jax.device_get(previous)
                previous = metrics
        jax.block_until_ready((self.lanes.state(0), previous))
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def rate(self, seconds: float = SECONDS, repeats: int = 3, clock: str = "wall") -> float:
        """Total tokens per second, the best of `repeats` timings after a warm-up."""
        self.steps(2)
        count = max(2, round(seconds / (self.steps(2)[clock] / 2)))
        best = min(self.steps(count)[clock] for _ in range(repeats))
        return count * self.members * self.spec.batch_tokens / best


def measured_rate(spec: RunSpec, members: int) -> float | None:
    """Total tokens per second of a pack of `members`; None where the device's memory does not suffice."""
    try:
        return Probe(spec, members).rate()
    except jax.errors.JaxRuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
