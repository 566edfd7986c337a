"""Choose runs: those that make the interval of a forecast smallest.

python launch.py plan --budget 1e18 --target 1e21 --out plan.json
    a grid for so many FLOPs, beside a plain isoFLOP grid of the same cost
python launch.py plan runs/quickstart --next 5 --target 1e15 --out plan.json
    the next runs, given those that exist
python launch.py run planned --plan plan.json
    trains what was chosen
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from core import cli
from core.bounds import Allowed
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import read_json, write_json
from core.numbers import short_count
from experiments.planner import FORMAT, TrainableSize, nearest, shapes, smallest_params
from experiments.scaling import ScalingRule
from planning.design import NOISE, TRUNK_CORRELATION, Expectation, Prior, draw_laws, expect, laws_of_fit
from planning.flags import Flops, LogLossNoise
from planning.grids import Grid, candidates, isoflop_grid
from planning.noise import Noise, noise_here
from planning.printed import half_widths, wide_console
from planning.search import Limits, choose

LAWS = 32  # draws that a grid is chosen for
SHOWN_LAWS = 200  # draws that its expectation is taken over, others than those
RANGE = (2.0, 200.0)  # D / N of the runs to choose from; the plain grid has 2.5 to 160
PLAIN = ((5, 6), (4, 6), (4, 5), (3, 6), (3, 5), (3, 4), (2, 4), (2, 3))  # budgets and sizes a budget
STRUCTURES = ("auto", "runs", "trunks")
RUNS = Path("runs")  # sweeps whose residuals say how noisy a run is here


@dataclasses.dataclass(frozen=True)
class BudgetFlags:
    """What to choose runs for.

    Attributes:
      sweep: runs/<sweep>, for --next.
      budget: FLOPs of all new runs together.
      target: FLOPs (6 N D) of the run that is to be forecast.
      next: propose so many runs, given those of the sweep.
      runs_at_most: runs of the grid.
      seeds: most runs of one size and data size.
      structure: runs, trunks (with branches), or auto: the better one.
      noise: standard deviation of a run's log loss; where none, that of the sweep's fit, or of finished sweeps in
        runs/, or a range that is assumed.
      prior: fit.json whose draws are the plausible laws; where none, a wide prior, or the sweep's fit.
      tokens_per_param: expected at the optimum.
      out: file to write the chosen runs to, for `run planned --plan`.
      json: everything as JSON.
    """

    sweep: tyro.conf.Positional[Path | None] = None
    budget: Flops = None
    target: Flops = None
    next: Annotated[int | None, Allowed(1, 1000)] = None
    runs_at_most: Annotated[int, Allowed(6, 1000, "a law has 5 parameters")] = 30
    seeds: Annotated[int, Allowed(1, 100)] = 1
    structure: str = "auto"
    noise: LogLossNoise = None
    prior: Path | None = None
    tokens_per_param: Annotated[float, Allowed(1e-3, 1e6)] = 20.0
    out: Path | None = None
    json: bool = False


def main(arguments: Sequence[str]) -> int:
    """The command; returns the exit status.

    Raises:
      BadInput: a number out of range, a file that cannot be used, or limits that leave no grid.
    """
    flags = cli.parse(BudgetFlags, arguments, "python launch.py plan", about=str(__doc__))
    result = _answer(flags)
    if flags.out is not None:
        with writes(flags.out):
            write_json(flags.out, result["plan"])
    if flags.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        _show(result, flags)
    return EXIT_COMPLETE


def _answer(flags: BudgetFlags) -> dict[str, Any]:
    """The grid of a budget, or the next runs of a sweep, whichever the flags ask for."""
    _check_ranges(flags)
    if flags.target is None:
        raise BadInput("--target is needed: the FLOPs of the run that is to be forecast")
    if flags.next is None:
        if flags.sweep is not None:
            raise BadInput(f"{flags.sweep}: --next K is needed to plan more runs of a sweep")
        if flags.budget is None:
            raise BadInput("--budget is needed: the FLOPs of the whole grid")
        if flags.target < flags.budget:
            raise BadInput(f"--target={flags.target:g}: must be at least the budget, {flags.budget:g}")
        return chosen_grid(flags.budget, flags.target, flags)
    if flags.sweep is None:
        raise BadInput(
            f"--next={flags.next}: needs the sweep, as in python launch.py plan runs/quickstart --next 5"
        )
    return next_runs(flags.sweep, flags.next, flags.target, flags)


def _check_ranges(flags: BudgetFlags) -> None:
    if flags.structure not in STRUCTURES:
        raise BadInput(f"--structure={flags.structure}: must be one of {', '.join(STRUCTURES)}")


def _wider(result: Mapping[str, Any]) -> str:
    """Where the noise comes from, and what the intervals would be where it is higher."""
    low, high = result["noise"], result.get("noise_high", result["noise"])
    more = f" (at {high:.2g} the intervals are {high / low:.3g} times as wide)" if high > low else ""
    return f"{more}, {result['noise_from']}" if "noise_from" in result else more


def _laws(flags: BudgetFlags, reference: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Plausible laws to choose for, and others to judge by."""
    if flags.prior is not None:
        value = read_json(flags.prior)
        try:
            return laws_of_fit(value, LAWS, 0), laws_of_fit(value, SHOWN_LAWS, 1)
        except BadInput as error:
            raise BadInput(f"--prior={flags.prior}: {error}") from None
    prior = Prior(tokens_per_param=flags.tokens_per_param)
    return draw_laws(LAWS, reference, prior, 0), draw_laws(SHOWN_LAWS, reference, prior, 1)


