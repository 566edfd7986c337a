"""The command line of analysis.isoflop: a table in, isoflop.json and its valleys in words out."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.commands import for_each_group, write_result
from analysis.fit.identified import known_to_within_itself
from analysis.isoflop.find import Isoflop, Method, find_valleys
from analysis.isoflop.noise import Unit
from analysis.isoflop.slices import Kind
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.read import Source, fresh_rows, read_table
from analysis.logs.table import REQUIRED, Table
from core import cli
from core.errors import BadInput


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exits 2 with one line where the table or a flag cannot be used."""
    cli.command(isoflop, arguments, "python -m analysis.isoflop")


def isoflop(
    table: str,
    /,
    *,
    method: Method = "parabola",
    bootstrap: int = 1000,
    level: float = 0.95,
    slices: Kind = "auto",
    tolerance: float = 0.1,
    min_points: int = 4,
    noise: float | None = None,
    noise_unit: Unit = "relative",
    window: float | None = None,
    exponent: float | None = None,
    target_flops: tuple[float, ...] = (),
    keep_all: bool = False,
    reading: RunFlags = RunTableFlags(),  # noqa: B008 (frozen)
    seed: int = 0,
    out: Path,
) -> None:
    """Best size at each FLOP budget, and how it grows with compute.

    parabola, cubic and akima find the minimum of loss over size at each budget;
    hull and envelope read the best size off the lower edge of loss against FLOPs
    (hull where each size has one token count, envelope where it has several).

    Args:
      table: CSV, JSON, parquet or a sweep's directory
      method: how the best size is found
      bootstrap: repetitions behind the intervals; 0 for none
      level: of the intervals
      slices: how budgets are made from rows
      tolerance: relative spread of FLOPs within a budget
      min_points: sizes that a budget needs
      noise: standard deviation of one run's loss; if not given, that of repeated runs, else of the scatter
      noise_unit: of --noise: relative to the loss, or nats
      window: take only the sizes within this factor of the minimum of their budget
      exponent: hold the growth of the best size at this power of FLOPs
      target_flops: say the best size at these budgets, too
      keep_all: hold no row apart that does not belong to the curve of its budget
      seed: of the noise that is put on again
      out: the JSON file to write
    """
    for name, value, allowed, good in (
        ("--bootstrap", bootstrap, "at least 0", 0 <= bootstrap <= 1_000_000),
        ("--level", level, "between 0 and 1", 0 < level < 1),
        ("--tolerance", tolerance, "positive", 0 < tolerance < np.inf),
        ("--min-points", min_points, "at least 3", min_points >= 3),
        ("--noise", noise, "positive", noise is None or 0 < noise < np.inf),
        ("--window", window, "above 1 and finite", window is None or 1 < window < np.inf),
        ("--exponent", exponent, "between 0 and 1", exponent is None or 0 < exponent < 1),
        *(("--target-flops", one, "positive, at most 1e40", 0 < one <= 1e40) for one in target_flops),
        ("--seed", seed, "at least 0", seed >= 0),
    ):
        if not good:
            raise BadInput(f"{name} {value}: must be {allowed}")
    asked = dataclasses.replace(reading.reading(), spare=frozenset({"unique_tokens"}))
    options = (method, bootstrap, seed, level, slices, tolerance, min_points, noise)

    def one(source: Source, group: int, target: Path | None) -> None:
        read = fresh_rows(read_table(source, optional=("flops", "unique_tokens"), reading=asked, group=group))
        columns = {name: values for name, values in read.columns.items() if name in (*REQUIRED, "flops")}
        result = find_valleys(
            columns, *options, keep_all=keep_all, row_numbers=read.row_numbers, noise_unit=noise_unit,
            window=window, exponent=exponent, targets=target_flops,
        )  # fmt: skip
        result = dataclasses.replace(result, warnings=(*read.warnings, *result.warnings))
        write_result(target or out, {**result.to_json(read.source()), **asked.to_json()})
        sys.stdout.write(summary(result, read))

    for_each_group(table, out, one)


def summary(result: Isoflop, table: Table) -> str:
    """What the command prints."""
    lines = [f"{result.method}: {table.rows} rows, {len(result.valleys)} budgets"]
    for valley in result.valleys:
        if valley.ok:
            lines.append(
                f"  {valley.flops:.3g} FLOPs: best at {valley.params_opt:.3g} params, "
                f"{valley.tokens_opt:.3g} tokens, loss {valley.loss_opt:.4f}"
            )
        else:
            lines.append(f"  {valley.flops:.3g} FLOPs: no valley; {valley.why}")
    if result.noise is not None:
        unit = "" if result.noise_source != "given" else " (given)"
        lines.append(f"  noise of a run: {result.noise:.3g}{unit or f', from {result.noise_source}'}")
    for name, what in (("a_opt", "params"), ("b_opt", "tokens")):
        value, interval = result.derived[name], result.intervals[name]
        if value is None:
            continue
        if interval and not known_to_within_itself(value, interval):
            lines.append(
                f"  how the best {what} grow is not identified: as C^{interval[0]:.3f} to C^{interval[1]:.3f}"
            )
        else:
            shown = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else " (no interval)"
            lines.append(f"  best {what} grow as C^{value:.3f}{shown}")
    for target in result.at_targets:
        params, tokens = (
            f"{value:.3g} {what}" + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else " (no interval)")
            for value, what, ends in (
                (target.params, "params", target.params_interval),
                (target.tokens, "tokens", target.tokens_interval),
            )
        )
        lines.append(f"  at {target.flops:.3g} FLOPs: {params}, {tokens}")
    lines += [f"  warning: {warning}" for warning in result.warnings]
    return "\n".join(lines) + "\n"
