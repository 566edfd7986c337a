"""Who is ranked: single runs, or recipes at one size or one compute; and what their items scored."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from analysis.compare.metric import Metric
from analysis.logs.groups import groups_of
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run
from core.errors import BadInput
from core.files import whole_rows
from core.items import ItemColumns, items_at
from core.numbers import parse_float, short_count
from core.records import BITS_PER_BYTE, HARNESS, HELD_OUT_TEXT, LOSS, of_a_task
from core.rundir import TASK_ITEMS, RunDirectory

EqualAxis = Literal["flops", "tokens", "params"]
NEAR = math.log(1.1)  # runs within 10% of what was asked for are at it
FAR = math.log(1.5)  # the nearest may be so far away
Columns = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One that is ranked: a run, or the runs of a recipe at one size and data size, which differ in their seed.

    Attributes:
      label: how it is called.
      sweep: its logs. runs: several seeds are averaged item by item.
    """

    label: str
    sweep: SweepLogs
    runs: tuple[Run, ...]


@dataclasses.dataclass(frozen=True)
class ScoredField:
    """All contestants with their scores in one metric.

    Attributes:
      scores_MI: on the items that all of them have. weights_I: of an item in a mean.
      values: of the metric, from the logs.
      left_out: why others are not there, by label.
    """

    metric: Metric
    labels: list[str]
    scores_MI: np.ndarray
    weights_I: np.ndarray
    values: list[float]
    left_out: dict[str, str]


def sweeps_of(paths: Sequence[Path]) -> list[tuple[SweepLogs, str]]:
    """The sweep of each path, and of a run's own directory its name, else "".

    Raises:
      BadInput: a path that is neither.
    """
    found = []
    for path in dict.fromkeys(paths):
        if RunDirectory(path).is_run():
            found.append((load_sweep(path.absolute().parent), RunDirectory(path).name))
        else:
            found.append((load_sweep(path), ""))
    return found


def every_run(sweeps: Sequence[tuple[SweepLogs, str]]) -> tuple[list[Contestant], dict[str, str]]:
    """Each run that a fit may take by itself, and why others are not ranked."""
    several = len({str(sweep.path.absolute()) for sweep, _ in sweeps}) > 1
    found: dict[str, Contestant] = {}
    left_out: dict[str, str] = {}
    for sweep, only in sweeps:
        for run in sweep.usable:
            if only in ("", run.run):
                label = f"{sweep.name}/{run.run}" if several else run.run
                found[label] = Contestant(label, sweep, (run,))
        left_out |= {name: cause for name, cause in sweep.left_out().items() if only in ("", name)}
    return list(found.values()), left_out


def at_equal(
    sweeps: Sequence[tuple[SweepLogs, str]], asked: str, metric: Metric
) -> tuple[list[Contestant], dict[str, str]]:
    """Each recipe, the runs of equal settings of one sweep, at one size, data size or compute.

    Of several sizes at one compute a recipe takes its best in `metric`.

    Args:
      asked: flops=1e15, params=1M or tokens=2M.

    Raises:
      BadInput: another form.
    """
    axis, target = _parsed(asked)
    found: list[Contestant] = []
    left_out: dict[str, str] = {}
    names = Counter(sweep.name for sweep, _ in sweeps)
    for sweep, only in sweeps:
        home = sweep.name if names[sweep.name] == 1 else str(sweep.path)
        runs = [run for run in sweep.usable if only in ("", run.run)]
        groups = groups_of(runs)
        for group in groups:
            label = f"{home} ({group.name})" if len(groups) > 1 else home
            apart = {run.run: abs(math.log(_measure(run, axis) / target)) for run in group.runs}
            nearest = min(apart.values())
            if nearest > FAR:
                there = ", ".join(sorted({short_count(_measure(run, axis)) for run in group.runs})[:6])
                left_out[label] = f"no run near {asked}; there is {there}"
                continue
            cells: dict[tuple[float, float], list[Run]] = {}
            for run in group.runs:
                if apart[run.run] <= max(nearest + 1e-9, NEAR):
                    cells.setdefault((run.count() or 0.0, run.tokens or 0.0), []).append(run)
            best = min(cells.values(), key=lambda own: _mean_left(sweep, own, metric))
            found.append(Contestant(label, sweep, tuple(best)))
    return found, left_out


def _parsed(asked: str) -> tuple[EqualAxis, float]:
    name, _, text = asked.partition("=")
    try:
        target = parse_float(text)
    except ValueError:
        target = math.nan
    for axis in get_args(EqualAxis):
        if axis == name and 0 < target < math.inf:
            return axis, target
    raise BadInput(f"--at {asked}: must be flops=NUMBER, params=NUMBER or tokens=NUMBER, the number positive")


