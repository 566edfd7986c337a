"""How a plan reads on a terminal: its tables of shapes and runs, and what its totals say in words."""

import math
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from core.numbers import short_bytes, short_count

MOST_ROWS = 200  # of runs on a terminal; --json has them all
WIDTH = 80  # of all but the table of runs
RUN_WIDTH = 120


def wide_console() -> Console:
    """As wide as the terminal; 80 columns in a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what planning.plan.describe says."""
    console = wide_console()
    table = _shape_table(plan)
    if console.measure(table, options=console.options.update(width=500)).maximum > console.width:
        table.padding = (0, 1, 0, 0)
    console.print(table)
    if plan["every_run"]:
        wide = Console(width=RUN_WIDTH, highlight=False, markup=False)
        wide.print(_run_table(plan))
        if len(plan["runs"]) > MOST_ROWS:
            console.print(f"and {len(plan['runs']) - MOST_ROWS} more runs (--json has them all)")
    for sentence in _sentences(plan):
        for line in sentence.splitlines():  # neither a path nor a command is broken
            print(textwrap.fill(line, console.width, break_long_words=False, break_on_hyphens=False))  # noqa: T201


def _shape_table(plan: Mapping[str, Any]) -> Table:
    """One row a shape: at most 80 columns, those of the costs last."""
    shapes = plan["shapes"]
    priced = any(row["cost"] is not None for row in shapes)
    partly = any(row["to_train"] < row["runs"] for row in shapes)
    table = _table(f"{plan['experiment']}: {len(plan['runs'])} runs of {len(shapes)} shapes")
    _columns(table, "shape", left=True)
    runs = "to run" if partly else "runs"
    _columns(table, runs, "params", "tokens", "FLOPs", "memory", "tok/s", "time")
    if priced:
        _columns(table, "cost")
    for row in shapes:
        rate = row["tokens_per_second"]
        table.add_row(
            row["shape"],
            f"{row['to_train']}/{row['runs']}" if partly else str(row["runs"]),
            short_count(row["params"]["non_embedding_plus_head"]),
            _from_to(*map(short_count, row["tokens"])),
            f"{row['flops']:.1e}",
            ("" if row["memory_basis"] == "compiled" else "~") + short_bytes(row["memory_bytes"]),
            ("" if row["basis"] == "measured" else "~") + short_count(rate) if rate else "?",
            _long(row["seconds"]),
            *([f"{row['cost']:.3g}"] if priced else []),
        )
    return table


def _long(seconds: float | None) -> str:
    """Days where they are many: 12.5 d."""
    days = (seconds or 0.0) / 86_400
    return f"{days:.3g} d" if days >= 4 else short_seconds(seconds)


def _from_to(low: str, high: str) -> str:
    """One value or a range; a unit that both have is said once."""
    if low == high:
        return low
    same = low[-1] == high[-1] and low[-1].isalpha()
    return f"{low[:-1] if same else low}-{high}"


def _run_table(plan: Mapping[str, Any]) -> Table:
    priced = all(run["cost"] is not None for run in plan["runs"])
    table = _table(f"{plan['experiment']}: {len(plan['runs'])} runs")
    _columns(table, "run", "kind", left=True)
    _columns(table, "params", "tokens", "trains", "D/N", "batch", "peak lr", "FLOPs", "time")
    if priced:
        _columns(table, "cost")
    _columns(table, "state", left=True)
    for run in plan["runs"][:MOST_ROWS]:
        table.add_row(
            run["run"],
            run["kind"],
            short_count(run["params"]),
            short_count(run["tokens"]),
            short_count(run["trained_tokens"]),
            f"{run['tokens'] / run['params']:.3g}",
            short_count(run["batch_tokens"]),
            f"{run['learning_rate']:.3g}",
            f"{run['flops']:.2e}",
            short_seconds(run["seconds"]),
            *([f"{run['cost']:.4g}"] if priced else []),
            "complete" if run["complete"] else "elsewhere" if run["elsewhere"] else "to train",
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, box=None, header_style="bold", title_justify="left", padding=(0, 2, 0, 0), pad_edge=False
    )


def _columns(table: Table, *headings: str, left: bool = False) -> None:
    for heading in headings:
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)