def chosen_grid(budget: float, target: float, flags: BudgetFlags) -> dict[str, Any]:
    """The best grid of a budget beside a plain isoFLOP grid of the same cost, both of shapes that can be trained."""
    rule = ScalingRule()
    known = Noise(flags.noise, flags.noise, "--noise") if flags.noise else noise_here(RUNS, rule.data.corpus)
    noise = known.low
    plain = plain_grid(rule, budget, flags.runs_at_most, flags.tokens_per_param)
    ladder = shapes(rule, float(plain.params.min()) / 2, float(plain.params.max()) * 2)
    laws, shown = _laws(flags, budget)
    grids = {"plain isoFLOP": _trainable(plain, ladder, budget)}
    pool = candidates({float(s.params): s.flops_per_token for s in ladder}, budget, RANGE)
    for name, trunks in (("chosen, runs", False), ("chosen, trunks and branches", True)):
        if flags.structure in ("auto", "trunks" if trunks else "runs"):
            limits = Limits(
                budget, flags.runs_at_most, flags.seeds, trunks, TRUNK_CORRELATION if trunks else 0.0
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
        "noise_high": known.high,
        "noise_from": known.source,
        "prior": str(flags.prior) if flags.prior else dataclasses.asdict(
            Prior(tokens_per_param=flags.tokens_per_param)
        ),
        "trunk_correlation": TRUNK_CORRELATION,
        "grids": rows,
        "chosen": best["grid"],
        "narrower": _over(rows[0], best),
        "plan": _plan(budget, target, grids[best["grid"]], best["expected"]),
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


def _trainable(grid: Grid, ladder: Sequence[TrainableSize], budget: float) -> Grid:
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


def _plan(budget: float | None, target: float, grid: Grid, expected: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "budget": budget,
        "target": target,
        "structure": "trunks" if grid.trunks else "runs",
        "runs": grid.to_json(),
        "expected": expected,
    }


def next_runs(directory: Path, count: int, target: float, flags: BudgetFlags) -> dict[str, Any]:
    """The runs that would shrink the interval of the forecast most, given the finished runs of a sweep."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the fit of the existing runs takes no accelerator
    from analysis.fit.fit import fit_law  # brings JAX, which the grid of a budget is spared
    from analysis.logs.load import load_sweep
    from analysis.logs.read import fresh_rows

    sweep = load_sweep(directory)
    table = fresh_rows(sweep.table(optional=("flops", "seed", "unique_tokens")))
    columns = table.columns
    n, d = columns["params"], columns["tokens"]
    inputs = {name: columns[name] for name in ("params", "tokens", "loss")}
    if flags.prior is not None:
        laws, shown = _laws(flags, 1.0)
        noise = flags.noise or NOISE
    else:
        fit = fit_law("chinchilla", inputs, profile=False)
        laws, shown = laws_of_fit(fit.to_json(), LAWS, 0), laws_of_fit(fit.to_json(), SHOWN_LAWS, 1)
        noise = flags.noise or max(fit.residual_sd, 1e-4)
    largest = float(columns["flops"].max()) if "flops" in columns else float((6 * n * d).max())
    budget = flags.budget or count * largest
    if target < largest:
        raise BadInput(f"--target={target:g}: must be at least the largest run's FLOPs, {largest:.3g}")
    rule = ScalingRule()
    ladder = shapes(rule, float(n.min()), max(float(n.max()), math.sqrt(budget / 6 / RANGE[0])))
    ratios = (min(RANGE[0], float((d / n).min())), max(RANGE[1], float((d / n).max())))
    pool = candidates({float(s.params): s.flops_per_token for s in ladder}, budget, ratios, 1e-3, 1.0)
    grid = choose(pool, laws, target, Limits(budget, count, flags.seeds), (n, d))
    first_seed = int(columns["seed"].max()) + 1 if "seed" in columns else 0
    grid = dataclasses.replace(grid, seeds=grid.seeds + first_seed)
    before = expect(shown, n, d, target, noise)
    after = expect(shown, np.concatenate([n, grid.params]), np.concatenate([d, grid.tokens]), target, noise)
    each = {float(shape.params): shape.flops_per_token for shape in ladder}
    existing = {
        "grid": f"the {n.size} runs of {directory}", "runs": int(n.size), "sizes": int(np.unique(n).size),
        "flops": float(columns["flops"].sum()) if "flops" in columns else float((6 * n * d).sum()),
        "largest_run_flops": largest, "expected": before.to_json(), "list": [],
    }  # fmt: skip
    row = _row(f"with {len(grid)} more", grid, each, after)
    return {
        "budget": budget,
        "target": target,
        "noise": noise,
        "prior": str(flags.prior or f"the fit of {directory}"),
        "warnings": list(table.warnings),
        "grids": [existing, row],
        "chosen": row["grid"],
        "narrower": _over(existing, row),
        "plan": _plan(flags.budget, target, grid, row["expected"]),
    }


def _show(result: Mapping[str, Any], flags: BudgetFlags) -> None:
    console = wide_console()
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
    console.print(f"{result['chosen']}:" if flags.next is None else "the runs to add:")
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
        f"noise of a run {result['noise']:.2g}{_wider(result)}; plausible laws: "
        + (result["prior"] if isinstance(result["prior"], str) else "the prior of planning/design.py")
        + "; the law is taken to hold over all these sizes"
    )
    for warning in result.get("warnings", ()):
        console.print(f"warning: {warning}")
    if flags.out is not None:
        more = f" --name {flags.sweep.name}" if flags.sweep else ""
        console.print(f"next: python launch.py run planned --plan {flags.out}{more}")
    else:
        console.print("--out FILE writes the runs for python launch.py run planned --plan FILE")
