"""Runs that one law may take together: a law of size and data knows nothing of a setting that somebody varied.

Every field of a run's specification is a setting. It may differ within a group of runs if it is what the law knows
(parameters, tokens, seed, distinct tokens), if it changes no number that is trained (how the network is compiled), or
if it follows from the size: width, depth and heads, learning rate, batch and the lengths of the schedule are functions
of size and data size by a scaling rule. Such a setting was varied where runs of one size and data size differ in it,
or where its values do not lie on one rule. Any other setting in which runs differ splits them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.logs.load_run import Run, number
from analysis.logs.short_names import short_names, short_values
from core.identity import UNLESS
from core.numbers import number as said

# What the law knows, and what changes no number: marks of evaluations, branches, how it is compiled.
FREE = frozenset({
    "seed", "tokens", "evaluation_marks", "checkpoint_marks", "parent", "branch_at_tokens", "tasks", "task_items",
    "data.unique_tokens", "model.scan", "model.remat", "optim.microbatch_tokens",
})  # fmt: skip
# Of a later stage, from the lineage in its env.json: what the weights that it begins with have been trained on.
TEXT_BEFORE, TOKENS_BEFORE = "text before", "tokens before"
OF_SIZE = (
    "model.width",
    "model.depth",
    "model.heads",
    "model.kv_heads",
    "model.head_width",
    "model.ff_width",
    "model.expert_ff_width",
)
OF_RULE = (
    "optim.learning_rate",
    "batch_tokens",
    "optim.weight_decay",
    "optim.warmup_tokens",
    "optim.cooldown_tokens",
    TOKENS_BEFORE,
)
# Fields that early specifications lack, at the values that they had.
DEFAULTS: dict[str, Any] = {
    key: value
    for section, fields in UNLESS.items()
    for key, value in zip((f"{section}.{name}".lstrip(".") for name in fields), fields.values(), strict=True)
    if key not in FREE
}
CORPUS = "the recorded corpus"  # fingerprint of what was read
FIRST = ("start", "data.tokenizer", "data.corpus", "data.domain", "data.skills", "model.architecture",
         "model.parametrization",
         "objective", "optim.name", "optim.schedule")  # fmt: skip
SAME_SIZE = 1.02  # parameters within this factor count as equal
ROUNDED = 0.008  # of a logarithm: peaks have three digits
MOST_POINTS = 40  # through pairs of which rules are tried
MOST_NAMED = 6

Group = tuple[dict[str, str], list[Run]]  # what sets runs apart, and the runs
Trees = Mapping[str, Mapping[str, Any]]  # specifications by dotted key, by run


@dataclasses.dataclass(frozen=True)
class SettingsGroup:
    """Runs that differ in nothing that a law does not know.

    `settings` is what sets them apart, by dotted key; `label` says all of it, `name` the least that tells the groups
    apart.
    """

    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    name: str = ""

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.settings.items())


def groups_of(runs: Sequence[Run], known: Collection[str] = ()) -> tuple[SettingsGroup, ...]:
    """The groups, the one of most runs first. A run that lies on two rules (of learning rates, say) is in both.

    Args:
      known: settings that may differ within a group all the same, by dotted key.
    """
    trees = trees_of(runs)
    groups: list[Group] = [({}, list(runs))] if runs else []
    for key in _plain_keys(list(trees.values()), known):
        groups = [part for group in groups for part in _by_value(group, key, trees)]
    for key in (key for key in (*OF_RULE, *OF_SIZE[2:], "model.depth") if key not in known):
        groups = [part for group in groups for part in _by_rule(group, key, trees)]
    names = short_names([settings for settings, _ in groups])
    found = [
        SettingsGroup(settings, tuple(members), name)
        for (settings, members), name in zip(groups, names, strict=True)
    ]
    return tuple(sorted(found, key=lambda group: (-len(group.runs), group.label)))


def trees_of(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Every field of each run's specification by dotted key, the recorded corpus, and what a later stage had before."""
    return {
        run.run: {**DEFAULTS, **flat(run.spec), **_before(run), CORPUS: run.provenance.corpus or ""}
        for run in runs
    }


def _before(run: Run) -> dict[str, Any]:
    stages = run.env.get("lineage")
    if not run.spec.get("start") or not isinstance(stages, list):
        return {}
    stages = [stage for stage in stages if isinstance(stage, Mapping)]
    text = " then ".join(f"{stage.get('objective')} on {stage.get('corpus')}" for stage in stages)
    return {TEXT_BEFORE: text, TOKENS_BEFORE: sum(number(stage.get("tokens")) or 0.0 for stage in stages)}


