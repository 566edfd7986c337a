"""`--profile`: a trace of a few training steps that Perfetto (ui.perfetto.dev) and XProf open."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from core.errors import BadInput

TRACE = "perfetto_trace.json.gz"
XPROF = "steps.xplane.pb"
# The first call compiles and the second still settles; five steps show what repeats in a file of a few megabytes.
SKIPPED_STEPS = 2
TRACED_STEPS = 5

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def profiled(step: Step, folder: Path, steps_left: int) -> Step:
    """`step`, of whose calls the third to the seventh are traced into folder/perfetto_trace.json.gz.

    Each call is a `train` event with its number. The device is waited for before the trace starts and before it ends,
    nowhere in between. A run that ends before its seventh call writes no trace.

    Raises:
      BadInput: fewer steps are left than that.
    """
    if steps_left < SKIPPED_STEPS + TRACED_STEPS:
        raise BadInput(
            f"--profile: traces steps {SKIPPED_STEPS + 1} to {SKIPPED_STEPS + TRACED_STEPS}, and {steps_left} are "
            "left of this run"
        )
    calls = itertools.count()
    raw = Path(tempfile.mkdtemp(prefix="profile-"))

    def traced(state: Any, batch_BT: Any, hyper: Any) -> tuple[Any, Any]:
        call = next(calls)
        if call == SKIPPED_STEPS:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # calls of Python functions are many, and none is the device's work
            jax.profiler.start_trace(raw, create_perfetto_trace=True, profiler_options=options)
        if not SKIPPED_STEPS <= call < SKIPPED_STEPS + TRACED_STEPS:
            return step(state, batch_BT, hyper)
        with jax.profiler.StepTraceAnnotation("train", step_num=call):
            following, metrics = step(state, batch_BT, hyper)
        if call == SKIPPED_STEPS + TRACED_STEPS - 1:
            jax.block_until_ready(following)
            jax.profiler.stop_trace()
            _keep(raw, folder)
        return following, metrics

    return traced


def _keep(raw: Path, folder: Path) -> None:
    """Move the two files that matter out of the profiler's own tree of folders."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern, name in ((TRACE, TRACE), ("*.xplane.pb", XPROF)):
        (found,) = raw.rglob(pattern)
        shutil.move(found, folder / name)
    shutil.rmtree(raw)
