"""Pairs of two metrics of the same models, from one table or from two, and the law that leads from one to the other."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import UseAppendAction, arg

from analysis.commands import write_result
from analysis.fit.command import described
from analysis.fit.fit import Fit, fit_law
from analysis.fit.objectives import Robust
from analysis.laws.base import Law
from analysis.logs.flags import Flags, TableFlags
from analysis.logs.read import read_table
from analysis.logs.settings import groups_of_rows
from analysis.logs.table import Table, TableReading
from core import cli
from core.errors import BadInput

MATCHED_BY = ("params", "tokens")  # what tells models apart where nothing else is said


@dataclass(frozen=True)
class MetricPairs:
    """Two metrics, one value of each a model; where they came from, and what was left out."""

    source: np.ndarray
    target: np.ndarray
    inputs: tuple[dict[str, str | int], ...]
    warnings: tuple[str, ...]


def pairs_of(
    first: Path, second: Path | None, source: str, target: str, match: Sequence[str], reading: TableReading
) -> MetricPairs:
    """`source` of the first table beside `target` of the second (or of the first), matched by equal columns.

    Repeats of one model in two tables, seeds, are averaged. Rows of a single table are pairs as they stand.

    Raises:
      BadInput: what a table's reader refuses, no column to match by, or fewer than 2 pairs.
    """
    signed = frozenset({source, target})
    asked = TableReading(
        reading.rename, reading.drop_missing, signed=signed, labels=frozenset(match) - set(MATCHED_BY)
    )
    if second is None:
        if source == target:
            raise BadInput(f"{first}: --source and --target are both {source}; name two columns, or two tables")
        table = read_table(str(first), (source, target), (), reading=asked)
        return MetricPairs(table.columns[source], table.columns[target], (table.source(),), _kept(table))
    tables = [
        read_table(str(path), (*match, metric), (), reading=asked)
        for path, metric in ((first, source), (second, target))
    ]
    keys = [_means(table, match, metric) for table, metric in zip(tables, (source, target), strict=True)]
    shared = sorted(keys[0].keys() & keys[1].keys())
    if len(shared) < 2:
        raise BadInput(
            f"{first} and {second} share {len(shared)} models of equal {', '.join(match)}; at least 2 are needed, "
            "and --match names other columns"
        )
    alone = [len(found) - len(shared) for found in keys]
    notes = [f"{alone[0]} models of {first} and {alone[1]} of {second} have no partner"] if any(alone) else []
    values = [np.array([found[key] for key in shared]) for found in keys]
    warnings = (*notes, *_kept(tables[0]), *_kept(tables[1]))
    return MetricPairs(values[0], values[1], tuple(table.source() for table in tables), warnings)


def _kept(table: Table) -> tuple[str, ...]:
    """Warnings of a table but the one about rows of one size that differ in a setting: here they are pairs."""
    return tuple(line for line in table.warnings if "--best-of" not in line)


def _means(table: Table, match: Sequence[str], metric: str) -> dict[tuple[Any, ...], float]:
    group = groups_of_rows(table.columns, match)
    found = {}
    for number in range(int(group.max()) + 1):
        rows = np.flatnonzero(group == number)
        found[tuple(table.columns[name][rows[0]].item() for name in match)] = float(
            np.mean(table.columns[metric][rows])
        )
    return found


def fitted_pairs(law: Law, pairs: MetricPairs, options: Mapping[str, Any]) -> Fit:
    """The fit of a law of one metric to pairs.

    Raises:
      BadInput: an accuracy or error outside of 0 and 1, or what `fit_law` refuses.
    """
    if law.target in ("accuracy", "error") and (pairs.target.max() > 1 or pairs.target.min() < 0):
        raise BadInput(
            f"{law.target} {pairs.target.max():g}: must be from 0 to 1; percentages are divided by 100"
        )
    columns = {law.inputs[0]: pairs.source, law.target: pairs.target}
    return fit_law(law, columns, table_warnings=pairs.warnings, **options)


@dataclass(frozen=True)
class PairFlags:
    """How pairs are matched and fitted.

    Attributes:
      match: columns that say which rows of two tables belong together
      robust: Huber, absolute or squared residuals
      bootstrap: resamples; without, asymptotic and profile intervals
      level: of the intervals
      seed: of starts and resamples
      fix: hold a parameter at a value, such as a floor or the chance level
      at: source metric of a run to come
      out: write the fit here
    """

    match: tuple[str, ...] = MATCHED_BY
    robust: Robust = "l2"
    bootstrap: int = 0
    level: float = 0.95
    seed: int = 0
    fix: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = ()
    at: float | None = None
    reading: Flags = TableFlags()
    out: Path | None = None


Matched = Annotated[PairFlags, arg(name="")]


def report_pairs(law: Law, table: Path, other: Path | None, source: str, target: str, how: PairFlags) -> None:
    """Fit, print, and write what `analysis.downstream` takes as its second fit.

    Raises:
      BadInput: what `pairs_of` and `fitted_pairs` refuse.
    """
    pairs = pairs_of(table, other, source, target, how.match, how.reading.reading())
    options = {name: getattr(how, name) for name in ("robust", "bootstrap", "level", "seed")}
    fit = fitted_pairs(law, pairs, {**options, "fixed": cli.numbers(how.fix, "--fix")})
    console = Console(soft_wrap=True)
    for part in described(fit, None):
        console.print(part)
    result: dict[str, Any] = {**fit.to_json(), "source_metric": source, "target_metric": target}
    result["input"] = pairs.inputs[0] if len(pairs.inputs) == 1 else list(pairs.inputs)
    if how.at is not None:
        row = {law.inputs[0]: np.array([how.at])}
        value = float(fit.predict(row)[0])
        low, high = (float(end[0]) for end in fit.predict_interval(row, fit.level))
        result["at"] = {"source": how.at, "prediction": value, "interval": [low, high], "level": fit.level}
        sys.stdout.write(
            f"{target} {value:.4f}, {fit.level:.0%} interval {low:.4f} to {high:.4f}, at {source} {how.at:g}\n"
        )
        if not pairs.source.min() <= how.at <= pairs.source.max():
            sys.stdout.write(f"warning: {source} {how.at:g} lies outside of the pairs' {pairs.source.min():g} to "
                             f"{pairs.source.max():g}\n")  # fmt: skip
    if how.out is not None:
        write_result(how.out, result)
        sys.stdout.write(f"written: {how.out}\n")
