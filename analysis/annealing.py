"""The loss curve of a learning-rate schedule, from the curves of finished runs with other schedules.

    python -m analysis.annealing curves.csv --out annealing.json
    python -m analysis.annealing curves.csv --predict schedule.csv --curve predicted.csv
    python -m analysis.annealing runs/SWEEP --params 1e6

Tissue et al. 2024 (arXiv 2408.11029): L(s) = L_0 + A S1(s)^-alpha - C S2(s) (analysis/laws/annealing.py), one model
size and one batch at a time. A table has the columns step, learning_rate (or lr), loss and, where it holds several
curves, run. Of a sweep, held-out losses at every mark of the runs of one size are taken. A schedule has step and
learning_rate; where it has a loss as well, the prediction is compared with it.
"""

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.commands import write_result
from analysis.fit.fit import Fit, fit_law
from analysis.learning_rate_table import OTHER_NAMES
from analysis.logs.cells import read_cells
from analysis.logs.flags import Flags, TableFlags
from analysis.logs.load import load_sweep
from analysis.logs.table import TableReading, table_of_file
from analysis.schedules import rate_of_each_step, sums_of_schedule
from core import cli
from core.errors import BadInput, writes
from core.files import write_atomic
from core.numbers import number

RATE = "learning_rate"
VALIDATION = "val/loss"
NEAR = 0.01  # relative difference of parameter counts that are one size


@dataclass(frozen=True)
class LossCurve:
    """One run: steps (R,), the rate at each, and the loss there (empty for a schedule without one)."""

    run: str
    steps: np.ndarray
    rates: np.ndarray
    losses: np.ndarray


def curves_of_table(path: Path, reading: TableReading, needs_loss: bool = True) -> list[LossCurve]:
    """The curves of a table, by run.

    Raises:
      BadInput: a column is missing, or a cell cannot be read.
    """
    header, rename = read_cells(path).columns, dict(reading.rename)
    other = [name for name in OTHER_NAMES if name in header]
    if RATE not in header and RATE not in rename and len(other) == 1:
        rename[RATE] = other[0]
    has_loss = needs_loss or "loss" in header or "loss" in rename
    required = ("step", RATE, "loss") if has_loss else ("step", RATE)
    asked = TableReading(rename, reading.drop_missing, signed=frozenset({RATE}))
    columns = table_of_file(path, required, ("run",), asked).columns
    labels = columns.get("run", np.full(columns["step"].size, ""))
    curves = []
    for label in dict.fromkeys(labels.tolist()):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(columns["step"][rows], kind="stable")]
        losses = columns["loss"][rows] if has_loss else np.zeros(0)
        curves.append(LossCurve(str(label), columns["step"][rows], columns[RATE][rows], losses))
    return curves


def curves_of_sweep(path: Path, params: float | None) -> list[LossCurve]:
    """Held-out losses at every mark of the complete runs of one size, with the rate there.

    Raises:
      BadInput: no such runs, or several sizes and none named.
    """
    sweep = load_sweep(path)
    runs = [run for run in sweep.runs if run.status == "complete" and run.count()]
    sizes = sorted({float(run.count() or 0.0) for run in runs})
    if params is None and len(sizes) > 1:
        raise BadInput(
            f"{path}: the law is of one size, and the sweep has {len(sizes)}; name one with --params: "
            f"{', '.join(f'{size:.6g}' for size in sizes)}"
        )
    wanted = params if params is not None else (sizes[0] if sizes else 0.0)
    chosen = [run.run for run in runs if abs(float(run.count() or 0.0) / wanted - 1) <= NEAR] if wanted else []
    metrics, losses = sweep.metrics(chosen).frame, sweep.evaluations().frame
    curves = []
    for name in chosen:
        trained = metrics.filter((pl.col("run") == name) & pl.col("lr").is_not_null()).sort("tokens")
        found = losses.filter((pl.col("run") == name) & (pl.col("name") == VALIDATION)).sort("tokens")
        if trained.height < 2 or found.height < 2:
            continue
        tokens, step, lr = (trained[column].to_numpy() for column in ("tokens", "step", "lr"))
        at = found["tokens"].to_numpy()
        inside = (at >= tokens[0]) & (at <= tokens[-1])
        steps = np.round(np.interp(at[inside], tokens, step))
        curves.append(LossCurve(name, steps, np.interp(steps, step, lr), found["value"].to_numpy()[inside]))
    if not curves:
        raise BadInput(f"{path}: no complete run of {wanted:g} parameters has a curve of held-out losses")
    return curves


def columns_of_curves(curves: Sequence[LossCurve], memory: float) -> dict[str, np.ndarray]:
    """Inputs of the law at every row of every curve, and its run and loss."""
    sums, falls = [], []
    for curve in curves:
        at = curve.steps.astype(int)
        total, fallen = sums_of_schedule(rate_of_each_step(curve.steps, curve.rates, int(at[-1])), memory)
        sums.append(total[at])
        falls.append(fallen[at])
    return {
        "lr_sum": np.concatenate(sums),
        "lr_fallen": np.concatenate(falls),
        "loss": np.concatenate([curve.losses for curve in curves]),
        "run": np.concatenate([np.full(curve.steps.size, curve.run) for curve in curves]),
    }


