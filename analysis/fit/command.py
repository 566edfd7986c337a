"""The command line of analysis.fit: a table in, fit.json and a printed table out."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from analysis.commands import Parser, write_result
from analysis.fit.fit import Fit, fit_law
from analysis.fit.objectives import ROBUST, SPACES
from analysis.fit.selection import Sensitivity, sensitivity
from analysis.laws import LAWS, get_law
from analysis.laws.base import Law
from analysis.logs.read import read_table
from analysis.logs.table import OPTIONAL, Table
from core.errors import BadInput, exit_on_bad_input


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m analysis.fit`."""
    laws = "\n".join(f"  {law.name:22s} {law.text}\n{'':24s} {law.source}" for law in LAWS.values())
    result = Parser(
        prog="python -m analysis.fit",
        description="Fit a scaling law to a table, with a certificate and with intervals.",
        epilog=f"laws:\n{laws}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("table", help="CSV, JSON lines or the directory of a sweep")
    add("--law", default="chinchilla", help="one of the laws below")
    add("--robust", default="huber", choices=ROBUST, help="Huber, absolute or squared residuals")
    add("--delta", type=float, default=1e-3, help="where Huber turns from square to absolute")
    add(
        "--space", choices=SPACES, help="residuals of the logarithm (default for losses) or of the value itself"
    )
    add("--drop-worst", type=int, default=0, metavar="K", help="leave out the K rows of the largest loss")
    add(
        "--bootstrap",
        type=int,
        default=0,
        metavar="R",
        help="resamples; without, asymptotic and profile intervals",
    )
    add("--cluster", metavar="COLUMN", help="resample rows of one label together, e.g. run")
    add("--wild", action="store_true", help="flip residuals instead of drawing rows")
    add("--level", type=float, default=0.95, help="of the intervals")
    add("--seed", type=int, default=0)
    add("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter at a value")
    add("--column", action="append", default=[], metavar="NAME=HEADER", help="read column HEADER as NAME")
    add(
        "--sensitivity",
        action="store_true",
        help="refit under other objectives and exclusions, beside the error",
    )
    add("--out", metavar="FILE", help="write fit.json here")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exits 2 with one line where the table or a flag cannot be used."""
    with exit_on_bad_input():
        asked = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
        table, fit, tried = run(asked)
        console = Console(soft_wrap=True)
        for line in described(fit, tried):
            console.print(line)
        if asked.out:
            stored = {**fit.to_json(), "input": table.source()}
            if tried is not None:
                stored["sensitivity"] = tried.to_json()
            write_result(asked.out, stored)
            console.print(f"written: {asked.out}", highlight=False)


def run(asked: argparse.Namespace) -> tuple[Table, Fit, Sensitivity | None]:
    """Read, fit, and, where asked, fit again under other choices."""
    law = get_law(asked.law)
    if asked.seed < 0 or asked.seed >= 2**32:
        raise BadInput(f"seed {asked.seed} is not allowed; it is 0 to 2^32 - 1")
    renamed = {header: name for name, header in pairs(asked.column, "--column", "NAME=HEADER")}
    fixed = {}
    for name, value in pairs(asked.fix, "--fix", "NAME=VALUE"):
        try:
            fixed[name] = float(value)
        except ValueError:
            raise BadInput(f"--fix {name}={value}: {value!r} is not a number") from None
    table = read_table(
        asked.table, required=(law.target,), optional=optional_columns(law, asked.cluster),
        rename=renamed or None,
    )  # fmt: skip
    options: dict[str, Any] = {
        "robust": asked.robust, "delta": asked.delta, "space": asked.space, "drop_worst": asked.drop_worst,
        "fixed": fixed, "seed": asked.seed,
    }  # fmt: skip
    fit = fit_law(
        law, table.columns, bootstrap=asked.bootstrap, cluster=asked.cluster, wild=asked.wild, level=asked.level,
        table_warnings=table.warnings, **options,
    )  # fmt: skip
    return table, fit, sensitivity(law, table.columns, **options) if asked.sensitivity else None


def optional_columns(law: Law, cluster: str | None) -> tuple[str, ...]:
    """Every column that may serve: inputs (some follow from others), labels, other definitions of N."""
    extra = [name for name in (cluster,) if name]
    other_sizes = ["params_total", "params_non_embedding"]
    return tuple(dict.fromkeys([*law.inputs, "params", "tokens", *OPTIONAL, *extra, *other_sizes]))


def pairs(texts: Sequence[str], flag: str, form: str) -> list[tuple[str, str]]:
    """NAME=VALUE arguments."""
    result = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise BadInput(f"{flag} {text!r} is not of the form {form}")
        result.append((name.strip(), value.strip()))
    return result


def described(fit: Fit, tried: Sensitivity | None) -> list[Any]:
    """What the terminal shows: one row a parameter, then the certificate, then the warnings."""
    kind = "bootstrap" if fit.draws_kind == "bootstrap" else "asymptotic"
    grid = Grid(title=f"{fit.law.name}: {fit.law.text}", title_justify="left")
    for header in (
        "parameter",
        "estimate",
        f"standard error ({kind})",
        f"{fit.level:.0%} interval",
        "identified",
    ):
        grid.add_column(header, justify="left" if header in ("parameter", "identified") else "right")
    if tried is not None:
        grid.add_column("range over choices", justify="right")
    for name in fit.law.names:
        low, high = fit.intervals[name]
        held = name in fit.fixed
        row = [
            name,
            f"{fit.parameters[name]:.6g}",
            "held" if held else f"{fit.standard_errors[name]:.3g}",
            "" if held else f"{low:.4g} to {high:.4g}",
            "held" if held else ("yes" if fit.identified[name] else "NO"),
        ]
        if tried is not None:
            row.append("{:.4g} to {:.4g}".format(*tried.spans[name]))
        grid.add_row(*row)
    starts = fit.starts
    lines: list[Any] = [grid]
    lines.append(
        f"{fit.n} rows, objective {fit.value:.12g} ({fit.objective.robust}, {fit.objective.space}), reached by "
        f"{starts['reached_best']} of {starts['tried']} starts, {len(starts['other_minima'])} other minima, "
        f"scale-free gradient {starts['gradient']:.1e}, condition {starts['condition']:.2g}"
    )
    if fit.derived:
        lines.append(
            f"compute-optimal: N grows as C^{fit.derived['a_opt']:.4f}, D as C^{fit.derived['b_opt']:.4f}"
        )
    if tried is not None:
        lines.append(tried.grid())
    lines.extend(f"warning: {warning}" for warning in fit.warnings)
    return lines
