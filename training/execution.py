"""How runs execute here; nothing of it changes what is computed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from core import stop

# (run directory, tokens, loss, tokens per second of this run's own progress)
Report = Callable[[Path, int, float, float], None]


@dataclasses.dataclass(frozen=True)
class Execution:
    """Settings of a process that trains.

    Attributes:
      cache_root: folder of corpora, token caches and compiled programs.
      checkpoint_seconds: least time between two checkpoints.
      mesh: devices of a run alone by axis, as data=2,fsdp=2,tensor=1; empty for the rule (processes/mesh.py).
      profile: trace five steps of a run alone into its folder `profile` (hooks/profile.py).
      lock_patience_seconds: how long to wait for another process that trains the same.
      stop_requested: asked after every step; true saves and stops.
      report: called about twice a second for each run.
    """

    cache_root: Path = Path("cache")
    checkpoint_seconds: float = 60.0
    mesh: str = ""
    profile: bool = False
    lock_patience_seconds: float = 0.0
    stop_requested: Callable[[], bool] = stop.requested
    report: Report = lambda directory, tokens, loss, rate: None
