"""The learning rate that is best for each shape, and whether it moves with width.

    python -m analysis.learning_rate runs/<sweep> [--out learning_rate.json] [--rule rule.json]
    python -m analysis.learning_rate TABLE --best-of params tokens [--params 1e9 --tokens 2e10]

Runs that differ in nothing but peak and seed are one group. Its best peak is the vertex of the parabola in log rate
through the lowest mean loss and its two neighbours. --rule writes what `--rule rule.json` of the experiments reads:
the best peak, and the choices that it was found under. Of a table, the best rates and batches of its cells also give
the laws lr = c N^a D^b and batch = c N^a D^b (analysis/learning_rate_law.py).
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands import write_result
from analysis.learning_rate_group import LEAST_RATES, best_rate
from analysis.learning_rate_law import laws_of_cells
from analysis.learning_rate_table import rates_of_table, table_sentences
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run, at, number
from core import cli
from core.errors import BadInput

SHAPE = ("width", "depth", "heads", "kv_heads", "head_width", "ff_width")


@dataclasses.dataclass(frozen=True)
class RateGroup:
    """A group of runs: one shape at several learning rates.

    Attributes:
      family: JSON of everything that the group shares with other shapes.
      parametrization, width, depth, params: of the model; params without embedding, with the head.
      optimizer: its name.
      rates: (R,) increasing.
      losses: (R,) mean final loss over seeds; infinite where a seed failed.
      best, best_loss: vertex of the parabola, or the lowest point where there is none.
      bracketed: whether higher loss was measured on both sides of the best peak.
    """

    family: str
    parametrization: str
    width: int
    depth: int
    params: float
    rates: np.ndarray
    losses: np.ndarray
    best: float
    best_loss: float
    bracketed: bool
    optimizer: str = "adamw"


def groups_of(sweep: SweepLogs) -> tuple[RateGroup, ...]:
    """Every group with at least three peaks, by family and then by size; empty where the sweep has none."""
    shapes: dict[str, list[tuple[Run, float, float]]] = {}
    for run in sweep.runs:
        rate = number(at(run.spec, "optim", "learning_rate"))
        loss = run.final() if run.status == "complete" else math.inf if run.status == "failed" else None
        if run.trunk or not rate or loss is None:
            continue
        shapes.setdefault(_shape(run), []).append((run, rate, loss))
    losses: dict[tuple[str, str], dict[float, list[float]]] = {}
    first: dict[tuple[str, str], Run] = {}
    for shape, members in shapes.items():
        if len({rate for _, rate, _ in members}) < LEAST_RATES:
            continue  # what else its runs differ in is dear to compare over many runs, and cannot matter
        for run, rate, loss in members:
            key = (_family(run), shape)
            first.setdefault(key, run)
            losses.setdefault(key, {}).setdefault(rate, []).append(loss)
    groups = [
        _group(key[0], first[key], points) for key, points in losses.items() if len(points) >= LEAST_RATES
    ]
    return tuple(
        sorted(
            (group for group in groups if group), key=lambda group: (group.family, group.params, group.depth)
        )
    )


def _shape(run: Run) -> str:
    return json.dumps([at(run.spec, "model", name) for name in SHAPE])


def _family(run: Run) -> str:
    """What a run shares with other shapes."""
    spec = json.loads(json.dumps(run.spec))
    spec.pop("seed", None)
    spec["optim"].pop("learning_rate", None)
    for name in SHAPE if isinstance(spec.get("model"), dict) else ():
        spec["model"].pop(name, None)
    return json.dumps(spec, sort_keys=True)


def _group(family: str, run: Run, points: Mapping[float, Sequence[float]]) -> RateGroup | None:
    rates = np.array(sorted(points))
    losses = np.array([float(np.mean(points[rate])) for rate in rates])
    if not np.isfinite(losses).any():
        return None
    best, best_loss, bracketed = best_rate(rates, losses)
    return RateGroup(
        family=family,
        parametrization=str(at(run.spec, "model", "parametrization") or "standard"),
        width=int(number(at(run.spec, "model", "width")) or 0),
        depth=int(number(at(run.spec, "model", "depth")) or 0),
        params=run.count() or 0.0,
        rates=rates,
        losses=losses,
        best=best,
        best_loss=best_loss,
        bracketed=bracketed,
        optimizer=str(at(run.spec, "optim", "name") or "adamw"),
    )


def families(groups: Sequence[RateGroup]) -> dict[str, list[RateGroup]]:
    """Groups that differ in shape only, {family: groups}, mup first."""
    ordered = sorted(groups, key=lambda group: (group.parametrization != "mup", group.family))
    return {
        family: [group for group in ordered if group.family == family]
        for family in dict.fromkeys(group.family for group in ordered)
    }


def family_name(group: RateGroup, groups: Sequence[RateGroup]) -> str:
    """The parametrization of a group, and its optimizer where `groups` have several."""
    several = len({one.optimizer for one in groups}) > 1
    return f"{group.parametrization} with {group.optimizer}" if several else group.parametrization


def sentences(groups: Sequence[RateGroup]) -> list[str]:
    """How far the best peak moves over the shapes of each family."""
    lines = []
    for members in families(groups).values():
        name = family_name(members[0], groups)
        if len(members) == 1:
            lines.append(f"Best peak under {name} at width {members[0].width}: {members[0].best:.3g}.")
            continue
        rates = [group.best for group in members]
        widths = [group.width for group in members]
        move = max(rates) / min(rates)
        open_ended = [str(group.width) for group in members if not group.bracketed]
        lines.append(
            f"Best peak under {name}: {rates[0]:.3g} at width {widths[0]}, {rates[-1]:.3g} at width {widths[-1]}; "
            f"it moves by a factor {move:.2f} over {max(widths) / min(widths):.3g} times the width"
            + (
                f", at least: at width {', '.join(open_ended)} it lies at the edge of the grid"
                if open_ended
                else ""
            )
            + "."
        )
    return lines


def to_json(groups: Sequence[RateGroup], source: Mapping[str, Any]) -> dict[str, Any]:
    """What learning_rate.json holds; a loss of null is a run that failed."""

    def entry(group: RateGroup) -> dict[str, Any]:
        losses = [loss if math.isfinite(loss) else None for loss in group.losses.tolist()]
        return {
            "parametrization": group.parametrization,
            "optimizer": group.optimizer,
            "width": group.width,
            "depth": group.depth,
            "params": group.params,
            "rates": group.rates.tolist(),
            "losses": losses,
            "best": group.best,
            "best_loss": group.best_loss,
            "bracketed": group.bracketed,
        }

    moves = [
        {
            "parametrization": members[0].parametrization,
            "widths": [group.width for group in members],
            "factor": max(group.best for group in members) / min(group.best for group in members),
        }
        for members in families(groups).values()
    ]
    return {"groups": [entry(group) for group in groups], "moves": moves, "input": dict(source)}


def rule_of(sweep: SweepLogs, groups: Sequence[RateGroup]) -> dict[str, Any]:
    """The rule that later sweeps read: the best peak under the choices of these runs.

    Under mup the peak is the geometric mean over shapes, one number for all sizes; under the standard parametrization
    it is the power law in parameters through them.

    Raises:
      BadInput: several families, a best peak at the edge of its grid, or too few sizes for a power law.
    """
    if len({group.family for group in groups}) != 1:
        raise BadInput(
            f"{sweep.path}: a rule comes from runs that differ in shape, peak and seed alone, with at least "
            f"{LEAST_RATES} peaks a shape; here are {len({group.family for group in groups})} such families"
        )
    for group in groups:
        if not group.bracketed:
            raise BadInput(
                f"{sweep.path}: at width {group.width} the lowest loss is at the edge of the peaks tried, "
                f"{group.rates[0]:g} to {group.rates[-1]:g}; try more of them"
            )
    spec = json.loads(groups[0].family)
    rule: dict[str, Any] = {"parametrization": groups[0].parametrization, "batch_tokens": spec["batch_tokens"]}
    independent = spec["optim"].get("decay", "coupled") == "independent"
    log_rates = np.log([group.best for group in groups])
    if rule["parametrization"] == "mup":
        rule |= {key: spec["model"][key] for key in ("base_width", "base_depth", "base_head_width")}
        rule["learning_rate_at_base"] = _rounded(math.exp(float(log_rates.mean())))
    else:
        sizes = np.log([group.params / 1e5 for group in groups])
        if len(set(sizes)) < 2:
            raise BadInput(
                f"{sweep.path}: the standard rule is a power law in size and needs at least two sizes"
            )
        slope, height = np.polyfit(sizes, log_rates, 1)
        rule["learning_rate_at_100k"] = _rounded(math.exp(height))
        rule["learning_rate_exponent"] = _rounded(-slope)
    if independent != (rule["parametrization"] == "mup"):
        raise BadInput(
            f"{sweep.path}: optim.decay={'independent' if independent else 'coupled'}: a rule decays independently "
            "under mup and coupled under the standard parametrization"
        )
    rule["decay_per_step" if independent else "weight_decay"] = spec["optim"]["weight_decay"]
    best = [
        {"width": group.width, "depth": group.depth, "params": group.params, "best": group.best}
        for group in groups
    ]
    return {
        "kind": "scaling rule",
        "rule": rule,
        "source": {"sweep": sweep.name, "sha256": sweep.sha256, "best": best},
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.learning_rate")


def command(
    sweep: Path,
    /,
    *,
    out: Path | None = None,
    rule: Path | None = None,
    params: float | None = None,
    tokens: float | None = None,
    reading: RunFlags = RunTableFlags(),  # noqa: B008 (frozen)
) -> None:
    """The best learning rate of each shape, and whether it moves with width.

    Args:
      sweep: the sweep's directory, runs/<sweep>, or a table with the columns learning_rate and loss
      out: where to write the result as JSON
      rule: where to write the rule that later sweeps read
      params: N of a run to come: its best rate by the law of the table's cells
      tokens: D of a run to come
    """
    asked = reading.reading()
    if not sweep.is_dir():
        if rule is not None:
            raise BadInput(f"--rule {rule}: a rule comes from the runs of a sweep, and {sweep} is no directory")
        table, cells, batch = rates_of_table(sweep, asked)
        laws = laws_of_cells(cells, batch)
        inputs = {name: value for name, value in (("params", params), ("tokens", tokens)) if value is not None}
        lines = [*table_sentences(cells), *laws.sentences(), *(laws.at(inputs) if inputs else [])]
        lines += [f"warning: {warning}" for warning in table.warnings]
        if out is not None:
            told = {"laws": laws.to_json(), "warnings": list(table.warnings), "input": table.source()}
            write_result(out, {"groups": [cell.to_json() for cell in cells], **told, **asked.to_json()})
        sys.stdout.write("\n".join(lines) + "\n")
        return
    if asked.rename:
        raise BadInput(f"{sweep}: columns of a sweep cannot be renamed")
    if asked.best_of or params is not None or tokens is not None:
        raise BadInput(f"{sweep}: --best-of, --params and --tokens are for tables, and this is a sweep")
    loaded = load_sweep(sweep)
    groups = groups_of(loaded)
    if not groups:
        raise BadInput(f"{sweep}: no shape has finished runs at {LEAST_RATES} learning rates")
    written = rule_of(loaded, groups) if rule else {}
    if out is not None:
        source = {"path": loaded.name, "sha256": loaded.sha256, "rows": len(loaded.runs)}
        write_result(out, to_json(groups, source))
    if rule is not None:
        write_result(rule, written)
    sys.stdout.write("\n".join(sentences(groups)) + "\n")


if __name__ == "__main__":
    main()
