"""How many runs of one shape to train as one program on this device: measured, and kept on disk.

The rule: time the step of one run alone and of packs of 2, 4, 8, ... runs. Pack if the best total tokens a second are
at least 1.1 times those of one run alone; then take the smallest pack that reaches 95% of the best. The ladder ends
where memory does, or at the first doubling beyond 8 members that gains less than 5%. Batches are made up, each step
reads a new one and the metrics come back one step late, as in training; reading data and writing logs is left out.

`python -m training.packs.size --most N` is for the launcher, which must not hold the device itself: JSON RunSpecs on
standard input, a JSON list with one choice each on standard output.
"""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.codec import from_json, to_json
from core.errors import EXIT_COMPLETE
from core.files import read_json, write_json
from training.causes import MEMORY_WORDS
from training.spec import RunSpec

WORTH = 1.1  # total tokens a second, relative to one run alone, from which a pack is worth having
ENOUGH = 0.95  # of the best: a smaller pack finishes sooner and shares its fate with fewer
GAIN = 1.05  # of the doubling before
ALWAYS = 8  # members that are always tried: the first doublings may gain little
MOST = 64
SECONDS = 0.3  # of one timing


@dataclasses.dataclass(frozen=True)
class PackSize:
    """A measured choice.

    Attributes:
      members: runs to train as one program; 1 for each alone.
      rates: total tokens per second by number of members.
      device: what was measured.
      ended: why the ladder ended: most (as many as were asked for), gain or memory.
    """

    members: int
    rates: dict[int, float]
    device: str
    ended: str

    def sentence(self) -> str:
        """The choice in one line."""
        best = self.rates[self.members] / self.rates[1]
        tried = ", ".join(f"{members}: {rate:,.0f}" for members, rate in self.rates.items())
        verdict = (
            f"packs of {self.members}, {best:.1f} times"
            if self.members > 1
            else "no packs: none reaches 1.1 times"
        )
        return f"{verdict} the tokens per second of one run alone on {self.device} ({tried})"


def decide(rates: Mapping[int, float], most: int = MOST) -> int:
    """The number of members by the rule above, at most `most`; `rates[1]` is one run alone."""
    allowed = {members: rate for members, rate in rates.items() if members <= most}
    best = max(allowed.values())
    if best < WORTH * allowed[1]:
        return 1
    return min(members for members, rate in allowed.items() if rate >= ENOUGH * best)


def climb(rate_of: Callable[[int], float | None], most: int) -> tuple[dict[int, float], str]:
    """Rates up the ladder 1, 2, 4, ... `most`, and why it ended; `rate_of` answers None where memory is short."""
    rates: dict[int, float] = {}
    members = 1
    while True:
        rate = rate_of(members)
        if rate is None:
            return rates, "memory"
        before = rates.get(members // 2, 0.0)
        rates[members] = rate
        if members > ALWAYS and rate < GAIN * before:
            return rates, "gain"
        if members * 2 > most:
            return rates, "most"
        members *= 2


class Probe:
    """The compiled step of `members` runs like `spec` on made-up batches; `steps` times it."""

    def __init__(self, spec: RunSpec, members: int):
        import jax
        import numpy as np

        from training.pack_step import empty_lanes, make_pack_step, pack_mesh, put_lane
        from training.processes.mesh import choose_mesh
        from training.state import hyperparameters
        from training.step import make_initialization, make_train_step

        self.spec, self.members = spec, members
        generator = np.random.default_rng(0)
        rows, length = spec.batch_tokens // spec.data.sequence_length, spec.data.sequence_length
        shape = (4, members, rows, length + 1)
        self.batches = generator.integers(0, spec.model.vocabulary, shape).astype(np.int32)
        microbatches = spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens)
        program = (spec.model, spec.optim.decay_all, microbatches)
        self.solo_mesh = choose_mesh("", spec)
        self.hyper = hyperparameters(spec.optim) | {"learning_rate": spec.optim.learning_rate}
        with jax.set_mesh(self.solo_mesh):
            initialize, target = make_initialization(spec.model, self.solo_mesh)
            state = initialize(np.uint32(0))
        if members == 1:
            solo = make_train_step(*program, self.solo_mesh)
            self.state = state
            self.step = lambda batch: solo(self.state, batch[0], self.hyper)
            return
        mesh = pack_mesh(spec.model, members)
        together = make_pack_step(*program, mesh)
        self.state = empty_lanes(target, members, mesh)
        for lane in range(members):
            self.state = put_lane(self.state, lane, state, mesh)
        active = np.ones(members, bool)

        def step(batch: Any) -> Any:
            hyper = {key: np.full(members, value, np.float32) for key, value in self.hyper.items()}
            return together(self.state, batch, hyper, active)

        self.step = step

    def steps(self, count: int) -> dict[str, float]:
        """Seconds of clock ("wall") and of processor ("cpu") of `count` steps, to the end of the last."""
        import contextlib

        import jax

        wall, cpu = time.perf_counter(), time.process_time()
        previous = None
        with jax.set_mesh(self.solo_mesh) if self.members == 1 else contextlib.nullcontext():
            for index in range(count):
                self.state, metrics = self.step(self.batches[index % len(self.batches)])
                if previous is not None:
                    jax.device_get(previous)
                previous = metrics
        jax.block_until_ready((self.state, previous))
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def rate(self, seconds: float = SECONDS, repeats: int = 3, clock: str = "wall") -> float:
        """Total tokens per second, the best of `repeats` timings after a warm-up."""
        self.steps(2)
        count = max(2, round(seconds / (self.steps(2)[clock] / 2)))
        best = min(self.steps(count)[clock] for _ in range(repeats))
        return count * self.members * self.spec.batch_tokens / best


