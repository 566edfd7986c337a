"""`python launch.py plan --budget` and `plan SWEEP --next`: which runs make the interval of a forecast smallest.

python launch.py plan --budget 1e18 --target 1e21 --out plan.json    a grid for so many FLOPs, beside plain isoFLOP
python launch.py plan runs/quickstart --next 5 --target 1e15         the next runs, given those that exist
python launch.py run planned --plan plan.json                        trains what was chosen
"""

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import EXIT_COMPLETE, BadInput
from core.files import read_json, write_json
from core.numbers import short_count
from experiments.planner import FORMAT, Shape, nearest, shapes, smallest_params
from experiments.scaling import ScalingRule
from planning.design import NOISE, TRUNK_CORRELATION, Expectation, Prior, draw_laws, expect, laws_of_fit
from planning.grids import Grid, candidates, isoflop_grid
from planning.search import Limits, choose

LAWS = 32  # draws that a grid is chosen for
SHOWN_LAWS = 200  # draws that its expectation is taken over, others than those
RANGE = (2.0, 200.0)  # D / N of the runs to choose from; the plain grid has 2.5 to 160
PLAIN = ((5, 6), (4, 6), (4, 5), (3, 6), (3, 5), (3, 4), (2, 4), (2, 3))  # budgets and sizes a budget
STRUCTURES = ("auto", "runs", "trunks")


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line."""

    def error(self, message: str) -> Any:
        raise BadInput(f"{message} (see {self.prog} --help)")


def belongs_here(arguments: Sequence[str]) -> bool:
    """Whether these arguments of plan ask for a budget's grid or a sweep's next runs, not for an experiment's plan."""
    flags = {word.partition("=")[0] for word in arguments}
    first = arguments[0] if arguments else ""
    return first.startswith("--budget") or first.startswith("--target") or "/" in first or "--next" in flags