def fit_curves(curves: Sequence[LossCurve], memories: Sequence[float], **options: Any) -> tuple[Fit, float]:
    """The law through all curves, and the memory (of those given) that leaves the lowest objective.

    Raises:
      BadInput: a memory that is not within 0 and 1, schedules that never come down, or what `fit_law` refuses.
    """
    best: tuple[Fit, float] | None = None
    for memory in memories:
        if not 0 <= memory < 1:
            raise BadInput(f"--memory {memory:g}: must be at least 0 and below 1")
        columns = columns_of_curves(curves, memory)
        if np.ptp(columns["lr_fallen"]) == 0:
            raise BadInput(
                "no learning rate of these curves comes down after its peak: what annealing gains is not told; "
                "add a curve of a schedule that decays"
            )
        fit = fit_law("annealing", columns, **options)
        if best is None or fit.value < best[0].value:
            best = fit, memory
    assert best is not None
    return best


def predict_curve(fit: Fit, memory: float, curve: LossCurve) -> np.ndarray:
    """The loss at each row of a schedule."""
    columns = columns_of_curves([LossCurve(curve.run, curve.steps, curve.rates, curve.steps)], memory)
    return fit.predict({name: columns[name] for name in fit.law.inputs})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.annealing")


def command(
    curves: Path,
    /,
    *,
    memory: tuple[float, ...] = (0.999,),
    skip: int = 0,
    params: float | None = None,
    cluster: str = "none",
    predict: Path | None = None,
    curve: Path | None = None,
    reading: Flags = TableFlags(),  # noqa: B008 (frozen)
    out: Path | None = None,
) -> None:
    """The loss curve of a learning-rate schedule, from curves of other schedules.

    Args:
      curves: table with step, learning_rate, loss (and run), or the directory of a sweep
      memory: lambda, how much of a fall of the rate is left one step later; of several the best is taken
      skip: leave out rows before this step: a warmup is not part of the law
      params: of a sweep, the size whose runs are taken
      cluster: run, to take the rows of one run as dependent, which needs several runs; none for independent rows
      predict: table with step and learning_rate (and loss, to compare) of another schedule
      curve: CSV file for the predicted curve
      reading: of the tables
      out: write the fit here
    """
    if curve is not None and predict is None:
        raise BadInput("--curve is for the prediction; name a schedule with --predict")
    asked = reading.reading()
    found = curves_of_sweep(curves, params) if curves.is_dir() else curves_of_table(curves, asked)
    try:
        fit, best = fit_curves(_without_first(found, skip), memory, cluster=cluster)
    except BadInput as error:
        raise BadInput(f"{curves}: {error}") from None
    fitted = ", ".join(
        f"{name} = {number(fit.parameters[name], 4)} [{number(low, 4)}, {number(high, 4)}]"
        for name, (low, high) in fit.intervals.items()
    )
    lines = [f"{fit.law.text}, lambda {best:g}: {fitted} ({fit.n} rows of {len(found)} curves)"]
    result: dict[str, Any] = {**fit.to_json(), "memory": best, "curves": [one.run for one in found]}
    if cluster == "none":
        lines.append(
            "rows of a curve are taken as independent: where neighbours agree, intervals are too narrow"
        )
    lines += [f"warning: {line}" for line in fit.warnings]
    if predict is not None:
        lines += _predicted(fit, best, predict, curve, asked, result)
    if out is not None:
        write_result(out, result)
    sys.stdout.write("\n".join(lines) + "\n")


def _without_first(curves: Sequence[LossCurve], skip: int) -> list[LossCurve]:
    """Curves without their losses before a step; their rates count from the first row on."""
    if skip <= 0:
        return list(curves)
    kept = []
    for one in curves:
        peak = np.maximum.accumulate(one.rates)[-1]
        rows = one.steps >= skip
        if rows.any():
            first = int(np.flatnonzero(rows)[0])
            if int(np.argmax(one.rates)) < first and not math.isclose(one.rates[:first].min(), peak):
                raise BadInput(
                    f"--skip {skip}: the rate of run {one.run or '1'} has come down before that step"
                )
            kept.append(LossCurve(one.run, one.steps[rows], one.rates[rows], one.losses[rows]))
    if not kept:
        raise BadInput(f"--skip {skip}: no row is left")
    return kept


def _predicted(
    fit: Fit, memory: float, path: Path, curve: Path | None, reading: TableReading, result: dict[str, Any]
) -> list[str]:
    lines, text = [], io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "step", RATE, "loss"])
    told: list[Mapping[str, Any]] = []
    for one in curves_of_table(path, reading, needs_loss=False):
        loss = predict_curve(fit, memory, one)
        writer.writerows(zip([one.run] * loss.size, one.steps.astype(int), one.rates, loss, strict=True))
        of = f" of {one.run}" if one.run else ""
        lines.append(f"predicted{of}: loss {loss[-1]:.4f} at step {int(one.steps[-1])}")
        entry: dict[str, Any] = {"run": one.run, "final": float(loss[-1])}
        if one.losses.size:
            errors = loss - one.losses
            entry |= {"error": float(errors[-1]), "mean_absolute_error": float(np.abs(errors).mean())}
            lines[-1] += f", measured {one.losses[-1]:.4f}; mean absolute error {np.abs(errors).mean():.4f}"
        told.append(entry)
    result["predicted"] = told
    if curve is not None:
        with writes(curve):
            write_atomic(curve, text.getvalue())
    return lines


if __name__ == "__main__":
    main()
