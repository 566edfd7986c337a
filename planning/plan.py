"""`python launch.py plan EXPERIMENT`: what a sweep would train, how long that takes here, and what it would teach.

python launch.py plan quickstart                         every run, its cost, the sweep's totals
python launch.py plan quickstart --target 1e15           and how well its law would forecast 1e15 FLOPs
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.codec import to_json
from core.epochs import Reading, repeated_line
from core.errors import EXIT_COMPLETE, BadInput
from core.files import read_json
from core.rundir import SweepDirectory
from experiments.command import AskedSweep
from experiments.spec import RunSpec
from launchers.budget import left_to_train, refuse_sum
from model.decode.size import cache_bytes, rows_at_once
from planning import memory, memory_of_sweep
from planning.assumed import AssumedSpeed
from planning.costs import Costs
from planning.design import TRUNK_CORRELATION, Prior, draw_laws, expect, laws_of_fit
from planning.flags import PlanFlags
from planning.noise import Noise, noise_here
from training.cost import counted, training_flops
from training.prepare import readings
from training.program import shape_of

SHOWN_LAWS = 64  # plausible laws over which the expected intervals are medians


def show(study: AskedSweep, flags: PlanFlags) -> int:
    """Print the plan, as tables and sentences or as JSON; returns the exit status."""
    plan = describe(study, flags)
    if flags.json:
        print(json.dumps(plan, indent=1))
    else:
        from planning.printed import print_plan  # brings rich, which --json is spared

        print_plan(plan)
    return EXIT_COMPLETE


def describe(study: AskedSweep, flags: PlanFlags) -> dict[str, Any]:
    """The whole plan as plain values: what --json prints."""
    specs, directory, cache = study.specs, study.directory, study.cache
    costs = Costs(specs, directory, cache, flags)
    states = {spec.run_id: SweepDirectory(directory).run(spec.run_id).is_complete() for spec in specs}
    known = readings(specs, cache)
    todo, elsewhere = left_to_train(specs, directory)
    if flags.budget_flops is not None:
        refuse_sum(todo, flags.budget_flops)
    runs = [
        {
            **_run(spec, costs, states[spec.run_id]),
            **_read(reading),
            "elsewhere": str(elsewhere[spec.run_id][0].path) if spec.run_id in elsewhere else None,
        }
        for spec, reading in zip(specs, known, strict=True)
    ]
    shapes = _shapes(specs, runs, costs, cache, flags)
    memory_of_sweep.refuse_too_large(specs, shapes, costs.device, flags)
    timeline = costs.timeline(todo)
    device_seconds = sum(timeline.busy_seconds) if timeline else None
    return {
        "experiment": study.name,
        "collapsed": study.sweep.collapsed,
        "directory": str(directory),
        "device": costs.device,
        "workers": costs.workers,
        "runs": runs,
        "shapes": shapes,
        "assumed": costs.throughput.said if isinstance(costs.throughput, AssumedSpeed) else None,
        "every_run": flags.every_run,
        "repeated_text": repeated_line(known),
        "expected": expectation(specs, flags, directory.parent),
        "totals": {
            "specs": sum(study.sweep.given.values()),
            "runs": len(specs),
            "to_train": len(todo),
            "elsewhere": len(elsewhere),
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


def _read(reading: Reading | None) -> dict[str, Any]:
    """Keys of a run; null where its corpus is not built yet."""
    names = [field.name for field in dataclasses.fields(Reading)]
    return dict.fromkeys(names) if reading is None else dataclasses.asdict(reading)


def _run(spec: RunSpec, costs: Costs, done: bool) -> dict[str, Any]:
    ledger, seconds = counted(spec), costs.seconds(spec)
    return {
        "run": spec.run_id,
        "kind": spec.kind,
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


def _shapes(
    specs: Sequence[RunSpec], runs: Sequence[dict[str, Any]], costs: Costs, cache: Path, flags: PlanFlags
) -> list[dict[str, Any]]:
    """A row a shape, in the order in which they come first; `runs` are the rows of `specs`."""
    rows = []
    counts: dict[Any, list[tuple[RunSpec, dict[str, Any]]]] = {}
    for spec, run in zip(specs, runs, strict=True):
        counts.setdefault(shape_of(spec), []).append((spec, run))
    for pairs in counts.values():
        spec, members = pairs[0][0], [run for _, run in pairs]
        left = [run for run in members if not (run["complete"] or run["elsewhere"])]
        estimate = costs.estimate(spec)
        ledger = counted(spec)
        mesh = memory_of_sweep.mesh_of(spec, costs.device, flags)
        need = memory.predicted_bytes(spec, costs.device, cache, mesh, compile=flags.compile_memory)
        measured = estimate.peak_bytes if estimate and estimate.peak_bytes and not flags.mesh else None
        rows.append(
            {
                "shape": f"{spec.model.width}x{spec.model.depth}",
                "runs": len(members),
                "to_train": len(left),
                "tokens": [fold(run["tokens"] for run in members) for fold in (min, max)],
                "learning_rates": [fold(run["learning_rate"] for run in members) for fold in (min, max)],
                "flops": sum(run["flops"] for run in left),
                "seconds": sum(run["seconds"] for run in left) if estimate else None,
                "cost": costs.cost(sum(run["seconds"] for run in left)) if estimate else None,
                "params": dict(ledger["params"]),
                "flops_per_token": ledger["flops_per_token"]["exact"],
                "sequence_length": spec.data.sequence_length,
                "batch_tokens": spec.batch_tokens,
                "mesh": list(mesh),
                "state_bytes": need.state,
                "memory_bytes": measured or need.total,
                "memory_basis": "compiled" if measured else need.basis,
                "decoding_cache_bytes": decoding_cache_bytes(spec),
                "tokens_per_second": estimate.tokens_per_second if estimate else None,
                "compile_seconds": estimate.first_seconds if estimate else None,
                "basis": estimate.basis if estimate else None,
                "why": estimate.why if estimate else "nothing measured",
            }
        )
    return rows


def decoding_cache_bytes(spec: RunSpec) -> int:
    """Of the keys and values that a batch of texts of the trained length keeps when the run is sampled from."""
    length = spec.data.sequence_length
    return cache_bytes(spec.model, rows_at_once(spec.model, length), length)


def expectation(specs: Sequence[RunSpec], flags: PlanFlags, runs: Path) -> dict[str, Any]:
    """What the whole sweep would teach about a Chinchilla law, for plausible laws (planning/design.py).

    Args:
      runs: folder of sweeps, whose residuals say how noisy a run is here.

    Raises:
      BadInput: a flag out of range, or a prior that cannot be used.
    """
    for name in ("target", "noise"):
        value = getattr(flags, name)
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"--{name}={value:g}: must be positive and finite")
    ends = [spec for spec in specs if not spec.is_trunk]
    if not ends:
        return {}
    params = np.array([float(_params(spec)) for spec in ends])
    tokens = np.array([float(spec.tokens) for spec in ends])
    largest = float((6 * params * tokens).max())
    target = flags.target or 10 * largest
    if target < largest:
        raise BadInput(f"--target={target:g}: must be at least the largest run's FLOPs, {largest:.3g}")
    if flags.prior is None:
        laws = draw_laws(SHOWN_LAWS, largest, Prior(), 1)
    else:
        try:
            laws = laws_of_fit(read_json(flags.prior), SHOWN_LAWS, 1)
        except BadInput as error:
            raise BadInput(f"--prior={flags.prior}: {error}") from None
    clusters = np.array([spec.parent if spec.is_branch else spec.run_id for spec in ends])
    correlation = TRUNK_CORRELATION if any(spec.is_branch for spec in ends) else 0.0
    if flags.noise:
        noise = Noise(flags.noise, flags.noise, "--noise")
    else:
        noise = noise_here(runs, ends[0].data.corpus)
    low, high = (
        expect(laws, params, tokens, target, sd, clusters, correlation).to_json()
        for sd in (noise.low, noise.high)
    )
    return {
        **low,
        "half_width_90_high": high["half_width_90"],
        "noise": noise.low,
        "noise_high": noise.high,
        "noise_from": noise.source,
        "trunk_correlation": correlation,
    }


def _params(spec: RunSpec) -> int:
    return counted(spec)["params"]["non_embedding_plus_head"]