def main(arguments: Sequence[str]) -> int:
    """The command.

    Raises:
      BadInput: a number out of range, a file that cannot be used, or limits that leave no grid.
    """
    parser = Parser(
        prog="python launch.py plan", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("sweep", nargs="?", type=Path, help="runs/<sweep>, for --next")
    parser.add_argument("--budget", type=float, help="FLOPs of all new runs together")
    parser.add_argument("--target", type=float, help="FLOPs (6 N D) of the run that is to be forecast")
    parser.add_argument("--next", type=int, help="propose so many runs, given those of the sweep")
    parser.add_argument("--runs-at-most", type=int, default=30, help="runs of the grid (default: 30)")
    parser.add_argument("--seeds", type=int, default=1, help="most runs of one size and data size (default: 1)")
    parser.add_argument(
        "--structure", default="auto", help="runs, trunks (with branches), or auto: the better one"
    )
    parser.add_argument(
        "--noise", type=float, help=f"standard deviation of a run's log loss (default: {NOISE})"
    )
    parser.add_argument("--prior", type=Path, help="fit.json whose draws are the laws (default: a wide prior)")
    parser.add_argument(
        "--tokens-per-param", type=float, default=20.0, help="expected at the optimum (default: 20)"
    )
    parser.add_argument("--out", type=Path, help="write the chosen runs here, for `run planned --plan`")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    if any(word in ("-h", "--help") for word in arguments):
        parser.print_help()
        return EXIT_COMPLETE
    options = parser.parse_args(arguments)
    _check(options)
    result = next_runs(options) if options.next is not None else chosen_grid(options)
    if options.out is not None:
        try:
            write_json(options.out, result["plan"])
        except OSError as error:
            raise BadInput(f"--out={options.out}: cannot be written ({error.strerror})") from None
    if options.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        _show(result, options)
    return EXIT_COMPLETE


def _check(options: argparse.Namespace) -> None:
    for name in ("budget", "target", "noise", "tokens_per_param"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BadInput(f"--{name.replace('_', '-')}={value:g}: must be positive and finite")
    if options.target is None:
        raise BadInput("--target is needed: the FLOPs of the run that is to be forecast")
    if options.next is None and options.sweep is not None:
        raise BadInput(f"{options.sweep}: --next K is needed to plan more runs of a sweep")
    if options.next is None and options.budget is None:
        raise BadInput("--budget is needed: the FLOPs of the whole grid")
    if options.next is not None and options.sweep is None:
        raise BadInput(
            f"--next={options.next}: needs the sweep, as in python launch.py plan runs/quickstart --next 5"
        )
    if options.next is not None and options.next < 1:
        raise BadInput(f"--next={options.next}: must be at least 1")
    if options.budget is not None and options.next is None and options.target < options.budget:
        raise BadInput(f"--target={options.target:g}: must be at least the budget, {options.budget:g}")
    if options.runs_at_most < 6:
        raise BadInput(
            f"--runs-at-most={options.runs_at_most}: at least 6 are needed for a law of 5 parameters"
        )
    if not 1 <= options.seeds <= 100:
        raise BadInput(f"--seeds={options.seeds}: must be between 1 and 100")
    if options.structure not in STRUCTURES:
        raise BadInput(f"--structure={options.structure}: must be one of {', '.join(STRUCTURES)}")


def _laws(options: argparse.Namespace, reference: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Plausible laws to choose for, and others to judge by."""
    if options.prior is not None:
        value = read_json(options.prior)
        try:
            return laws_of_fit(value, LAWS, 0), laws_of_fit(value, SHOWN_LAWS, 1)
        except BadInput as error:
            raise BadInput(f"--prior={options.prior}: {error}") from None
    prior = Prior(tokens_per_param=options.tokens_per_param)
    return draw_laws(LAWS, reference, prior, 0), draw_laws(SHOWN_LAWS, reference, prior, 1)


def chosen_grid(options: argparse.Namespace) -> dict[str, Any]:
    """The best grid of a budget beside a plain isoFLOP grid of the same cost, both of shapes that can be trained."""
    budget, target, noise = options.budget, options.target, options.noise or NOISE
    rule = ScalingRule()
    plain = plain_grid(rule, budget, options.runs_at_most, options.tokens_per_param)
    ladder = shapes(rule, float(plain.params.min()) / 2, float(plain.params.max()) * 2)
    laws, shown = _laws(options, budget)
    grids = {"plain isoFLOP": _trainable(plain, ladder, budget)}
    pool = candidates({float(s.params): s.flops_per_token for s in ladder}, budget, RANGE)
    for name, trunks in (("chosen, runs", False), ("chosen, trunks and branches", True)):
        if options.structure in ("auto", "trunks" if trunks else "runs"):
            limits = Limits(
                budget, options.runs_at_most, options.seeds, trunks, TRUNK_CORRELATION if trunks else 0.0
            )
            grids[name] = choose(pool, laws, target, limits)
    each = {float(shape.params): shape.flops_per_token for shape in ladder}
    rows = [
        _row(name, grid, each, expect(
            shown, grid.params, grid.tokens, target, noise, grid.clusters, TRUNK_CORRELATION if grid.trunks else 0.0
        )) for name, grid in grids.items()
    ]  # fmt: skip
    best = min(rows[1:], key=lambda row: row["expected"]["half_width_90"]["forecast"] or math.inf)
    return {
        "budget": budget,
        "target": target,
        "noise": noise,
        "prior": str(options.prior) if options.prior else dataclasses.asdict(
            Prior(tokens_per_param=options.tokens_per_param)
        ),
        "trunk_correlation": TRUNK_CORRELATION,
        "grids": rows,
        "chosen": best["grid"],
        "narrower": _over(rows[0], best),
        "plan": _plan(options, grids[best["grid"]], best["expected"]),
    }  # fmt: skip


def plain_grid(rule: ScalingRule, budget: float, runs: int, tokens_per_param: float) -> Grid:
    """The plain isoFLOP grid: five budgets of six sizes, or the next smaller one that has no more runs than allowed and
    no size below the smallest shape.

    Raises:
      BadInput: the budget is too small for any.
    """
    smallest = smallest_params(rule)
    for budgets, sizes in PLAIN:
        grid = isoflop_grid(budget, budgets, sizes, tokens_per_param=tokens_per_param)
        if len(grid) <= runs and grid.params.min() > 0.8 * smallest:
            return grid
    raise BadInput(
        f"--budget={budget:g}: too small for a grid of at most {runs} runs: its best sizes lie below the smallest "
        f"shape, {smallest} parameters"
    )


def _trainable(grid: Grid, ladder: Sequence[Shape], budget: float) -> Grid:
    """A grid of ideal sizes as the nearest shapes, each at the FLOPs of its run."""
    flops = 6 * grid.params * grid.tokens
    found = [nearest(ladder, size) for size in grid.params.tolist()]
    params = np.array([float(shape.params) for shape in found])
    tokens = flops / np.array([shape.flops_per_token for shape in found])
    return Grid(params, tokens, grid.seeds)


def _row(name: str, grid: Grid, each: Mapping[float, float], expected: Expectation) -> dict[str, Any]:
    return {
        "grid": name,
        "runs": len(grid),
        "sizes": int(np.unique(grid.params).size),
        "flops": grid.flops(each),
        "largest_run_flops": max(
            each[n] * d for n, d in zip(grid.params.tolist(), grid.tokens.tolist(), strict=True)
        ),
        "expected": expected.to_json(),
        "list": grid.to_json(),
    }


def _over(plain: Mapping[str, Any], best: Mapping[str, Any]) -> float | None:
    ends = [row["expected"]["half_width_90"]["forecast"] for row in (plain, best)]
    return None if None in ends else ends[0] / ends[1]


def _plan(options: argparse.Namespace, grid: Grid, expected: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "budget": options.budget,
        "target": options.target,
        "structure": "trunks" if grid.trunks else "runs",
        "runs": grid.to_json(),
        "expected": expected,
    }


def next_runs(options: argparse.Namespace) -> dict[str, Any]:
    """The runs that would shrink the interval of the forecast most, given the finished runs of a sweep."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the fit of the existing runs takes no accelerator
    from analysis.fit.fit import fit_law
    from analysis.logs.load import load_sweep

    sweep = load_sweep(options.sweep)
    columns = sweep.table(optional=("flops", "seed")).columns
    n, d = columns["params"], columns["tokens"]
    inputs = {name: columns[name] for name in ("params", "tokens", "loss")}
    if options.prior is not None:
        laws, shown = _laws(options, 1.0)
        noise = options.noise or NOISE
    else:
        fit = fit_law("chinchilla", inputs, profile=False)
        laws, shown = laws_of_fit(fit.to_json(), LAWS, 0), laws_of_fit(fit.to_json(), SHOWN_LAWS, 1)
        noise = options.noise or max(fit.residual_sd, 1e-4)
    largest = float(columns["flops"].max()) if "flops" in columns else float((6 * n * d).max())
    budget = options.budget or options.next * largest
    if options.target < largest:
        raise BadInput(f"--target={options.target:g}: must be at least the largest run's FLOPs, {largest:.3g}")
    rule = ScalingRule()
    ladder = shapes(rule, float(n.min()), max(float(n.max()), math.sqrt(budget / 6 / RANGE[0])))
    ratios = (min(RANGE[0], float((d / n).min())), max(RANGE[1], float((d / n).max())))
    pool = candidates({float(s.params): s.flops_per_token for s in ladder}, budget, ratios, 1e-3, 1.0)
    grid = choose(pool, laws, options.target, Limits(budget, options.next, options.seeds), (n, d))
    first_seed = int(columns["seed"].max()) + 1 if "seed" in columns else 0
    grid = dataclasses.replace(grid, seeds=grid.seeds + first_seed)
    before = expect(shown, n, d, options.target, noise)
    after = expect(
        shown, np.concatenate([n, grid.params]), np.concatenate([d, grid.tokens]), options.target, noise
    )
    each = {float(shape.params): shape.flops_per_token for shape in ladder}
    existing = {
        "grid": f"the {n.size} runs of {options.sweep}", "runs": int(n.size), "sizes": int(np.unique(n).size),
        "flops": float(columns["flops"].sum()) if "flops" in columns else float((6 * n * d).sum()),
        "largest_run_flops": largest, "expected": before.to_json(), "list": [],
    }  # fmt: skip
    row = _row(f"with {len(grid)} more", grid, each, after)
    return {
        "budget": budget,
        "target": options.target,
        "noise": noise,
        "prior": str(options.prior or f"the fit of {options.sweep}"),
        "grids": [existing, row],
        "chosen": row["grid"],
        "narrower": _over(existing, row),
        "plan": _plan(options, grid, row["expected"]),
    }


def _show(result: Mapping[str, Any], options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    title = f"forecast of {result['target']:.3g} FLOPs, half-widths of expected 90% intervals"
    table = Table(title=title, box=None, header_style="bold", title_justify="left")
    for heading in ("grid", "runs", "sizes", "FLOPs", "largest run", "forecast", "alpha", "beta", "best size"):
        table.add_column(heading, justify="left" if heading == "grid" else "right", no_wrap=True)
    for row in result["grids"]:
        table.add_row(
            row["grid"], str(row["runs"]), str(row["sizes"]), f"{row['flops']:.3g}", f"{row['largest_run_flops']:.3g}",
            *half_widths(row["expected"]["half_width_90"]),
        )  # fmt: skip
    console.print(table)
    chosen = next(row for row in result["grids"] if row["grid"] == result["chosen"])
    console.print(f"{result['chosen']}:" if options.next is None else "the runs to add:")
    sizes: dict[float, list[str]] = {}
    for run in chosen["list"]:
        times = f" (seed {run['seed']})" if run["seed"] else ""
        sizes.setdefault(run["params"], []).append(short_count(run["tokens"]) + times)
    for size, tokens in sizes.items():
        console.print(f"  {short_count(size):>6} parameters on {', '.join(tokens)} tokens")
    if result["narrower"] is not None:
        console.print(
            f"the interval of the forecast is {result['narrower']:.2f} times narrower than the first row's"
        )
    console.print(
        f"noise of a run {result['noise']:.2g}; plausible laws: "
        + (result["prior"] if isinstance(result["prior"], str) else "the prior of planning/design.py")
        + "; the law is taken to hold over all these sizes"
    )
    if options.out is not None:
        more = f" --name {options.sweep.name}" if options.sweep else ""
        console.print(f"next: python launch.py run planned --plan {options.out}{more}")
    else:
        console.print("--out FILE writes the runs for python launch.py run planned --plan FILE")


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