def measured_rate(spec: RunSpec, members: int) -> float | None:
    """Total tokens per second of a pack of `members`; None where the device's memory does not suffice."""
    import jax

    try:
        return Probe(spec, members).rate()
    except jax.errors.JaxRuntimeError as error:
        if any(word in str(error) for word in MEMORY_WORDS):
            return None
        raise


def choose(
    spec: RunSpec,
    most: int,
    cache_root: Path,
    rate_of: Callable[[RunSpec, int], float | None] = measured_rate,
) -> PackSize:
    """The size of packs for runs of this shape on this process's devices: from disk, or measured now and written.

    Raises:
      RuntimeError: the device's memory does not suffice for a single run.
    """
    key = _key(spec)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_root / "pack" / f"{digest}.json"
    device = f"{key['devices']} x {key['device']}"
    known = read_json(path) if path.exists() else None
    if known is not None and (known["ended"] != "most" or max(map(int, known["rates"])) * 2 > most):
        rates, ended = {int(members): rate for members, rate in known["rates"].items()}, known["ended"]
    else:
        rates, ended = climb(lambda members: rate_of(spec, members), most)
        if not rates:
            raise RuntimeError(
                f"{spec.run_id}: {device} has not the memory for one run; lower optim.microbatch_tokens"
            )
        write_json(path, {"key": key, "rates": rates, "ended": ended})
    return PackSize(decide(rates, most), rates, device, ended)


def known_rates(
    spec: RunSpec, devices: int, cache_root: Path, kind: str | None = None
) -> dict[str, dict[int, float]]:
    """What was measured for this shape with these versions on `devices` accelerators (of one kind, where one is
    given): {"1 x kind": {members: tokens/s}}."""
    program = _program(spec)
    found = {}
    for path in sorted((cache_root / "pack").glob("*.json")):
        known = read_json(path)
        key = known["key"]
        if kind not in (None, key["device"]):
            continue
        if key["cpus"] is None and key["devices"] == devices and program.items() <= key.items():
            found[f"{devices} x {key['device']}"] = {
                int(members): rate for members, rate in known["rates"].items()
            }
    return found


def _key(spec: RunSpec) -> dict[str, Any]:
    """Everything that a measurement depends on: shape, device, versions."""
    import jax

    device = jax.devices()[0]
    return {
        **_program(spec),
        "device": device.device_kind,
        "devices": len(jax.devices()),
        "cpus": len(os.sched_getaffinity(0)) if device.platform == "cpu" else None,
    }


def _program(spec: RunSpec) -> dict[str, Any]:
    """What a measurement depends on beside the device."""
    return {
        "model": to_json(spec.model),
        "sequence_length": spec.data.sequence_length,
        "batch_tokens": spec.batch_tokens,
        "microbatch_tokens": spec.optim.microbatch_tokens,
        "decay_all": spec.optim.decay_all,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax")},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the launcher."""
    parser = argparse.ArgumentParser(prog="python -m training.packs.size")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print; only the answer may reach the launcher
    from training.run import configure_jax

    configure_jax(options.cache)
    for request in json.load(sys.stdin):
        size = choose(from_json(RunSpec, request["spec"]), request["most"], options.cache)
        answers.write(json.dumps({"members": size.members, "sentence": size.sentence()}) + "\n")
        answers.flush()
    return EXIT_COMPLETE


if __name__ == "__main__":
    sys.exit(main())
