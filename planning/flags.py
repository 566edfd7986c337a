"""Flags of `python launch.py plan EXPERIMENT` beside those of every verb."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from core.bounds import Allowed

Flops = Annotated[float | None, Allowed(1, 1e40)]
LogLossNoise = Annotated[float | None, Allowed(1e-9, 1, "it is of the logarithm of a loss")]


@dataclasses.dataclass(frozen=True)
class PlanFlags:
    """What to plan for, and on what.

    Attributes:
      workers: runs at a time; where none, as `run` would start here.
      cores_per_worker: CPU threads of one worker.
      pack: runs of one shape as one program: auto (as measured by earlier runs), off, or the most of a pack.
      device: kind of device in the throughput table, or with --mfu one that is not here, as h100; where none, this
        machine's.
      mfu: speed is assumed to be this share of the device's peak, as 0.4.
      throughput: a table of speeds; where none, throughput.json of the cache folder.
      target: FLOPs (6 N D) of a forecast; where none, 10 times the largest run's.
      noise: expected standard deviation of a run's log loss; where none, the residuals of finished sweeps in the
        folder of sweeps, or a range that is assumed.
      prior: fit.json whose draws are the plausible laws; where none, those of planning/design.py.
      device_memory: of one device, as 80GiB, and a run that needs more is refused; where none, as found.
      compile_memory: compile every shape for its bytes instead of estimating.
      mesh: devices of one run by axis, for the bytes of each, as data=2,fsdp=4,tensor=1; where empty, one device, on a
        CPU as many as --cores-per-worker makes.
      price: of one device for one hour, in any currency.
      budget_flops: refuse a sweep whose runs that are left cost more FLOPs.
      every_run: a row a run, beside the row a shape.
      json: the plan as JSON, every RunSpec whole.
    """

    workers: Annotated[int | None, Allowed(1, 10_000)] = None
    cores_per_worker: Annotated[int, Allowed(1, 10_000)] = 1
    pack: str = "auto"
    device: str | None = None
    mfu: Annotated[float | None, Allowed(1e-6, 1)] = None
    throughput: Path | None = None
    target: Flops = None
    noise: LogLossNoise = None
    prior: Path | None = None
    device_memory: str | None = None
    compile_memory: bool = False
    mesh: str = ""
    price: Annotated[float | None, Allowed(1e-9, 1e9)] = None
    budget_flops: Flops = None
    every_run: bool = False
    json: bool = False


def chooses_runs(arguments: Sequence[str]) -> bool:
    """Whether these arguments of plan ask for a budget's grid or a sweep's next runs, not for an experiment's plan."""
    flags = {word.partition("=")[0] for word in arguments}
    first = arguments[0] if arguments else ""
    return first.startswith("--budget") or first.startswith("--target") or "/" in first or "--next" in flags
