"""Seconds, workers and money of a sweep on one kind of device, from the throughput table."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import BadInput
from core.suggest import did_you_mean
from experiments.spec import RunSpec
from launchers.local.devices import places, visible_gpus
from launchers.packs import measured_sizes, pack_gain, parse_pack
from model.kernels import chips
from planning import throughput
from planning.assumed import AssumedSpeed, chip_named
from planning.flags import PlanFlags
from planning.simulate import Timeline, simulate
from planning.throughput import Estimate, Throughput
from training.packs.size import known_rates
from training.program import shape_of


def _device(flags: PlanFlags, known: Sequence[str]) -> str:
    """The kind of device that is planned for.

    Raises:
      BadInput: neither the table nor, for an assumed speed, the list of chips has it.
    """
    if not flags.device:
        here = throughput.device_here(visible_gpus())
        if flags.mfu is not None and chips.name_of(here) is None:
            raise BadInput(
                f"--mfu={flags.mfu:g}: no peak is known of {here}; --device names another, such as h100"
            )
        return here
    if flags.mfu is not None:
        return chip_named(flags.device)
    if flags.device in known:
        return flags.device
    name = chips.name_of(flags.device)
    measured = [device for device in known if name is not None and chips.chip(device) is chips.chip(name)]
    if len(measured) == 1:
        return measured[0]
    advice = "" if name is None else f"; --mfu 0.4 assumes 40% of the peak of {name}"
    near = f"{did_you_mean(flags.device, known)}" if known else ""
    raise BadInput(
        f"--device={flags.device}: the table knows {', '.join(known) or 'no device'}"
        f"{near.partition('?')[0] + '?' if '?' in near else ''}{advice}"
    )


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
        self.device = _device(flags, sorted({row.device for row in table}))
        if flags.device:
            self.workers = flags.workers or 1
        else:
            self.workers = len(places(len(specs), flags.workers, flags.cores_per_worker))
        self.throughput: Throughput | AssumedSpeed
        if flags.mfu is not None:
            self.throughput = AssumedSpeed(chip_named(self.device), flags.mfu)
            return
        threads = flags.cores_per_worker if self.device.startswith("cpu") else 0
        finished = throughput.from_runs(directory, specs, self.device)
        finished += throughput.from_other_sweeps(directory, self.device)
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
