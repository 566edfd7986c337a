"""`--profile`: a trace of a few training steps that Perfetto (ui.perfetto.dev) and XProf open."""

import shutil
import tempfile
from pathlib import Path

import jax

from core.errors import BadInput
from training.hooks import Asked
from training.state import TrainState

TRACE = "perfetto_trace.json.gz"
XPROF = "steps.xplane.pb"
# The first step compiles and the second still settles; five steps show what repeats in a file of a few megabytes.
SKIPPED_STEPS = 2
TRACED_STEPS = 5


class Profile:
    """Traces the third to the seventh step of an attempt into folder/perfetto_trace.json.gz.

    Each step is a `train` event with its number, as the loop names them. The device is waited for before the trace
    starts and before it ends, nowhere in between.

    Args:
      tokens: where the attempt begins.
      batch_tokens: of a step.
      end: tokens of the run.

    Raises:
      BadInput: fewer steps are left than that.
    """

    def __init__(self, folder: Path, *, tokens: int, batch_tokens: int, end: int):
        steps_left = (end - tokens) // batch_tokens
        if steps_left < SKIPPED_STEPS + TRACED_STEPS:
            raise BadInput(
                f"--profile: traces steps {SKIPPED_STEPS + 1} to {SKIPPED_STEPS + TRACED_STEPS}, and {steps_left} are "
                "left of this run"
            )
        self._folder, self._raw = folder, Path(tempfile.mkdtemp(prefix="profile-"))
        self._starts = tokens + SKIPPED_STEPS * batch_tokens
        self._ends = self._starts + TRACED_STEPS * batch_tokens

    def is_due(self, tokens: int, asked: Asked) -> bool:
        return tokens in (self._starts, self._ends)

    def act(self, tokens: int, state: TrainState) -> None:
        jax.block_until_ready(state)
        if tokens == self._starts:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # calls of Python functions are many, and none is the device's work
            jax.profiler.start_trace(self._raw, create_perfetto_trace=True, profiler_options=options)
        else:
            jax.profiler.stop_trace()
            self._keep()

    def _keep(self) -> None:
        """Move the two files that matter out of the profiler's own tree of folders."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for pattern, name in ((TRACE, TRACE), ("*.xplane.pb", XPROF)):
            (found,) = self._raw.rglob(pattern)
            (self._folder / name).unlink(missing_ok=True)  # a link there would be followed
            shutil.move(found, self._folder / name)

    def close(self) -> None:
        shutil.rmtree(self._raw, ignore_errors=True)
