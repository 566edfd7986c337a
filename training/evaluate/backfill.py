"""`python launch.py backfill runs/<sweep> --tasks NAME ...`: score tasks on the complete runs of a sweep."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from core import voice
from core.bounds import Allowed
from core.cli import parse
from core.rundir import SweepDirectory
from training.evaluate.ended import end, say
from training.processes.start import configure_jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line of a backfill."""

    sweep: Positional[Path]
    """runs/<sweep>"""
    tasks: tuple[str, ...] = ()
    """FAMILY[:KNOB=VALUE,...], file:PATH or lm-eval:PATH"""
    text: bool = False
    """the loss of each held-out sequence, where a run did not keep it: what python -m analysis.leaderboard compares"""
    items: Annotated[int, Allowed(1, 1_000_000)] = 500
    """problems of each task"""
    cache: Path = Path("cache")
    """corpora, tokens, compiled programs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the holes and say what was done; 1 where a complete run could not be scored."""
    options = parse(Arguments, sys.argv[1:] if arguments is None else arguments, "python launch.py backfill")
    if options.sweep.is_dir():
        voice.keep(SweepDirectory(options.sweep).workers / "backfill.log")
    configure_jax(options.cache)
    from training.evaluate.holes import (  # here: JAX loads slowly, and a bad flag is refused before
        fill,
        task_names,
    )
    from training.evaluate.tasks import overlap_line

    names = task_names(options.sweep, options.tasks)
    summary = fill(options.sweep, names, options.items, options.cache, say, text=options.text)
    for name, record in summary.records.items():
        say(overlap_line(name, record))
    done = f"{options.sweep}: {len(summary.filled)} holes filled, {len(summary.present)} scores already there"
    return end(done, len(summary.incomplete), summary.failed)
