"""Sides of a comparison from the runs of a sweep."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.compare.metric import Metric
from analysis.compare.side import Axis, Recipe, RecipeRuns, best_tuned
from analysis.logs.groups import DEFAULTS, SettingsGroup, flat, groups_of, sentence
from analysis.logs.load import SweepLogs
from analysis.logs.load_run import DEFAULT_FLOPS, Run, at, number
from analysis.logs.question import question_of
from core.errors import BadInput

TUNED = ("optim.learning_rate",)


@dataclasses.dataclass(frozen=True)
class SweepReading:
    """How sides are taken from sweeps.

    Attributes:
      where: take runs with these settings only, by dotted key.
      tuned: settings of which each size takes its best.
      flops: the ledger's convention.
    """

    axis: Axis = "flops"
    metric: Metric = Metric.of("val/loss")
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tuned: tuple[str, ...] = TUNED
    flops: str = DEFAULT_FLOPS


def setting_of(run: Run, key: str) -> str:
    """A setting of a run as it is typed; its default where an early specification lacks it."""
    value = {**DEFAULTS, **flat(run.spec)}.get(key)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def sides_of_sweep(sweep: SweepLogs, reading: SweepReading, by: str = "") -> list[RecipeRuns]:
    """One side, or with `by` one for each value of a setting, in the order of the sweep.

    Raises:
      BadInput: runs of one side differ in a setting that no law of size and data knows, or there are too few.
    """
    runs = _chosen(sweep, reading.where)
    groups = groups_of(runs, known=reading.tuned)
    if not by:
        if len(groups) > 1:
            raise BadInput(
                f"{sweep.path}: {sentence(groups)}; --where KEY=VALUE takes one of them, --by KEY compares them"
            )
        return [side_of(sweep, runs, reading, sweep.name)]
    if by in reading.tuned:
        raise BadInput(f"--by {by}: each size takes its best of it; allowed is any other setting")
    parts: dict[str, list[SettingsGroup]] = {}
    for group in groups:
        parts.setdefault(setting_of(group.runs[0], by), []).append(group)
    for value, members in parts.items():
        if len(members) > 1:
            raise BadInput(
                f"{sweep.path}: of {by}={value} {sentence(members)}; --where KEY=VALUE takes one of them"
            )
    if len(parts) < 2:
        only = next(iter(parts), "none")
        raise BadInput(
            f"--by {by}: all runs of {sweep.path} have {only or 'none'}; a setting in which they differ is needed"
        )
    return [
        side_of(sweep, parts[value][0].runs, reading, f"{by.rpartition('.')[2]}={value}")
        for value in in_order(sweep, by, parts)
    ]


def in_order(sweep: SweepLogs, key: str, values: Mapping[str, object]) -> list[str]:
    """Values of a setting as the sweep lists its runs; else numbers ascending, and words as they sort."""
    by_run = {run.run: setting_of(run, key) for run in sweep.runs}
    listed = list(dict.fromkeys(by_run[name] for name in sweep.listed if name in by_run))
    rest = sorted((value for value in values if value not in listed), key=lambda value: (_number(value), value))
    return [value for value in listed if value in values] + rest


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _chosen(sweep: SweepLogs, where: Mapping[str, str]) -> list[Run]:
    runs = list(sweep.usable)
    for key, value in where.items():
        there = {setting_of(run, key): None for run in runs}
        runs = [run for run in runs if setting_of(run, key) == value]
        if not runs:
            raise BadInput(
                f"--where {key}={value}: no run of {sweep.path} has it; there is {', '.join(there) or 'none'}"
            )
    return runs


def side_of(sweep: SweepLogs, runs: Sequence[Run], reading: SweepReading, label: str) -> RecipeRuns:
    """The side of runs that differ in size, data size, seed and tuned settings only.

    Raises:
      BadInput: fewer than two of them, or one that does not say what it cost or how it ended.
    """
    if len(runs) < 2:
        left = "; ".join(f"{run}: {cause}" for run, cause in list(sweep.left_out().items())[:3])
        raise BadInput(
            f"{sweep.path}: {label} has {len(runs)} runs that can be used; at least 2 are needed"
            + (f" ({left})" if left else "")
        )
    loss = np.array([_final(sweep, run, reading.metric) for run in runs])
    params, tokens = (np.array([float(value or 0) for value in column]) for column in
                      ([run.count() for run in runs], [run.tokens for run in runs]))  # fmt: skip
    names = [" ".join(setting_of(run, key) for key in reading.tuned) for run in runs]
    kept, rates = best_tuned(params, tokens, loss, names)
    taken = [run for run, keep in zip(runs, kept, strict=True) if keep]
    warnings = [f"{label}: {warning}" for warning in _missing(sweep)]
    if len(taken) < len(runs):
        warnings.append(
            f"{label}: of {len(runs)} runs the {len(taken)} of the best {' and '.join(reading.tuned)} at each size and "
            "data size are taken; the best of several is low by luck, too"
        )
    warnings += [f"{label}: {warning}" for warning in _at_an_edge(runs, kept, params, tokens, reading.tuned)]
    return RecipeRuns(
        label=label,
        cost=np.array([_cost(run, reading) for run in taken]),
        loss=loss[kept],
        params=params[kept],
        tokens=tokens[kept],
        luck=np.array([_luck(run) for run in taken]),
        source={"path": str(sweep.path), "sha256": sweep.sha256, "rows": len(taken)},
        warnings=tuple(warnings),
        recipe=_recipe(taken, rates, reading.tuned),
    )


def _final(sweep: SweepLogs, run: Run, metric: Metric) -> float:
    value = sweep.final(run, metric.name)
    if value is None:
        there = ", ".join(list(at(run.result, "evals") or {})[:8])
        raise BadInput(f"--metric {metric.name}: run {run.run} has none; it has {there or 'none'}")
    return metric.lowered(value, run.run)


def _cost(run: Run, reading: SweepReading) -> float:
    values = {
        "flops": lambda: run.flops(reading.flops),
        "tokens": lambda: run.tokens,
        "seconds": lambda: number(run.result.get("train_seconds")),
        "params": lambda: run.count(),
    }
    value = values[reading.axis]()
    if value is None or not value > 0:
        conventions = ", ".join(at(run.ledger, "flops_per_token") or {})
        allowed = f"; its ledger has {conventions}" if reading.axis == "flops" and conventions else ""
        what = f"FLOPs as {reading.flops}" if reading.axis == "flops" else reading.axis
        raise BadInput(f"{run.path}: the run does not say its {what}{allowed}")
    return value


def _luck(run: Run) -> str:
    """Runs of one seed, shape and data size read the same batches, whatever the recipe; "" where that is not known.

    Branches of one trunk share its luck at all their data sizes.
    """
    seed, corpus = run.spec.get("seed"), at(run.env, "corpus", "fingerprint")
    if seed is None or corpus is None:
        return ""
    shape = [at(run.spec, "model", name) for name in ("width", "depth")]
    data = "trunk" if run.spec.get("parent") else run.tokens
    return f"{seed} {corpus} {shape} {data} {run.spec.get('batch_tokens')}"


def _missing(sweep: SweepLogs) -> list[str]:
    found = [warning for warning in sweep.warnings if " missing from the fits " in warning]
    if sweep.absent:
        found.append(f"{len(sweep.absent)} runs of sweep.json were never started, such as {sweep.absent[0]}")
    return found


def _at_an_edge(
    runs: Sequence[Run], kept: np.ndarray, params: np.ndarray, tokens: np.ndarray, tuned: Sequence[str]
) -> list[str]:
    """Where the best of a tuned number is the smallest or largest that was tried: a better one may lie beyond."""
    found = []
    for key in tuned:
        texts = [setting_of(run, key) for run in runs]
        try:
            values = np.array([float(text) for text in texts])
        except ValueError:  # no number has no ends
            continue
        edges, cells = 0, sorted(set(zip(params.tolist(), tokens.tolist(), strict=True)))
        for size, count in cells:
            own = (params == size) & (tokens == count)
            tried = np.unique(values[own])
            edges += int(tried.size > 2 and bool(np.isin(values[own & kept], tried[[0, -1]]).any()))
        if edges:
            found.append(
                f"the best {key} is the smallest or the largest tried at {edges} of {len(cells)} sizes: a better one "
                "may lie beyond its grid"
            )
    return found


def _recipe(runs: Sequence[Run], rates: int, tuned: Sequence[str]) -> Recipe:
    def texts(*parts: object) -> str:
        return " ".join(str(part) for part in parts if part is not None)

    corpora = {
        texts(
            at(run.env, "corpus", "corpus_fingerprint") or at(run.spec, "data", "corpus"),
            at(run.spec, "data", "domain"),
        )
        for run in runs
    }
    return Recipe(
        tokenizers=frozenset(str(at(run.spec, "data", "tokenizer")) for run in runs),
        corpora=frozenset(corpora),
        heldout=frozenset(
            texts(at(run.spec, "data", "validation_tokens"), at(run.spec, "data", "sequence_length"))
            for run in runs
        ),
        counted=frozenset(_counted(run) for run in runs),
        devices=frozenset(run.provenance.device for run in runs if run.provenance.device),
        questions=frozenset(question_of(run.spec) for run in runs),
        rates=rates,
    )


def _counted(run: Run) -> str:
    """What a FLOP count of this run is about: the architecture, experts, and the conventions of its ledger."""
    tree = {**DEFAULTS, **flat(run.spec)}
    experts = tree.get("model.experts") or 0
    kinds = [str(tree.get("model.architecture")), f"{experts} experts" if experts else "dense"]
    return f"{', '.join(kinds)}; {', '.join(sorted(at(run.ledger, 'flops_per_token') or {}))}"
