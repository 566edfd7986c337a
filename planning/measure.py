"""`python launch.py bench EXPERIMENT`: how fast the shapes of a sweep train here, measured by training them briefly.

The launcher itself trains short runs of every shape, with as many workers at once as a sweep would have, on the same
corpus; what they record is measured. So data loading, logging, evaluation and neighbours on the machine are in it.
"""

import dataclasses
import datetime
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import EXIT_COMPLETE
from core.records import Attempt, RunResult
from core.rundir import SweepDirectory
from launchers.local.devices import places
from launchers.local.launch import LaunchSummary, LocalOptions, launch
from planning.throughput import FORWARD_SHARE, Measurement, device_of, versions_of
from training.program import shape_of
from training.spec import RunSpec

FIRST_STEPS = 16  # of the first run of a shape: it compiles, and says how long the timed ones should be
IN_MEMORY = (
    0.3  # a run that compiled in less than this share of the first one's seconds had its programs in memory
)


def measure(
    specs: Sequence[RunSpec], options: LocalOptions, seconds: float, report: Callable[[str], None]
) -> list[Measurement]:
    """Train every shape of `specs` twice briefly and measure.

    Args:
      options: workers and cache, as the sweep would run. seconds: of training, of each timed run.
      report: called with one line a shape.

    Raises:
      RuntimeError: a short run failed.
    """
    shapes = list({shape_of(spec): spec for spec in specs}.values())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        options = dataclasses.replace(options, cache_root=_without_programs(options.cache_root, Path(folder)))
        short = [printable(spec, FIRST_STEPS, 0) for spec in shapes]
        first = _train(Path(folder) / "first", short, options)
        steps = [
            max(FIRST_STEPS, round(seconds * _rate(record.result) / spec.batch_tokens))
            for spec, record in zip(shapes, first, strict=True)
        ]
        timed = [
            printable(spec, count, seed) for spec, count in zip(shapes, steps, strict=True) for seed in (0, 1)
        ]
        second = _train(Path(folder) / "timed", timed, options)
    workers = len(places(len(specs), options.workers, options.cores_per_worker))
    rows = []
    for index, spec in enumerate(shapes):
        rows.append(measured(spec, first[index], second[2 * index], second[2 * index + 1], workers))
        report(sentence(rows[-1]))
    return rows


def _without_programs(cache_root: Path, folder: Path) -> Path:
    """A cache folder with the same corpora and tokens and no compiled programs, so that compilation is measured."""
    fresh = folder / "cache"
    fresh.mkdir()
    for entry in cache_root.absolute().iterdir():
        if entry.name != "xla":
            (fresh / entry.name).symlink_to(entry)
    return fresh


def printable(spec: RunSpec, steps: int, seed: int) -> RunSpec:
    """The same network, data and batch for so many steps, evaluated once at the end."""
    tokens = steps * spec.batch_tokens
    optim = dataclasses.replace(spec.optim, schedule="constant", warmup_tokens=0, cooldown_tokens=0)
    return dataclasses.replace(
        spec, tokens=tokens, seed=seed, optim=optim, evaluation_marks=(), checkpoint_marks=(), parent=None,
        branch_at_tokens=None,
    )  # fmt: skip


class Record(NamedTuple):
    """What a short run recorded, and the seconds from the order to its start."""

    result: RunResult
    attempt: Attempt
    delay_seconds: float


def measured(spec: RunSpec, first: Record, loading: Record, again: Record, workers: int) -> Measurement:
    """One row from the records of the first run of a shape, one in a new worker, and one more."""
    device, threads = device_of(again.attempt)
    rate = statistics.mean([_rate(loading.result), _rate(again.result)])
    results = [record.result for record in (first, loading, again)]
    beside = [result["wall_seconds"] - result["train_seconds"] for result in results]
    if again.result["compile_seconds"] < IN_MEMORY * first.result["compile_seconds"]:
        run_seconds = max(0.0, beside[2])
    else:  # another worker took it, and loaded its programs too
        run_seconds = min(beside[1:] + [spec.data.validation_tokens / (FORWARD_SHARE * rate)])
    return Measurement(
        device=device, threads=threads, workers=workers, model=spec.model,
        sequence_length=spec.data.sequence_length, batch_tokens=spec.batch_tokens, tokens_per_second=rate,
        compile_seconds=max(0.0, beside[0] - run_seconds), load_seconds=max(0.0, beside[1] - run_seconds),
        run_seconds=run_seconds, validation_tokens=spec.data.validation_tokens,
        start_seconds=max(0.0, first.delay_seconds), source="bench",
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), versions=versions_of(again.attempt),
    )  # fmt: skip


def _rate(result: RunResult) -> float:
    """Tokens a second without the first step, which is compiled and timed apart."""
    steps = result["steps"]
    return result["trained_tokens"] * (steps - 1) / steps / result["train_seconds"]


def _train(directory: Path, specs: Sequence[RunSpec], options: LocalOptions) -> list[Record]:
    began = datetime.datetime.now(datetime.UTC)
    summary: LaunchSummary = launch(directory, specs, options)
    if summary.status != EXIT_COMPLETE:
        said = "; ".join([*summary.failed.values(), *summary.refused.values()][:1]) or "it was stopped"
        raise RuntimeError(f"a short run did not finish: {said}")
    runs = [SweepDirectory(directory).run(spec.run_id) for spec in specs]
    records = [(run.read_result(), run.read_environment()) for run in runs]
    earliest = min(datetime.datetime.fromisoformat(environment["started"]) for _, environment in records)
    delay = (earliest - began).total_seconds()
    return [Record(result, environment["attempts"][-1], delay) for result, environment in records]


def sentence(row: Measurement) -> str:
    """One shape in one line."""
    return (
        f"{row.model.width}x{row.model.depth}  {row.tokens_per_second:>10,.0f} tokens/s  "
        f"compile {row.compile_seconds:.1f} s, from the cache {row.load_seconds:.1f} s  "
        f"a run besides training {row.run_seconds:.1f} s  (workers {row.workers}, {row.device})"
    )
