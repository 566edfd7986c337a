"""`python launch.py plan`: what a sweep would train, how long that takes here, and what it would teach.

python launch.py plan quickstart                         every run, its cost, the sweep's totals
python launch.py plan quickstart --target 1e15           and how well its law would forecast 1e15 FLOPs
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.codec import to_json
from core.errors import BadInput
from core.files import read_json
from core.numbers import short_bytes, short_count
from core.rundir import SweepDirectory
from experiments.spec import RunSpec, Sweep
from launchers.local.devices import places, visible_gpus
from launchers.packs import measured_sizes, pack_gain, parse_pack
from planning import budget as planning_budget
from planning import memory, throughput
from planning import memory_of_sweep as planning_memory
from planning.simulate import Timeline, simulate
from planning.throughput import Estimate, Throughput
from training.cost import counted, training_flops
from training.packs.size import known_rates
from training.program import shape_of

SHOWN_LAWS = 64  # plausible laws over which the expected intervals are medians
MOST_ROWS = 200  # of runs on a terminal; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of plan beside those of every verb."""
    parser.add_argument("--json", action="store_true", help="the plan as JSON, every RunSpec whole")
    parser.add_argument("--workers", type=int, help="runs at a time (default: as `run` would start here)")
    parser.add_argument(
        "--cores-per-worker", type=int, default=1, help="CPU threads of one worker (default: 1)"
    )
    parser.add_argument(
        "--pack",
        default="auto",
        help="runs of one shape as one program: auto (as measured by earlier runs), off, or the most of a pack "
        "(default: auto)",
    )
    parser.add_argument("--device", help="kind of device in the throughput table (default: this machine's)")
    parser.add_argument(
        "--throughput", type=Path, help="another table than throughput.json of the cache folder"
    )
    parser.add_argument(
        "--target", type=float, help="FLOPs (6 N D) of a forecast (default: 10 times the largest run's)"
    )
    parser.add_argument(
        "--noise", type=float, help="expected standard deviation of a run's log loss (default: 0.005)"
    )
    parser.add_argument(
        "--prior", type=Path, help="fit.json whose draws are the plausible laws (default: planning/design.py)"
    )
    planning_memory.add_arguments(parser)
    parser.add_argument("--price", type=float, help="of one device for one hour, in any currency")


