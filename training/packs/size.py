"""How many runs of one shape to train as one program on this device: measured, and kept on disk.

The rule: time the step of one run alone and of packs of 2, 4, 8, ... runs. Pack if the best total tokens a second
are at least 1.1 times those of one run alone; then take the smallest pack that reaches 95% of the best. The ladder
ends where memory does, at the first doubling beyond 8 members that gains less than 5%, or where compiling the next
rung would take longer than the best that it could save: half of the time that the runs need at the rate so far.
Batches are made up, each step reads a new one and the metrics come back one step late, as in training; reading data
and writing logs is left out.

`python -m training.packs.size --most N` is for the launcher, which must not hold the device itself: JSON RunSpecs on
standard input, a JSON list with one choice each on standard output.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.cli import parse
from core.codec import from_json, to_json
from core.errors import EXIT_COMPLETE, exit_on_bad_input
from core.files import read_json, write_json
from training.processes.start import configure_jax
from training.spec import OptimConfig, RunSpec

WORTH = 1.1  # total tokens a second, relative to one run alone, from which a pack is worth having
ENOUGH = 0.95  # of the best: a smaller pack finishes sooner and shares its fate with fewer
GAIN = 1.05  # of the doubling before
ALWAYS = 8  # members that are always tried: the first doublings may gain little
MOST = 64


@dataclasses.dataclass(frozen=True)
class PackSize:
    """A measured choice.

    Attributes:
      members: runs to train as one program; 1 for each alone.
      rates: total tokens per second by number of members.
      device: what was measured.
      ended: why the ladder ended: most (as many as were asked for), gain, memory or cost (the next rung could not win
        the seconds that it takes to compile).
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


def climb(
    rate_of: Callable[[int], float | None],
    most: int,
    tokens: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[int, float], str]:
    """Rates up the ladder 1, 2, 4, ... `most`, and why it ended.

    Args:
      rate_of: total tokens per second of so many members; None where memory is short. Its seconds, compilation
        included, are taken for those of the next rung.
      tokens: that all runs of this shape have left to train here.
    """
    rates: dict[int, float] = {}
    members = 1
    while True:
        began = clock()
        rate = rate_of(members)
        seconds = clock() - began
        if rate is None:
            return rates, "memory"
        before = rates.get(members // 2, 0.0)
        rates[members] = rate
        if members > ALWAYS and rate < GAIN * before:
            return rates, "gain"
        if members * 2 > most:
            return rates, "most"
        if tokens / max(rates.values()) / 2 < seconds:
            return rates, "cost"
        members *= 2


def choose(
    spec: RunSpec,
    most: int,
    cache_root: Path,
    rate_of: Callable[[RunSpec, int], float | None],
    tokens: float = math.inf,
) -> PackSize:
    """The size of packs for runs of this shape on this process's devices: from disk, or measured now and written.

    Args:
      rate_of: total tokens per second of a pack of so many members; None where memory does not suffice.
      tokens: that all runs of this shape have left to train here.

    Raises:
      RuntimeError: the device's memory does not suffice for a single run.
    """
    key = _key(spec)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_root / "pack" / f"{digest}.json"
    device = f"{key['devices']} x {key['device']}"
    known = read_json(path) if path.exists() else None
    if known is not None and _is_enough(known, most, tokens):
        rates, ended = {int(members): rate for members, rate in known["rates"].items()}, known["ended"]
    else:
        rates, ended = climb(lambda members: rate_of(spec, members), most, tokens)
        if not rates:
            raise RuntimeError(
                f"{spec.run_id}: {device} has not the memory for one run; lower optim.microbatch_tokens"
            )
        write_json(path, {"key": key, "rates": rates, "ended": ended, "tokens": min(tokens, MOST_TOKENS)})
    return PackSize(decide(rates, most), rates, device, ended)


def _is_enough(known: Mapping[str, Any], most: int, tokens: float) -> bool:
    """Whether a ladder that was climbed before went as high as one would now."""
    if known["ended"] == "most":
        return max(map(int, known["rates"])) * 2 > most
    return known["ended"] != "cost" or tokens <= 2 * known["tokens"] or max(map(int, known["rates"])) * 2 > most


MOST_TOKENS = 1e30  # JSON has no infinity


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
    import jax  # here: the launcher and `plan` read what was measured without JAX

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
        **({"optimizer": spec.optim.name} if spec.optim.name != OptimConfig.name else {}),
        **({"objective": spec.objective} if spec.objective != RunSpec.objective else {}),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax")},
    }


def _cache(cache: Path = Path("cache")) -> Path:
    """The folder of compiled programs and measurements."""
    return cache


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the launcher."""
    with exit_on_bad_input():
        cache: Path = parse(
            _cache, sys.argv[1:] if arguments is None else arguments, "python -m training.packs.size"
        )
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print; only the answer may reach the launcher
    configure_jax(cache)
    from training.packs.probe import measured_rate  # here: `plan` reads measurements without JAX

    for request in json.load(sys.stdin):
        spec = from_json(RunSpec, request["spec"])
        size = choose(spec, request["most"], cache, measured_rate, request["tokens"])
        answers.write(json.dumps({"members": size.members, "sentence": size.sentence()}) + "\n")
        answers.flush()
    return EXIT_COMPLETE


if __name__ == "__main__":
    sys.exit(main())
