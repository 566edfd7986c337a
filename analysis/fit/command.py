"""The command line of analysis.fit: a table in, fit.json and a printed table out."""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console, RenderableType
from rich.table import Table as Grid
from tyro.conf import UseAppendAction, arg

from analysis.commands import for_each_group, write_result
from analysis.fit.checks import with_derived
from analysis.fit.clusters import CORRELATED_RESIDUALS, INDEPENDENT
from analysis.fit.fit import Fit, fit_law
from analysis.fit.identified import said, said_interval
from analysis.fit.objectives import Robust, Space
from analysis.fit.selection import Sensitivity
from analysis.fit.selection import sensitivity as refits
from analysis.laws import LAWS, get_law
from analysis.laws.base import Law
from analysis.logs.cells import advice
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.read import Source, fresh_rows, read_table
from analysis.logs.table import OPTIONAL, Table
from core import cli
from core.errors import BadInput
from core.numbers import number

# How a column that says which rows are of one run may begin.
RUN_NAMES = ("run", "model", "name", "experiment", "job", "id", "trial", "checkpoint")
OTHER_SIZES = ("params_total", "params_non_embedding")  # definitions of N that --sensitivity tries


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exits 2 with one line where the table or a flag cannot be used."""
    cli.command(fit, arguments, "python -m analysis.fit", about="\n".join(help_lines()))


def help_lines() -> Iterator[str]:
    """What --help says before the flags: the laws with their formulas and sources, in 80 columns."""
    yield "Fit a scaling law to a table, with a certificate and with intervals."
    yield ""
    yield "laws:"
    for law in LAWS.values():
        head, *rest = textwrap.wrap(law.text, 56)
        yield f"  {law.name:20s} {head}"
        for line in (*rest, *textwrap.wrap(law.source, 54, initial_indent="  ", subsequent_indent="  ")):
            yield f"  {'':20s} {line}"


def fit(
    table: str,
    /,
    *,
    law: str = "chinchilla",
    robust: Robust = "huber",
    delta: float = 1e-3,
    space: Space | None = None,
    asymmetry: float = 1.0,
    signed_floor: bool = False,
    drop_worst: int = 0,
    bootstrap: int = 0,
    cluster: str | None = None,
    wild: bool = False,
    level: float = 0.95,
    seed: int = 0,
    fix: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    reading: RunFlags = RunTableFlags(),  # noqa: B008 (frozen)
    sensitivity: bool = False,
    out: Path | None = None,
) -> None:
    """Fit a scaling law to a table, with a certificate and with intervals.

    Args:
      table: CSV, JSON, parquet or the directory of a sweep
      law: one of the laws above
      robust: Huber, absolute or squared residuals
      delta: where Huber turns from square to absolute
      space: residuals of the logarithm (default for losses) or of the value itself
      asymmetry: weight of a row that is predicted too high over one predicted too low; above 1 follows the lower edge
      signed_floor: let the floor be negative, with --space linear, for losses from which something was taken off
      drop_worst: leave out that many rows of the largest loss
      bootstrap: resamples; without, asymptotic and profile intervals
      cluster: column whose rows of one label share their luck; run, where its labels repeat; none for independent rows
      wild: flip residuals instead of drawing rows
      level: of the intervals
      seed: of starts and resamples
      fix: hold a parameter at a value
      sensitivity: refit under other objectives and exclusions, beside the error
      out: write fit.json here
    """
    chosen = get_law(law)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed {seed} is not allowed; it is 0 to 2^32 - 1")
    asked = reading.reading()
    optional = optional_columns(chosen, cluster)
    label = cluster not in (None, INDEPENDENT, *optional_columns(chosen, None), chosen.target)
    needed = {*chosen.inputs, "weight", *asked.best_of}
    asked = dataclasses.replace(
        asked,
        signed=frozenset({chosen.target} if space == "linear" else ()),
        labels=frozenset({str(cluster)} if label else ()),
        spare=frozenset(optional) - needed - {cluster},
    )
    options: dict[str, Any] = {
        "robust": robust,
        "delta": delta,
        "space": space,
        "asymmetry": asymmetry,
        "signed_floor": signed_floor,
        "drop_worst": drop_worst,
        "fixed": cli.numbers(fix, "--fix"),
        "seed": seed,
    }
    console = Console(soft_wrap=True)

    def one(source: Source, group: int, target: Path | None) -> None:
        read = read_table(source, (chosen.target,), optional, reading=asked, group=group)
        read = read if "unique_tokens" in chosen.inputs else fresh_rows(read)
        refuse_missing_inputs(chosen, read)
        fitted = fit_law(
            chosen,
            read.columns,
            bootstrap=bootstrap,
            cluster=cluster,
            wild=wild,
            level=level,
            table_warnings=read.warnings,
            **options,
        )
        fitted = dataclasses.replace(fitted, warnings=(*fitted.warnings, *run_column(fitted.warnings, read)))
        tried = refits(chosen, read.columns, **options) if sensitivity else None
        for part in described(fitted, tried):
            console.print(part)
        if target is not None:
            stored = {**fitted.to_json(), **asked.to_json(), "input": read.source()}
            if tried is not None:
                stored["sensitivity"] = tried.to_json()
            write_result(target, stored)
            console.print(f"written: {target}", highlight=False)

    for_each_group(table, out, one)


def refuse_missing_inputs(law: Law, read: Table) -> None:
    """Raise BadInput where the table has not what the law reads, with advice on what it has."""
    known, _ = with_derived(law.inputs, read.columns)
    missing = [name for name in law.inputs if name not in known]
    if missing:
        left_out = [warning for warning in read.warnings if " was left out: " in warning]
        told = f"; {'; '.join(left_out)}" if left_out else advice(missing, read.header)
        present = ", ".join(read.header or sorted(read.columns))
        raise BadInput(
            f"{read.path}: law {law.name} needs the column {', '.join(missing)}; it has {present}{told}"
        )


def run_column(warnings: Sequence[str], read: Table) -> list[str]:
    """Where rows look like checkpoints of one run: the column that may say so."""
    named = [name for name in read.header if name.lower().startswith(RUN_NAMES)]
    if not named or "run" in read.columns or not any(CORRELATED_RESIDUALS in warning for warning in warnings):
        return []
    return [f"the column {named[0]} may say which rows are of one run: --column run={named[0]}"]


def optional_columns(law: Law, cluster: str | None) -> tuple[str, ...]:
    """Every column that may serve: inputs (some follow from others), labels, other definitions of N."""
    labels = [cluster] if cluster and cluster != INDEPENDENT else []
    return tuple(dict.fromkeys([*law.inputs, "params", "tokens", *OPTIONAL, *labels, *OTHER_SIZES]))


def described(fitted: Fit, tried: Sensitivity | None) -> Iterator[RenderableType]:
    """What the terminal shows: one row a parameter, then the certificate, then the warnings."""
    yield parameter_grid(fitted, tried)
    starts = fitted.starts
    yield (
        f"{fitted.n} rows, objective {fitted.value:.12g} ({fitted.objective.robust}, {fitted.objective.space}), "
        f"reached by {starts['reached_best']} of {starts['tried']} starts, {len(starts['other_minima'])} other "
        f"minima, scale-free gradient {starts['gradient']:.1e}, condition {starts['condition']:.2g}"
    )
    if fitted.derived and fitted.known:
        yield (
            f"compute-optimal: N grows as C^{fitted.derived['a_opt']:.4f}, D as C^{fitted.derived['b_opt']:.4f}"
        )
    elif fitted.derived:
        yield f"compute-optimal: not stated, since the law is not identified ({fitted.why_unknown})"
    if tried is not None:
        yield tried.grid()
    yield from (f"warning: {warning}" for warning in fitted.warnings)


def parameter_grid(fitted: Fit, tried: Sensitivity | None) -> Grid:
    """Estimate, error, interval and verdict of each parameter, and its range over other choices where tried."""
    grid = Grid(title=f"{fitted.law.name}: {fitted.law.text}", title_justify="left")
    error = f"standard error ({fitted.draws_kind})"
    for header in ("parameter", "estimate", error, f"{fitted.level:.0%} interval", "identified"):
        grid.add_column(header, justify="left" if header in ("parameter", "identified") else "right")
    if tried is not None:
        grid.add_column("range over choices", justify="right")
    for name in fitted.law.names:
        low, high = fitted.intervals[name]
        row = [name, fitted.said(name, 6)]
        if name in fitted.fixed:
            row += ["held", "", "held"]
        else:
            row += [number(fitted.standard_errors[name]), said_interval(fitted.law, name, (low, high), 4)]
            row.append("yes" if fitted.identified[name] else f"NO: {fitted.unknown[name]}")
        if tried is not None:
            row.append(" to ".join(said(fitted.law, name, end, 4) for end in tried.spans[name]))
        grid.add_row(*row)
    return grid
