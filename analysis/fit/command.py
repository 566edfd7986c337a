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
from analysis.fit.back_test import trust
from analysis.fit.checks import with_derived
from analysis.fit.clusters import CORRELATED_RESIDUALS, INDEPENDENT
from analysis.fit.fit import Fit, fit_law
from analysis.fit.identified import said, said_interval
from analysis.fit.objectives import Robust, Space
from analysis.fit.selection import Sensitivity, check_one_target
from analysis.fit.selection import sensitivity as refits
from analysis.fit.supported import LawComparison
from analysis.fit.supported import compare as compare_on
from analysis.laws import LAWS, compared_laws, get_law
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
USUAL = "chinchilla"
# Compared beside the usual ones: whether two exponents, or two variables, are needed; all there is for FLOPs alone.
SIMPLER = tuple(LAWS[name] for name in ("chinchilla_tied", "power_flops", "power_flops_floor"))
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
    law: str | None = None,
    compare: tuple[str, ...] | None = None,
    back_test: bool = False,
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
      law: one of the laws above; chinchilla, or with --compare the one that the table supports
      compare: hold these laws to an information criterion and a back-test; the usual ones of the table if none is named
      back_test: leave the largest runs out, predict them, and keep how many intervals held
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
    compared = [get_law(name) for name in dict.fromkeys([*([law] if law else []), *(compare or ())])]
    named = get_law(law or USUAL)
    chosen = compared[0] if compared else named
    if compare:
        check_one_target(compared)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed {seed} is not allowed; it is 0 to 2^32 - 1")
    asked = reading.reading()
    laws = compared or [chosen]
    optional = optional_columns(laws, cluster)
    label = cluster not in (None, INDEPENDENT, *optional_columns(laws, None), chosen.target)
    needed = {*(chosen.inputs if compare is None else ()), "weight", *asked.best_of}
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
        read = read if any("unique_tokens" in law.inputs for law in laws) else fresh_rows(read)
        asked_for = {"bootstrap": bootstrap, "cluster": cluster, "wild": wild, "level": level, **options}
        found = None
        if compare is None:
            refuse_missing_inputs(chosen, read)
            fitted = fit_law(chosen, read.columns, table_warnings=read.warnings, **asked_for)
        else:
            found = compared_of(compared, read, law, asked_for)
            told = next((one.fit for one in found.ranked if one.fit.law.name == law), found.supported)
            fitted = dataclasses.replace(told, warnings=tuple(dict.fromkeys((*read.warnings, *told.warnings))))
            console.print(found.grid())
            console.print(found.sentence, highlight=False)
            for name, why in found.refused:
                console.print(f"not fitted: {name}: {why}", highlight=False)
        fitted = dataclasses.replace(fitted, warnings=(*fitted.warnings, *run_column(fitted.warnings, read)))
        if back_test or found is not None:
            kept = found.trust_of(fitted.law.name) if found is not None else None
            tested = kept or trust(fitted.law, read.columns, whole_fit=fitted, cluster=cluster, **options)
            fitted = dataclasses.replace(
                fitted,
                back_test=tested.to_json() if tested.tests else None,
                warnings=(*fitted.warnings, *tested.warnings()),
            )
            if found is None:
                console.print(tested.sentence(), highlight=False)
        tried = refits(fitted.law, read.columns, **options) if sensitivity else None
        for part in described(fitted, tried):
            console.print(part)
        if target is not None:
            stored = {**fitted.to_json(), **asked.to_json(), "input": read.source()}
            if found is not None:
                stored["compared"] = found.to_json()
            if tried is not None:
                stored["sensitivity"] = tried.to_json()
            write_result(target, stored)
            console.print(f"written: {target}", highlight=False)

    for_each_group(table, out, one)


def compared_of(named: Sequence[Law], read: Table, law: str | None, options: dict[str, Any]) -> LawComparison:
    """The comparison of these laws on a table, or of the usual ones where none but `law` was named.

    Raises:
      BadInput: a law that was named needs a column that is not there, or fewer than two laws can be read.
    """
    for one in named:
        refuse_missing_inputs(one, read)
    usual = list(named)
    if len(named) <= (law is not None):
        there, _ = with_derived(("tokens", "flops"), read.columns)
        usual += [one for one in (*compared_laws(there), *SIMPLER) if set(one.inputs) <= there.keys()]
        usual = list(dict.fromkeys(usual))
    if len(usual) < 2:
        raise BadInput("--compare: at least 2 laws are needed, e.g. --compare chinchilla kaplan")
    return compare_on(usual, read.columns, usual=law or USUAL, **options)


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


def optional_columns(laws: Sequence[Law], cluster: str | None) -> tuple[str, ...]:
    """Every column that may serve: inputs (some follow from others), labels, other definitions of N."""
    inputs = [name for law in laws for name in law.inputs]
    labels = [cluster] if cluster and cluster != INDEPENDENT else []
    return tuple(dict.fromkeys([*inputs, "params", "tokens", *OPTIONAL, *labels, *OTHER_SIZES]))


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