def with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    """The flags of plan that another verb (run --dry-run) does not have."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **vars(options)})


class Costs:
    """Seconds of every run on one kind of device, or that nothing was measured there.

    Raises:
      BadInput: a flag that is out of range, or needs a table that is not there.
    """

    def __init__(self, specs: Sequence[RunSpec], directory: Path, options: argparse.Namespace):
        if options.price is not None and not 0 <= options.price < float("inf"):
            raise BadInput(f"--price={options.price}: must be at least 0")
        if options.throughput is not None and not options.throughput.exists():
            raise BadInput(
                f"--throughput={options.throughput}: no such file; python launch.py bench writes one"
            )
        self.pack, self.cache = parse_pack(options.pack), options.cache
        self.price = options.price
        table = throughput.read_table(options.throughput or options.cache / throughput.FILE)
        gpus = [] if options.device else visible_gpus()
        self.device = options.device or throughput.device_here(gpus)
        known = sorted({row.device for row in table})
        if options.device and options.device not in known:
            raise BadInput(f"--device={options.device}: the table knows {', '.join(known) or 'no device'}")
        on_processor = self.device.startswith("cpu")
        if options.device:
            self.workers = options.workers or 1
            if self.workers < 1:
                raise BadInput(f"--workers={self.workers}: must be at least 1")
        else:
            self.workers = len(places(len(specs), options.workers, options.cores_per_worker))
        threads = options.cores_per_worker if on_processor else 0
        finished = throughput.from_runs(directory, specs, self.device)
        self.throughput = Throughput(table, self.device, threads, self.workers, finished)
        if options.price is not None and not self.throughput:
            raise BadInput(
                f"--price={options.price:g}: no throughput table for {self.device}; python launch.py bench "
                "EXPERIMENT measures one"
            )

    def estimate(self, spec: RunSpec) -> Estimate | None:
        return self.throughput.estimate(spec)

    def seconds(self, spec: RunSpec) -> float | None:
        estimate = self.estimate(spec)
        return None if estimate is None else estimate.seconds(spec)

    def cost(self, seconds: float | None) -> float | None:
        return None if self.price is None or seconds is None else self.price * seconds / 3600

    def timeline(self, todo: Sequence[RunSpec]) -> Timeline | None:
        """None where some shape has no estimate."""
        if any(self.estimate(spec) is None for spec in todo):
            return None
        devices = 0 if self.device.startswith("cpu") else 1
        rates = {
            key: next(iter(known_rates(spec, devices, self.cache, self.device).values()), {})
            for key, spec in {shape_of(spec): spec for spec in todo}.items()
        }
        return simulate(
            todo,
            self._known,
            self.workers,
            most=measured_sizes(todo, self.pack, devices, self.cache, self.workers, self.device),
            gain=lambda spec, members: pack_gain(rates[shape_of(spec)], members),
        )

    def _known(self, spec: RunSpec) -> Estimate:
        estimate = self.estimate(spec)
        assert estimate is not None
        return estimate


def expectation(specs: Sequence[RunSpec], options: argparse.Namespace) -> dict[str, Any]:
    """What the whole sweep would teach about a Chinchilla law, for plausible laws (planning/design.py).

    Raises:
      BadInput: a flag out of range, or a prior that cannot be used.
    """
    import numpy as np

    from planning.design import NOISE, TRUNK_CORRELATION, Prior, draw_laws, expect, laws_of_fit

    for name in ("target", "noise"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"--{name}={value:g}: must be positive and finite")
    ends = [spec for spec in specs if not spec.is_trunk]
    if not ends:
        return {}
    params = np.array([float(_params(spec)) for spec in ends])
    tokens = np.array([float(spec.tokens) for spec in ends])
    largest = float((6 * params * tokens).max())
    target = options.target or 10 * largest
    if target < largest:
        raise BadInput(f"--target={target:g}: must be at least the largest run's FLOPs, {largest:.3g}")
    if options.prior is None:
        laws = draw_laws(SHOWN_LAWS, largest, Prior(), 1)
    else:
        try:
            laws = laws_of_fit(read_json(options.prior), SHOWN_LAWS, 1)
        except BadInput as error:
            raise BadInput(f"--prior={options.prior}: {error}") from None
    clusters = np.array([spec.parent or spec.run_id for spec in ends])
    correlation = TRUNK_CORRELATION if any(spec.parent for spec in ends) else 0.0
    noise = options.noise or NOISE
    found = expect(laws, params, tokens, target, noise, clusters, correlation).to_json()
    return {**found, "noise": noise, "trunk_correlation": correlation}


def _params(spec: RunSpec) -> int:
    return counted(spec.model, spec.data.sequence_length)["params"]["non_embedding_plus_head"]


def describe(name: str, sweep: Sweep, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The whole plan as plain values: what --json prints."""
    specs = list(sweep)
    costs = Costs(specs, directory, options)
    states = {spec.run_id: SweepDirectory(directory).run(spec.run_id).is_complete() for spec in specs}
    runs = [_run(spec, costs, states[spec.run_id]) for spec in specs]
    todo = [spec for spec in specs if not states[spec.run_id]]
    shapes = _shapes(specs, costs, options)
    planning_memory.refuse_too_large(specs, shapes, costs.device, options)
    timeline = costs.timeline(todo)
    device_seconds = sum(timeline.busy_seconds) if timeline else None
    return {
        "experiment": name,
        "directory": str(directory),
        "device": costs.device,
        "workers": costs.workers,
        "runs": runs,
        "shapes": shapes,
        "expected": expectation(specs, options),
        "totals": {
            "runs": len(specs),
            "to_train": len(todo),
            "flops": sum(map(training_flops, todo)),
            "tokens": sum(spec.trained_tokens for spec in todo),
            "shared_tokens": sum(spec.tokens - spec.trained_tokens for spec in specs),
            "wall_seconds": timeline.wall_seconds if timeline else None,
            "device_seconds": device_seconds,
            "compile_seconds": timeline.compile_seconds if timeline else None,
            "cost": costs.cost(device_seconds),
            "packs": timeline.packs if timeline else None,
        },
    }


def _run(spec: RunSpec, costs: Costs, done: bool) -> dict[str, Any]:
    ledger, seconds = counted(spec.model, spec.data.sequence_length), costs.seconds(spec)
    return {
        "run": spec.run_id,
        "kind": "trunk" if spec.is_trunk else "branch" if spec.parent else "run",
        "params": ledger["params"]["non_embedding_plus_head"],
        "params_by_convention": dict(ledger["params"]),
        "tokens": spec.tokens,
        "trained_tokens": spec.trained_tokens,
        "flops": training_flops(spec),
        "batch_tokens": spec.batch_tokens,
        "learning_rate": spec.optim.learning_rate,
        "seconds": seconds,
        "cost": costs.cost(seconds),
        "complete": done,
        "spec": to_json(spec),
    }


