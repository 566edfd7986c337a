"""`python launch.py bench --pack 1 8 32`: total tokens per second of packs, beside the same runs one at a time.

All programs of a size are timed in turn, round by round, in one process; medians over rounds are reported, and the
median of the ratios within a round.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable
from typing import Any

from bench.side import Bench, Side, started
from model.ledger import ledger


def measure_all(options: Bench, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every size, reported as it is done."""
    rows = []
    with started(options, ["pack"], {"pack": [sys.executable, "-m", "bench.pack_peer"]}) as sides:
        for size in options.sizes:
            rows.append(measure(options, size, sides["pack"]))
            report(sentence(rows[-1]))
    return rows


def measure(options: Bench, size: str, side: Side) -> dict[str, Any]:
    """Every number of one size. A pack that does not fit into memory has rate and ratio None."""
    config = options.model(size)
    sequence, batch_tokens = options.shape(size)
    fields = dataclasses.asdict(config)
    batch = batch_tokens // sequence
    side.ask("clear")
    prepared = {
        members: side.ask("prepare", model=fields, batch=batch, sequence=sequence, members=members)
        for members in sorted({1, *options.pack})
    }
    fitting = [members for members, answer in prepared.items() if "seconds" in answer]
    if 1 not in fitting:
        raise RuntimeError(f"{size}: one run alone does not fit into this device's memory")
    counts = {}
    for members in fitting:
        seconds = side.ask("steps", members=members, count=2)[options.clock] / 2
        counts[members] = max(2, round(options.seconds / seconds))
    rates: dict[int, list[float]] = {members: [] for members in fitting}
    for _ in range(options.rounds):
        for members in fitting:
            seconds = side.ask("steps", members=members, count=counts[members])[options.clock]
            rates[members].append(counts[members] * members * batch_tokens / seconds)
    return {
        "size": size,
        "params": ledger(config, sequence)["params"]["total"],
        "model": fields,
        "sequence": sequence,
        "batch_tokens": batch_tokens,
        "tokens_per_second": {
            members: statistics.median(rates[members]) if members in rates else None for members in prepared
        },
        "ratio": {
            members: statistics.median(a / b for a, b in zip(rates[members], rates[1], strict=True))
            if members in rates
            else None
            for members in prepared
        },
        "rounds": rates,
        "compile_seconds": {members: prepared[members]["seconds"] for members in fitting},
        "device": prepared[1]["device"],
        "versions": prepared[1]["versions"],
    }


def sentence(row: dict[str, Any]) -> str:
    """One size in one line."""
    packs = "".join(
        f" | {members}: out of memory"
        if rate is None
        else f" | {members}: {rate:,.0f} ({row['ratio'][members]:.2f}x)"
        for members, rate in row["tokens_per_second"].items()
        if members > 1
    )
    alone, size = row["tokens_per_second"][1], f"{row['size']:>5} {row['params']:>11,} params"
    return f"{size} | one at a time: {alone:,.0f} tokens/s{packs} | {row['device']}"