def _measure(run: Run, axis: EqualAxis) -> float:
    value = {"flops": run.flops, "params": run.count, "tokens": lambda: run.tokens}[axis]()
    if value is None or not value > 0:
        raise BadInput(f"{run.path}: the run does not say its {axis}")
    return value


def _mean_left(sweep: SweepLogs, runs: Sequence[Run], metric: Metric) -> float:
    values = [value for run in runs if (value := sweep.final(run, metric.name)) is not None]
    mean = sum(values) / len(values) if values else math.inf
    return -mean if metric.share and values else mean


def field_of(contestants: Sequence[Contestant], metric: Metric) -> ScoredField:
    """The contestants that were scored on the same items, of several kinds of items those of most contestants.

    Raises:
      BadInput: fewer than two of them.
    """
    left_out: dict[str, str] = {}
    task, column, weigh = _items_of(metric.name)
    scored: dict[str, list[ItemColumns]] = {}
    values = {}
    for one in contestants:
        ends = [one.sweep.final(run, metric.name) for run in one.runs]
        own = [_read(one.sweep, run).get(task) for run in one.runs]
        numbers = [value for value in ends if value is not None]
        items = [value for value in own if value is not None]
        if len(numbers) < len(ends):
            left_out[one.label] = f"has no {metric.name} at its end"
        elif len(items) < len(own):
            how = "--text" if task == HELD_OUT_TEXT else f"--tasks {task}"
            adds = f"python launch.py backfill {one.sweep.path} {how} adds them"
            if task.startswith(HARNESS):
                adds = "python -m training.harness adds them"
            left_out[one.label] = f"has no scores of single items; {adds}"
        elif len({value.fingerprint for value in items}) > 1:
            left_out[one.label] = "its seeds were scored on unlike items"
        else:
            scored[one.label], values[one.label] = items, float(np.mean(numbers))
    prints = Counter(items[0].fingerprint for items in scored.values())
    most = prints.most_common(1)[0][0] if prints else ""
    for label in [label for label, items in scored.items() if items[0].fingerprint != most]:
        left_out[label] = "was scored on other items: another text, tokenizer or length"
        del scored[label]
    if len(scored) < 2:
        why = next(iter(left_out.items()), ("", "none was given"))
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        raise BadInput(
            f"{metric.name}: {len(scored)} of {len(contestants)} runs can be compared, at least 2 are needed "
            f"({why[0]}{': ' * bool(why[0])}{why[1]}{more})"
        )
    each = [[_arrays(items) for items in scored[label]] for label in scored]
    scores_MI = np.stack([np.mean([column(arrays) for arrays in own], axis=0) for own in each])
    good_I = np.isfinite(scores_MI).all(axis=0)
    scores_MI, weights_I = scores_MI[:, good_I], weigh(each[0][0])[good_I]
    finals = [values[label] for label in scored]
    if metric.name == BITS_PER_BYTE:  # of the same text: nats a token times one number
        scores_MI = scores_MI * finals[0] / (scores_MI[0] @ weights_I / weights_I.sum())
    return ScoredField(metric, list(scored), scores_MI, weights_I, finals, left_out)


def _read(sweep: SweepLogs, run: Run) -> dict[str, ItemColumns]:
    if run.has_doubtful(TASK_ITEMS):
        return {}
    rows, _ = whole_rows((sweep.read(run.run, TASK_ITEMS) or b"").split(b"\n"))
    return items_at(rows, run.tokens)


def _arrays(items: ItemColumns) -> Columns:
    return {
        name: np.array([math.nan if value is None else value for value in column])
        for name, column in items.columns.items()
    }


def _items_of(metric: str) -> tuple[str, Callable[[Columns], np.ndarray], Callable[[Columns], np.ndarray]]:
    """(task, its items' scores, their weights) of a metric.

    Raises:
      BadInput: a metric without items.
    """

    def per_token(columns: Columns) -> np.ndarray:
        return _column(columns, "nll", metric) / _column(columns, "target_tokens", metric)

    def even(columns: Columns) -> np.ndarray:
        return np.ones(len(next(iter(columns.values()))))

    if metric in (LOSS, BITS_PER_BYTE):
        return HELD_OUT_TEXT, per_token, lambda columns: columns["target_tokens"]
    named = of_a_task(metric)
    if named is None:
        raise BadInput(
            f"--metric {metric}: has no items; {LOSS}, {BITS_PER_BYTE}, task/NAME/METRIC and lm-eval/NAME/METRIC have"
        )
    task, last = named
    if last == "nll_per_token":
        return task, per_token, lambda columns: columns["target_tokens"]
    if last == "probability":
        return task, lambda columns: np.exp(-_column(columns, "nll", metric)), even
    return task, lambda columns: _column(columns, last, metric), even


def _column(columns: Columns, name: str, metric: str) -> np.ndarray:
    if name not in columns:
        raise BadInput(f"--metric {metric}: no item has it; they have {', '.join(columns)}")
    return columns[name]
