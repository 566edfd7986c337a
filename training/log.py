"""metrics.jsonl of one run, one row a step, and the run's clock."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from core.files import JsonLines
from core.records import Ledger, MetricRow
from core.rundir import RunDirectory
from training.checkpoint import Checkpoints
from training.spec import RunSpec
from training.step import exploded_loss

REPORT_SECONDS = 0.5


class Diverged(RuntimeError):
    """The loss is NaN, infinite or exploding."""


@dataclasses.dataclass
class Clock:
    """Seconds of a run, summed over its attempts; evaluation and checkpoints are in neither."""

    training: float = 0.0
    compiling: float = 0.0


class MetricsLog:
    """Appends to metrics.jsonl; only the leading process writes.

    Args:
      checkpoints: of the run; named where it diverges.
      peak_flops: of all its devices together, in FLOP/s; None where unknown.
      report: called with (tokens, loss, tokens per second) about twice a second.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        ledger: Ledger,
        checkpoints: Checkpoints,
        clock: Clock,
        *,
        attempt: int,
        peak_flops: float | None,
        report: Callable[[int, float, float], None],
    ):
        self.clock = clock
        self._spec, self._attempt, self._peak_flops, self._report = spec, attempt, peak_flops, report
        self._flops_per_token = ledger["flops_per_token"]
        self._checkpoints = checkpoints
        self._rows = JsonLines(RunDirectory(directory).metrics if jax.process_index() == 0 else os.devnull)
        self._is_first = True
        self._reported = time.monotonic()

    def write(
        self,
        tokens: int,
        rate: float,
        loss: float,
        grad_norm: float,
        elapsed: float,
        sharers: int,
        others: Mapping[str, float] | None = None,
    ) -> None:
        """Append the row of the step that ended at `tokens`.

        Args:
          rate: learning rate.
          elapsed: seconds of the step, this run's share of them.
          sharers: runs that shared the step: a row's tokens per second are the machine's while it served this run, what
            is reported is the run's own progress.
          others: what the objective and the blocks log besides, by name.

        Raises:
          Diverged: the loss is not finite or exploded; nothing is written.
        """
        spec, clock = self._spec, self.clock
        clock.training += elapsed
        if not math.isfinite(loss + grad_norm) or loss > exploded_loss(spec.model):
            self._checkpoints.wait()
            good = self._checkpoints.latest_tokens
            raise Diverged(
                f"diverged at step {tokens // spec.batch_tokens} ({tokens} tokens): loss {loss:g}, gradient "
                f"norm {grad_norm:g}; last good checkpoint: {f'{good} tokens' if good else 'none'}; "
                f"{self._likely_cause(tokens - spec.batch_tokens)}"
            )
        # The first step of an attempt is compiled and timed as one, so it has no rate of its own.
        tokens_per_second = None if self._is_first else spec.batch_tokens / elapsed
        self._is_first = False
        row: MetricRow = {
            "step": tokens // spec.batch_tokens,
            "tokens": tokens,
            "flops": self._flops_per_token["exact"] * tokens,
            "seconds": round(clock.training, 6),
            "attempt": self._attempt,
            "loss": loss,
            "lr": rate,
            "grad_norm": grad_norm,
            "tokens_per_second": tokens_per_second and round(tokens_per_second, 1),
            "mfu": self._peak_flops
            and tokens_per_second
            and tokens_per_second * self._flops_per_token["palm"] / self._peak_flops,
        }
        self._rows.append({**row, **(others or {})})
        if tokens_per_second and time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            self._report(tokens, loss, tokens_per_second / sharers)

    def _likely_cause(self, trained: int) -> str:
        """What to change. A loss is measured before its step, so a first one cannot be the learning rate's.

        Args:
          trained: tokens that the weights of this loss were trained on.
        """
        if not trained:
            return "nothing was trained yet, so not the learning rate: look at the settings of the model"
        lower = f"lower optim.learning_rate={self._spec.optim.learning_rate:g} or lengthen optim.warmup_tokens"
        if self._is_first:
            return f"the state that was resumed at {trained} tokens may be damaged (launch.py doctor); else {lower}"
        return lower

    def sync(self) -> None:
        """Flush all rows to disk."""
        self._rows.sync()

    def close(self) -> None:
        self._rows.close()
