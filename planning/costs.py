"""Seconds, workers and money of a sweep on one kind of device, from the throughput table."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import BadInput
from experiments.spec import RunSpec
from launchers.local.devices import places, visible_gpus
from launchers.packs import measured_sizes, pack_gain, parse_pack
from planning import throughput
from planning.flags import PlanFlags
from planning.simulate import Timeline, simulate
from planning.throughput import Estimate, Throughput
from training.packs.size import known_rates
from training.program import shape_of


class Costs:
    """Seconds of every run on one kind of device, or that nothing was measured there.

    Raises:
      BadInput: a flag that is out of range, or needs a table that is not there.
    """

    def __init__(self, specs: Sequence[RunSpec], directory: Path, cache: Path, flags: PlanFlags):
        if flags.price is not None and not 0 <= flags.price < float("inf"):
            raise BadInput(f"--price={flags.price}: must be at least 0")
        if flags.throughput is not None and not flags.throughput.exists():
            raise BadInput(f"--throughput={flags.throughput}: no such file; python launch.py bench writes one")
        self.pack, self.cache = parse_pack(flags.pack), cache
        self.price = flags.price
        table = throughput.read_table(flags.throughput or cache / throughput.FILE)
        gpus = [] if flags.device else visible_gpus()
        self.device = flags.device or throughput.device_here(gpus)
        known = sorted({row.device for row in table})
        if flags.device and flags.device not in known:
            raise BadInput(f"--device={flags.device}: the table knows {', '.join(known) or 'no device'}")
        on_processor = self.device.startswith("cpu")
        if flags.device:
            self.workers = flags.workers or 1
            if self.workers < 1:
                raise BadInput(f"--workers={self.workers}: must be at least 1")
        else:
            self.workers = len(places(len(specs), flags.workers, flags.cores_per_worker))
        threads = flags.cores_per_worker if on_processor else 0
        finished = throughput.from_runs(directory, specs, self.device)
        self.throughput = Throughput(table, self.device, threads, self.workers, finished)
        if flags.price is not None and not self.throughput:
            raise BadInput(
                f"--price={flags.price:g}: no throughput table for {self.device}; python launch.py bench "
                "EXPERIMENT measures one"
            )

    def estimate(self, spec: RunSpec) -> Estimate | None:
        return self.throughput.estimate(spec)

    def seconds(self, spec: RunSpec) -> float | None:
        estimate = self.estimate(spec)
        return None if estimate is None else estimate.seconds(spec)

    def cost(self, seconds: float | None) -> float | None:
        return None if self.price is None or seconds is None else self.price * seconds / 3600

    def timeline(self, todo: Sequence[RunSpec]) -> Timeline | None:
        """None where some shape has no estimate."""
        if any(self.estimate(spec) is None for spec in todo):
            return None
        devices = 0 if self.device.startswith("cpu") else 1
        rates = {
            key: next(iter(known_rates(spec, devices, self.cache, self.device).values()), {})
            for key, spec in {shape_of(spec): spec for spec in todo}.items()
        }
        return simulate(
            todo,
            self._known,
            self.workers,
            most=measured_sizes(todo, self.pack, devices, self.cache, self.workers, self.device),
            gain=lambda spec, members: pack_gain(rates[shape_of(spec)], members),
        )

    def _known(self, spec: RunSpec) -> Estimate:
        estimate = self.estimate(spec)
        assert estimate is not None
        return estimate