def labelled(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Every run with the label of its group, "" where there is only one; a run of two groups comes twice.

    What scale varies is no setting here: shapes and token counts differ along it.
    """
    groups = groups_of(runs, known=("model.depth",))
    if len(groups) < 2:
        return [(run, "") for run in runs]
    return [(run, group.label) for group in groups for run in group.runs]


def sentence(groups: Sequence[SettingsGroup]) -> str:
    """What a reader must know of runs that were split."""
    keys = list(dict.fromkeys(key for group in groups for key in group.settings))
    shown = "; ".join(f"{group.label}: {counted(len(group.runs))}" for group in groups[:MOST_NAMED])
    more = f"; and {len(groups) - MOST_NAMED} more groups" if len(groups) > MOST_NAMED else ""
    return (
        f"runs differ in {', '.join(keys)}, which a law of size and data does not know: they are split into "
        f"{len(groups)} groups and never pooled ({shown}{more})"
    )


def counted(runs: int) -> str:
    return f"{runs} run" if runs == 1 else f"{runs} runs"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A specification by dotted key."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values.update(flat(value, f"{prefix}{key}."))
        else:
            values[prefix + key] = value
    return values


def _plain_keys(trees: Sequence[Mapping[str, Any]], known: Collection[str]) -> list[str]:
    """Settings that no rule gives and that differ; of those that differ together the first."""
    keys = {key for tree in trees for key in tree} - FREE - {*OF_SIZE, *OF_RULE, *known}
    ordered = [*(key for key in FIRST if key in keys), *sorted(keys - {*FIRST, CORPUS}), *({CORPUS} & keys)]
    kept: list[str] = []
    parts = [""] * len(trees)
    for key in ordered:
        values = [text_of(tree.get(key)) for tree in trees]
        if key == CORPUS and len({value for value in values if value}) < 2:
            continue
        finer = [f"{part}\n{value}" for part, value in zip(parts, values, strict=True)]
        if len(set(finer)) > len(set(parts)):
            kept.append(key)
            parts = finer
    return kept


def _by_value(group: Group, key: str, trees: Trees) -> list[Group]:
    settings, members = group
    parts: dict[str, list[Run]] = {}
    for run in members:
        parts.setdefault(text_of(trees[run.run].get(key)), []).append(run)
    told = [value or ("none" if key != CORPUS else "not recorded") for value in parts]
    shown = short_values(told)
    return [({**settings, key: value}, runs) for value, runs in zip(shown, parts.values(), strict=True)]


def text_of(value: Any) -> str:
    """A value of a specification as a label says it; empty for none."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class _Points:
    """Distinct (size, data size, value) of a setting, and the shape and batch behind each."""

    runs: list[list[Run]]
    params: np.ndarray
    tokens: np.ndarray
    width: np.ndarray
    depth: np.ndarray
    heads: np.ndarray
    batch: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, members: Sequence[Run], key: str, trees: Trees) -> "_Points":
        found: dict[tuple[float, ...], list[Run]] = {}
        for run in members:
            tree = trees[run.run]
            named = ("model.width", "model.depth", "model.heads", "batch_tokens", key)
            values = (run.count(), run.tokens, *(number(tree.get(name)) for name in named))
            found.setdefault(tuple(value or 0.0 for value in values), []).append(run)
        columns = np.array(list(found), dtype=float).reshape(-1, 7).T
        params, tokens, width, depth, heads, batch, value = columns
        return cls(list(found.values()), params, tokens, width, depth, heads, batch, value)


Candidate = tuple[
    np.ndarray, str, float
]  # which points lie on a rule, the rule in words, its exponent (nan: constant)


def _by_rule(group: Group, key: str, trees: Trees) -> list[Group]:
    """The parts of a group that lie on one rule each; the group as it is where the setting follows from the size."""
    settings, members = group
    points = _Points.of(members, key, trees)
    if np.unique(points.value).size < 2:
        return [group]
    if key == "model.depth":
        parts = _constants(points) if _shapes_of_one_size(points) else []
    else:
        parts = _rules(points, key)
    if len(parts) < 2:
        return [group]
    return [
        ({**settings, key: words}, [run for place in np.flatnonzero(mask) for run in points.runs[place]])
        for mask, words, _ in parts
    ]


def _rules(points: _Points, key: str) -> list[Candidate]:
    """The fewest rules on which all points lie; none where one rule, or any function of the size, holds them."""
    varied = _varied(points, key)
    if not varied and key not in ("optim.learning_rate", "batch_tokens"):
        return []
    if _on_one_surface(points):
        return []
    parts = _greedy(points, [*_constants(points), *_proportional(points, key), *_powers(points, key)])
    if varied:
        return parts
    return parts if _mixture(points, key, parts) else []


