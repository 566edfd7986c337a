"""Live progress of a sweep on standard error: runs done, tokens per second, loss, time left."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.errors import EXIT_COMPLETE
from core.numbers import short_count
from training.cost import training_flops
from training.spec import RunSpec

# Without a terminal, a line this often.
PLAIN_SECONDS = 15.0


def duration(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Progress:
    """What the launcher shows while it works. Time left is the FLOPs to go over the rate of FLOPs so far.

    Args:
      specs: runs to be trained.
      skipped: runs that were complete before.
    """

    def __init__(self, specs: Sequence[RunSpec], skipped: int):
        self.flops = {spec.run_id: training_flops(spec) for spec in specs}
        self.share = {spec.run_id: 0.0 for spec in specs}
        self.base: dict[str, float] = {}
        self.first_update: float | None = None
        self.skipped, self.done, self.failed = skipped, 0, 0
        self.running: dict[str, tuple[RunSpec, str, int, float, float]] = {}
        self.console = Console(file=sys.stderr)
        self.live = (
            Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        )
        self.started = self.shown = time.monotonic()

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def start(self, spec: RunSpec, place: str) -> None:
        self.running[spec.run_id] = (spec, place, 0, float("nan"), 0.0)

    def update(self, spec: RunSpec, tokens: int, loss: float, tokens_per_second: float) -> None:
        place = self.running[spec.run_id][1]
        self.first_update = self.first_update or time.monotonic()
        self.running[spec.run_id] = (spec, place, tokens, loss, tokens_per_second)
        self.share[spec.run_id] = tokens / spec.tokens
        self.base.setdefault(spec.run_id, tokens / spec.tokens)

    def finish(self, spec: RunSpec, status: int, message: str) -> None:
        self.running.pop(spec.run_id, None)
        if status == EXIT_COMPLETE:
            self.done += 1
            self.share[spec.run_id] = 1.0
            self.base.setdefault(spec.run_id, 0.0)
            self.note(f"{spec.run_id} complete ({self.done + self.skipped}/{len(self.flops) + self.skipped})")
        else:
            self.failed += 1
            self.note(f"{spec.run_id} ended with status {status}: {message}")

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def headline(self) -> str:
        """One line that sums up the sweep."""
        elapsed = time.monotonic() - self.started
        rate = sum(item[4] for item in self.running.values())
        trained = sum(self.flops[run] * (share - self.base.get(run, 0.0)) for run, share in self.share.items())
        left = sum(flops * (1 - self.share[run]) for run, flops in self.flops.items())
        working = time.monotonic() - (self.first_update or time.monotonic())
        eta = duration(left * working / trained) if trained > 0 and working > 5 else "?"
        failed = f", {self.failed} not" if self.failed else ""
        return (
            f"{self.done + self.skipped}/{len(self.flops) + self.skipped} runs complete{failed}  "
            f"{short_count(rate)} tokens/s  {duration(elapsed)} elapsed  {eta} left"
        )

    def refresh(self) -> None:
        """Redraw on a terminal; elsewhere print a line now and then."""
        if self.live:
            table = Table.grid(padding=(0, 2))
            for spec, place, tokens, loss, rate in self.running.values():
                table.add_row(
                    place,
                    spec.run_id,
                    f"{short_count(tokens)}/{short_count(spec.tokens)} tokens",
                    "compiling" if tokens == 0 else f"loss {loss:.3f}",
                    f"{short_count(rate)} tokens/s",
                )
            outer = Table.grid()
            outer.add_row(self.headline())
            outer.add_row(table)
            self.live.update(outer, refresh=True)
        elif time.monotonic() - self.shown > PLAIN_SECONDS:
            self.shown = time.monotonic()
            self.note(self.headline())
