"""`python launch.py bench`: how fast training is, against the machine's peak and against plain PyTorch.

Each side runs in a process of its own (bench/jax_peer.py, bench/torch_peer.py) with the same threads, the same
environment, the same batches and the same first parameters. On a CPU all are asked in turn, round by round, because
timings drift; on a GPU, whose memory one side at a time needs, one after the other. Medians over rounds are reported,
and the median of the ratios within a round. The peak is that of a matrix product in the same call.
"""

import dataclasses
import datetime
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.side import (
    FEW_FAULTS,
    MOST_SETTLING,
    SAME_LOSS,
    Bench,
    Side,
    commands,
    refuse_without_device,
    started,
)
from core import cli as flags
from core.files import write_json
from core.numbers import short_bytes
from model.config import ModelConfig
from model.ledger import ledger
from planning.throughput import Measurement, device_here, write_rows


@dataclasses.dataclass
class Measured:
    """What the sides said of one size, by side; rates in tokens per second, a value a round."""

    prepared: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rates: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    bare_rates: list[float] = dataclasses.field(default_factory=list)
    peaks: list[float] = dataclasses.field(default_factory=list)


def measure(options: Bench, size: str) -> dict[str, Any]:
    """Every number of one size."""
    names = list(commands(options))
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        for group in [names] if options.device == "cpu" else [[name] for name in names]:
            with started(options, group) as sides:
                _prepare(options, size, sides, folder, measured)
                _take_turns(options, size, sides, measured)
    return _row(options, size, measured)


def _prepare(options: Bench, size: str, sides: dict[str, Side], folder: str, measured: Measured) -> None:
    """Compile and take the first step on every side, and see that all are one network."""
    config = options.model(size)
    sequence, batch_tokens = options.shape(size)
    fields = dataclasses.asdict(config)
    resolved = fields | {"head_width": config.resolved_head_width, "ff_width": config.resolved_ff_width}
    for name, side in sides.items():
        answer = side.ask(
            "prepare",
            model=fields if name == "jax" else resolved,
            batch=batch_tokens // sequence,
            sequence=sequence,
            parameters=f"{folder}/parameters.npz",
        )
        measured.prepared[name] = answer
        ours = measured.prepared["jax"]["loss"]
        if abs(answer["loss"] / ours - 1) > SAME_LOSS[config.compute_dtype]:
            raise RuntimeError(
                f"{size}: the first loss of {name} is {answer['loss']}, ours {ours}: not one network"
            )


def _take_turns(options: Bench, size: str, sides: dict[str, Side], measured: Measured) -> None:
    """Rounds of steps, each side once in each."""
    _, batch_tokens = options.shape(size)
    counts = {}
    for name, side in sides.items():
        _settle(side)
        counts[name] = max(2, round(options.seconds / (side.ask("steps", count=2)[options.clock] / 2)))
        measured.rates[name] = []
    for _ in range(options.rounds):
        if "jax" in sides:
            answer = sides["jax"].ask("peak", dtype=options.model(size).compute_dtype, clock=options.clock)
            measured.peaks.append(answer["flops_per_second"])
        for name, side in sides.items():
            seconds = side.ask("steps", count=counts[name])[options.clock]
            measured.rates[name].append(counts[name] * batch_tokens / seconds)
        if "jax" in sides:
            seconds = sides["jax"].ask("bare", count=counts["jax"])[options.clock]
            measured.bare_rates.append(counts["jax"] * batch_tokens / seconds)


def _settle(side: Side) -> None:
    """Take steps until a process has all the memory that it will use.

    The heap of a process with several devices grows over its first ten or so steps, as their scratch memories find
    their places; where a virtual machine has to get every page from its host, such a step takes twice as long.
    """
    clean = 0
    for _ in range(MOST_SETTLING):
        clean = clean + 1 if side.ask("steps", count=2)["faults"] < FEW_FAULTS else 0
        if clean == 2:
            return