def _sentences(plan: Mapping[str, Any]) -> list[str]:
    totals = plan["totals"]
    said = [plan["collapsed"]] if plan["collapsed"] else []
    if totals["shared_tokens"]:
        said.append(
            f"branches share {short_count(totals['shared_tokens'])} tokens with their trunks: trained once, "
            "counted once"
        )
    said.append(
        f"{totals['to_train']} to train, {totals['flops']:.3e} FLOPs (exact); params: non-embedding plus head; in "
        f"{plan['directory']}"
    )
    if most := max((row.get("decoding_cache_bytes", 0) for row in plan["shapes"]), default=0):
        said.append(
            f"to write text with a run (launch.py sample): up to {short_bytes(most)} of keys and values beside it"
        )
    if totals["elsewhere"]:
        first = next(run["elsewhere"] for run in plan["runs"] if run["elsewhere"])
        said.append(
            f"{totals['elsewhere']} more are complete in other sweeps, such as {first}: run copies them where files "
            "and text are the same, and they are not counted here"
        )
    if plan["assumed"]:
        said.append(plan["assumed"])
    if totals["wall_seconds"] is None:
        said.append(
            f"time unknown: nothing measured on {plan['device']}; this measures it:\n"
            f"python launch.py bench {plan['experiment']}"
        )
    elif totals["to_train"]:
        money = f", cost {totals['cost']:.4g}" if totals["cost"] is not None else ""
        packed = f", {totals['packs']} packs" if totals["packs"] else ""
        said.append(
            f"wall time {short_seconds(totals['wall_seconds'])} with {plan['workers']} workers on "
            f"{plan['device']}{packed} "
            f"(compiling {short_seconds(totals['compile_seconds'])} of all workers' "
            f"{short_seconds(totals['device_seconds'])}, less where the cache has the programs; the corpus is not in "
            f"it){money}"
        )
    if plan["repeated_text"]:
        said.append(plan["repeated_text"])
    elif any(run["epochs"] is None for run in plan["runs"]):
        said.append(
            "epochs unknown until the corpus is built (python -m data.cache; run builds it and says them)"
        )
    said += _what_it_teaches(plan["expected"])
    for basis in ("interpolated", "extrapolated"):
        shapes = [row for row in plan["shapes"] if row["basis"] == basis]
        if shapes:
            names = ", ".join(row["shape"] for row in shapes[:6]) + (" ..." if len(shapes) > 6 else "")
            said.append(f"{basis}, not measured: the speed of {names} ({shapes[0]['why']})")
    return said


def _what_it_teaches(expected: Mapping[str, Any]) -> list[str]:
    if not expected:
        return []
    widths = expected["half_width_90"]
    if widths["forecast"] is None:
        return [
            "these runs do not determine a law L = E + A / N^alpha + B / D^beta: too few sizes or data sizes"
        ]
    low, high = expected["noise"], expected["noise_high"]
    ends = zip(half_widths(widths), half_widths(expected["half_width_90_high"]), strict=True)
    forecast, alpha, beta, size = (least if low == high else f"{least} to {most}" for least, most in ends)
    noise = f"{100 * low:.2g}%" if low == high else f"{100 * low:.2g}% to {100 * high:.2g}%"
    return [
        f"expected 90% intervals: alpha {alpha}, beta {beta}; at {expected['target_flops']:.2g} FLOPs the best size "
        f"{size} and its loss {forecast}; they assume that the law holds, as in medians over plausible laws "
        f"(planning/design.py), and runs that land within {noise} of it ({expected['noise_from']})"
    ]


def short_seconds(seconds: float | None) -> str:
    """12.3 s, 4:05 or 2:03:04; ? where unknown."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def half_widths(values: Mapping[str, float | None]) -> list[str]:
    """Forecast in percent, alpha, beta, and the factor of the best size; `not known` where nothing is determined."""

    def said(name: str, text: str) -> str:
        value = values[name]
        return "not known" if value is None or value > 20 else text

    return [
        said("forecast", f"±{100 * (values['forecast'] or 0):.2g}%"),
        said("alpha", f"±{values['alpha'] or 0:.2g}"),
        said("beta", f"±{values['beta'] or 0:.2g}"),
        said("params_opt", f"x/÷ {math.exp(min(values['params_opt'] or 0, 20)):.3g}"),
    ]