def _shapes(specs: Sequence[RunSpec], costs: Costs, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    counts: dict[Any, list[RunSpec]] = {}
    for spec in specs:
        counts.setdefault(shape_of(spec), []).append(spec)
    for members in counts.values():
        spec, estimate = members[0], costs.estimate(members[0])
        ledger = counted(spec.model, spec.data.sequence_length)
        mesh = planning_memory.mesh_of(spec, costs.device, options)
        need = memory.predicted_bytes(spec, costs.device, options.cache, mesh, compile=options.compile_memory)
        measured = estimate.peak_bytes if estimate and estimate.peak_bytes and not options.mesh else None
        rows.append(
            {
                "shape": f"{spec.model.width}x{spec.model.depth}",
                "runs": len(members),
                "params": dict(ledger["params"]),
                "flops_per_token": ledger["flops_per_token"]["exact"],
                "sequence_length": spec.data.sequence_length,
                "batch_tokens": spec.batch_tokens,
                "mesh": list(mesh),
                "state_bytes": need.state,
                "memory_bytes": measured or need.total,
                "memory_basis": "compiled" if measured else need.basis,
                "tokens_per_second": estimate.tokens_per_second if estimate else None,
                "compile_seconds": estimate.first_seconds if estimate else None,
                "basis": estimate.basis if estimate else None,
                "why": estimate.why if estimate else "nothing measured",
            }
        )
    return rows


def show(name: str, sweep: Sweep, directory: Path, options: argparse.Namespace) -> None:
    """Print the plan."""
    plan = describe(name, sweep, directory, options)
    if options.json:
        print(json.dumps(plan, indent=1))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    console.print(_shape_table(plan))
    console.print(_run_table(plan, options.price is not None))
    if len(plan["runs"]) > MOST_ROWS:
        console.print(f"and {len(plan['runs']) - MOST_ROWS} more runs (--json has them all)")
    for line in _sentences(plan):
        console.print(line)


def _shape_table(plan: dict[str, Any]) -> Any:
    table = _table(f"{plan['experiment']}: {len(plan['shapes'])} shapes")
    _columns(table, "shape", left=True)
    _columns(table, "runs", "total", "non-emb.", "+ head", "FLOPs/token", "memory", "tokens/s", "compile")
    _columns(table, "speed is", left=True)
    for row in plan["shapes"]:
        rate, compiling = row["tokens_per_second"], row["compile_seconds"]
        table.add_row(
            row["shape"],
            str(row["runs"]),
            short_count(row["params"]["total"]),
            short_count(row["params"]["non_embedding"]),
            short_count(row["params"]["non_embedding_plus_head"]),
            f"{row['flops_per_token']:.3g}",
            ("" if row["memory_basis"] == "compiled" else "~") + short_bytes(row["memory_bytes"]),
            short_count(rate) if rate else "?",
            f"{compiling:.0f} s" if compiling is not None else "?",
            row["basis"] or "unknown",
        )
    return table


def _run_table(plan: dict[str, Any], priced: bool) -> Any:
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
            "complete" if run["complete"] else "to train",
        )
    return table


def _table(title: str) -> Any:
    from rich.table import Table

    return Table(title=title, box=None, header_style="bold", title_justify="left")


def _columns(table: Any, *headings: str, left: bool = False) -> None:
    for heading in headings:
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)


def _sentences(plan: dict[str, Any]) -> list[str]:
    totals = plan["totals"]
    said = []
    if totals["shared_tokens"]:
        said.append(
            f"branches share {short_count(totals['shared_tokens'])} tokens with their trunks: trained once, "
            "counted once"
        )
    said.append(
        f"{totals['to_train']} to train, {totals['flops']:.3e} FLOPs (exact); params: non-embedding plus head; in "
        f"{plan['directory']}"
    )
    if totals["wall_seconds"] is None:
        said.append(
            f"time unknown: nothing measured on {plan['device']}; python launch.py bench {plan['experiment']} "
            "measures it"
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
    said += _what_it_teaches(plan["expected"])
    for basis in ("interpolated", "extrapolated"):
        shapes = [row for row in plan["shapes"] if row["basis"] == basis]
        if shapes:
            names = ", ".join(row["shape"] for row in shapes[:6]) + (" ..." if len(shapes) > 6 else "")
            said.append(f"{basis}, not measured: the speed of {names} ({shapes[0]['why']})")
    return said


def _what_it_teaches(expected: dict[str, Any]) -> list[str]:
    if not expected:
        return []
    widths = expected["half_width_90"]
    if widths["forecast"] is None:
        return [
            "these runs do not determine a law L = E + A / N^alpha + B / D^beta: too few sizes or data sizes"
        ]
    forecast, alpha, beta, size = planning_budget.half_widths(widths)
    return [
        f"expected 90% intervals: alpha {alpha}, beta {beta}; at {expected['target_flops']:.2g} FLOPs the best size "
        f"{size} and its loss {forecast} (medians over plausible laws, noise {expected['noise']:.2g}; "
        "planning/design.py)"
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


def bench(name: str, sweep: Sweep, options: argparse.Namespace) -> None:
    """Measure the shapes of a sweep and write them to the throughput table."""
    from launchers.local.launch import LocalOptions
    from planning.measure import measure
    from training.prepare import prepare

    if not 0 < options.seconds <= 3600:
        raise BadInput(f"--seconds={options.seconds:g}: must be above 0 and at most 3600")
    specs = list(sweep)
    prepare(specs, options.cache)
    local = LocalOptions(options.cache, options.workers, options.cores_per_worker)
    rows = measure(specs, local, options.seconds, lambda line: print(line, flush=True))
    path = options.cache / throughput.FILE
    print(f"{name}: {len(rows)} shapes measured, {throughput.write_rows(path, rows)} rows in {path}")