def _row(options: Bench, size: str, measured: Measured) -> dict[str, Any]:
    config = options.model(size)
    sequence, batch_tokens = options.shape(size)
    counted = ledger(config, sequence)
    rates, ours = measured.rates, measured.rates["jax"]
    rate, peak = statistics.median(ours), statistics.median(measured.peaks)
    waits = [1 - loop / bare for loop, bare in zip(ours, measured.bare_rates, strict=True)]
    prepared = measured.prepared
    return {
        "size": size,
        "params": counted["params"]["total"],
        "model": dataclasses.asdict(config),
        "sequence": sequence,
        "batch_tokens": batch_tokens,
        "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
        "ratio": {
            name: statistics.median(a / b for a, b in zip(ours, rates[name], strict=True))
            for name in rates
            if name != "jax"
        },
        "peak_flops_per_second": peak,
        "mfu": {key: rate * counted["flops_per_token"][key] / peak for key in ("exact", "palm")},  # type: ignore[literal-required]
        "compile_seconds": {name: answer["seconds"] for name, answer in prepared.items()},
        "bytes": prepared["jax"]["bytes"],
        "host_wait": max(0.0, statistics.median(waits)),
        "first_loss": {name: answer["loss"] for name, answer in prepared.items()},
        "versions": {name: answer["versions"] for name, answer in prepared.items()},
        "implementations": prepared["jax"]["implementations"],
        "device": prepared["jax"]["device"],
    }


def sentence(row: dict[str, Any]) -> str:
    """One size in one line."""
    peers = "".join(
        f" | {name} {row['tokens_per_second'][name]:,.0f} (ours {ratio:.2f}x)"
        for name, ratio in row["ratio"].items()
    )
    return (
        f"{row['size']:>5} {row['params']:>11,} params | {row['tokens_per_second']['jax']:>9,.0f} tokens/s{peers}"
        f" | MFU exact {row['mfu']['exact']:.3f} palm {row['mfu']['palm']:.3f}"
        f" of {row['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s in {row['implementations']['products']['name']}"
        f" | first step {row['compile_seconds']['jax']:.1f} s | {short_bytes(row['bytes']['total'])}"
        f" | host wait {row['host_wait']:.1%}"
    )


def run(options: Bench, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure every size, reporting each as it is done; writes `options.out` where given."""
    refuse_without_device(options)
    rows = []
    if options.pack:
        # only where asked for
        from bench import packs as pack_bench

        rows = pack_bench.measure_all(options, report)
    elif options.start:
        # only where asked for
        from bench import start as start_bench

        rows = start_bench.measure_all(options, report)
    else:
        for size in options.sizes:
            rows.append(measure(options, size))
            report(sentence(rows[-1]))
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    result = {"settings": settings, "machine": platform.platform(), "rows": rows}
    if options.out is not None:
        write_json(options.out, result)
    if options.table is not None:
        write_rows(options.table, [measurement(options, row) for row in rows])
    return result


def measurement(options: Bench, row: dict[str, Any]) -> Measurement:
    """What the throughput table keeps of one size: one process that had the machine to itself."""
    on_processor = options.device == "cpu"
    return Measurement(
        device=device_here() if on_processor else row["device"].partition(" x ")[2],
        threads=(options.threads or len(os.sched_getaffinity(0))) if on_processor else 0,
        workers=1,
        model=ModelConfig(**row["model"]),
        sequence_length=row["sequence"],
        batch_tokens=row["batch_tokens"],
        tokens_per_second=row["tokens_per_second"]["jax"],
        compile_seconds=row["compile_seconds"]["jax"],
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=row["versions"]["jax"],
    )


def main(arguments: list[str]) -> int:
    """The command; exit status 0, or `BadInput` for a bad argument."""
    run(flags.parse(Bench, arguments, "python launch.py bench"), lambda line: print(line, flush=True))  # noqa: T201
    return 0