def _mixture(points: _Points, key: str, parts: Sequence[Candidate]) -> bool:
    """Whether values that are one for each size come from two rules, which several sizes share each.

    Any other table of values by size is taken for a rule of somebody's own.
    """
    columns = [points.params] if key == "optim.learning_rate" else [points.params, points.tokens]
    cells = [np.unique(np.stack(columns)[:, mask], axis=1).shape[1] for mask, *_ in parts]
    constant = [bool(np.isnan(exponent)) for *_, exponent in parts]
    return len(parts) == 2 and min(cells) >= 2 and max(cells) >= 3 and (any(constant) or min(cells) >= 3)


def _varied(points: _Points, key: str) -> bool:
    """Whether runs of one size (and data size; of one width and depth for a part of the shape) differ."""
    if key in OF_SIZE:
        cells = np.stack([points.width, points.depth])
    elif key == "optim.learning_rate":
        cells = np.stack([points.params, points.width, points.depth])
    else:
        cells = np.stack([points.params, points.width, points.depth, points.tokens])
    both = np.concatenate([cells, points.value[None]])
    return np.unique(both, axis=1).shape[1] > np.unique(cells, axis=1).shape[1]


def _on_one_surface(points: _Points) -> bool:
    """Whether the value is a power of size and data size, with more of both than such a rule has exponents."""
    sizes, amounts = np.unique(points.params).size, np.unique(points.tokens).size
    if not (points.value > 0).all() or max(sizes, amounts) < 3:
        return False
    columns = [np.ones(points.value.size)]
    columns += [np.log(points.params)] if sizes >= 3 else []
    columns += [np.log(points.tokens)] if amounts >= 3 else []
    design, wanted = np.stack(columns, axis=1), np.log(points.value)
    if points.value.size <= design.shape[1]:
        return False
    answer, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    return bool(np.abs(design @ answer - wanted).max() < ROUNDED)


def _constants(points: _Points) -> list[Candidate]:
    return [(points.value == value, said(float(value), 6), np.nan) for value in np.unique(points.value)]


def _proportional(points: _Points, key: str) -> list[Candidate]:
    """Rules by which a setting is a share of the tokens, or of the width; or a decay that follows from the steps."""
    if key in ("optim.warmup_tokens", "optim.cooldown_tokens"):
        base, slack, words = points.tokens, points.batch, "{:.2g} of the tokens"
    elif key == "optim.weight_decay":
        base, slack, words = points.batch / points.tokens, 0.006 * points.value, "by the number of steps"
    elif key in OF_SIZE:
        base, slack, words = points.width, 1e-9 + 0 * points.width, "{:.3g} of the width"
    else:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = points.value / base
    order = np.argsort(-points.tokens, kind="stable")[:MOST_POINTS]
    rules = [(np.abs(points.value - shares[one] * base) <= slack, words.format(shares[one]), np.nan) for one in order
             if np.isfinite(shares[one]) and shares[one] > 0]  # fmt: skip
    return [rule for rule in rules if rule[0].sum() > 1]


def _powers(points: _Points, key: str) -> list[Candidate]:
    """Rules by which a setting is a power of the size, through two of the points each."""
    if key != "optim.learning_rate" or not (points.value > 0).all():
        return []
    x, y = np.log(points.params), np.log(points.value)
    found = []
    for one, other in itertools.combinations(range(min(x.size, MOST_POINTS)), 2):
        if abs(x[one] - x[other]) < np.log(SAME_SIZE):
            continue
        slope = (y[one] - y[other]) / (x[one] - x[other])
        mask = np.abs(y - y[one] - slope * (x - x[one])) < ROUNDED
        low, high = points.value[mask].min(), points.value[mask].max()
        found.append((mask, f"{said(float(low))} to {said(float(high))} by size", float(slope)))
    return found


def _greedy(points: _Points, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Rules that cover all points, each the one of most points that no earlier rule covers.

    Of equally good ones a constant goes first, then the exponent that most of them share.
    """
    left = np.ones(points.value.size, bool)
    chosen: list[Candidate] = []
    slopes = np.array([candidate[2] for candidate in candidates])
    while left.any():
        gains = np.array([int((mask & left).sum()) for mask, *_ in candidates])
        best = np.flatnonzero(gains == gains.max())
        alike = [
            np.inf if np.isnan(slopes[one]) else (np.abs(slopes[best] - slopes[one]) < 0.02).sum()
            for one in best
        ]
        mask, words, slope = candidates[int(best[int(np.argmax(alike))])]
        chosen.append((mask, words, slope))
        left &= ~mask
    return chosen


def _shapes_of_one_size(points: _Points) -> bool:
    """Whether models of about one size differ in depth."""
    order = np.argsort(points.params, kind="stable")
    params, depth = points.params[order], points.depth[order]
    near: Callable[[int], np.ndarray] = lambda one: params[one:] <= params[one] * SAME_SIZE  # noqa: E731
    return any(np.unique(depth[one:][near(one)]).size > 1 for one in range(params.size))
