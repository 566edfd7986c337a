"""`python launch.py bench EXPERIMENT`: measure the shapes of a sweep, for the times that plan says."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from core.bounds import Allowed
from core.errors import EXIT_COMPLETE, BadInput
from launchers.local.launch import LocalOptions
from planning import throughput
from planning.measure import measure
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class BenchFlags:
    """How to measure.

    Attributes:
      workers: worker processes; where none, one an accelerator or CPU core.
      cores_per_worker: CPU threads of one worker.
      seconds: of training, of each timed run.
    """

    workers: Annotated[int | None, Allowed(1, 10_000)] = None
    cores_per_worker: Annotated[int, Allowed(1, 10_000)] = 1
    seconds: float = 3.0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def measure_and_keep(
    name: str, specs: Sequence[RunSpec], cache: Path, flags: BenchFlags, say: Callable[[str], None] = _print
) -> int:
    """Measure every shape of `specs` and write it to the throughput table of the cache folder; returns exit status 0.

    Args:
      say: called with each line for the user as soon as it is known.

    Raises:
      BadInput: a flag out of range, or data that the runs cannot read.
    """
    from training.prepare import prepare  # brings JAX, which a mistyped flag does not wait for

    if not 0 < flags.seconds <= 3600:
        raise BadInput(f"--seconds={flags.seconds:g}: must be above 0 and at most 3600")
    prepare(specs, cache)
    local = LocalOptions(cache, flags.workers, flags.cores_per_worker)
    rows = measure(specs, local, flags.seconds, say)
    path = cache / throughput.FILE
    say(f"{name}: {len(rows)} shapes measured, {throughput.write_rows(path, rows)} rows in {path}")
    return EXIT_COMPLETE
