"""Recipes of one sweep at equal loss: how much less compute a value of a setting costs, and whether that lasts."""

import dataclasses
from collections.abc import Sequence

from analysis.compare.checks import check
from analysis.compare.compare import RecipeComparison, compare
from analysis.compare.fitted import Choices
from analysis.compare.metric import Metric
from analysis.compare.result import to_json
from analysis.compare.sentences import bracketed, crossing, floor, sentence
from analysis.compare.side import RecipeRuns
from analysis.compare.sweeps import TUNED, SweepReading, in_order, setting_of, side_of
from analysis.figures.multiplier import multiplier_figure, panels_of
from analysis.logs.groups import SettingsGroup, groups_of
from analysis.report.section import Block, File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study, tokenizers
from core.errors import BadInput
from core.numbers import short_count

ORDER = 6
RESULT = File("compare.json")
PICTURE = Picture(
    "compare",
    "Loss against training FLOPs of each recipe, and how many times less it costs than the first at equal loss.",
)
LEAST_DRAWS = 200
MOST_DRAWS = 1000
MOST_VALUES = 6
NOT_RECIPES = (*TUNED, "batch_tokens")  # have sections of their own, and each size has its best


@dataclasses.dataclass(frozen=True)
class _Question:
    """One setting and its values, all others equal: `rest` names them where they vary, too."""

    key: str
    rest: str
    values: dict[str, SettingsGroup]


def section(study: Study) -> Section | None:
    """Each value of a setting against the first of the sweep; None where no setting has two values that carry it."""
    metric = Metric.of("val/bits_per_byte" if tokenizers(study.sweep) > 1 else "val/loss")
    questions, blocks, said, refused = _questions(study), list[Block](), list[str](), list[str]()
    first: list[RecipeComparison] = []
    asked, answer = study.sweep.question, ""
    for question in sorted(questions, key=lambda one: one.key != asked):
        found, why = _answered(study, question, metric)
        refused += why
        if not found:
            continue
        first = first or found
        said += [sentence(one) for one in found]
        answer = answer or (said[0] if question.key == asked or (len(questions) == 1 and not asked) else "")
        blocks += _blocks(question, found)
    if not first:
        return None
    warnings = dict.fromkeys(warning for warning in first[0].warnings if "missing from the fits" not in warning)
    return Section(
        title="Recipes at equal loss",
        said=tuple(said[:MOST_VALUES]),
        answer=answer,
        warnings=tuple(warnings),
        blocks=(
            Paragraph(
                "The multiplier is the training FLOPs of the first recipe over those of another at the same loss: "
                "above 1, the other is cheaper. Both frontiers are laws of their runs, or lower convex hulls where "
                "runs carry no law; intervals come from a bootstrap of the runs of both, paired where they read the "
                "same batches. The slope is that of log10 of the multiplier over log10 of the first recipe's FLOPs."
            ),
            *blocks,
            *(Paragraph(f"Not compared: {why}.") for why in refused[:MOST_VALUES]),
            PICTURE.by(lambda: multiplier_figure(panels_of(first, metric.label))),
        ),
        results={RESULT: to_json(first)},
    )


def _questions(study: Study) -> list[_Question]:
    """Settings of two values or more, at each combination of the others."""
    groups = study.settings if len(study.settings) > 1 else ()
    if groups and any(key in TUNED for group in groups for key in group.settings):
        groups = groups_of(study.sweep.usable, known=TUNED)
    keys = dict.fromkeys(key for group in groups for key in group.settings if key not in NOT_RECIPES)
    found = []
    for key in keys:
        rests: dict[str, dict[str, SettingsGroup]] = {}
        for group in groups:
            rest = ", ".join(f"{name}={value}" for name, value in group.settings.items() if name != key)
            rests.setdefault(rest, {}).setdefault(setting_of(group.runs[0], key), group)
        found += [_Question(key, rest, values) for rest, values in rests.items() if len(values) > 1]
    return found


def _answered(study: Study, question: _Question, metric: Metric) -> tuple[list[RecipeComparison], list[str]]:
    """Each value against the first that has a side, and why others have none."""
    sides, refused, found = list[RecipeRuns](), list[str](), list[RecipeComparison]()
    reading = SweepReading(metric=metric)
    for value in in_order(study.sweep, question.key, question.values)[: MOST_VALUES + 1]:
        label = f"{question.key.rpartition('.')[2]}={value}"
        try:
            sides.append(side_of(study.sweep, question.values[value].runs, reading, label))
        except BadInput as error:
            refused.append(f"{label}: {error}")
    draws = min(max(study.bootstrap, LEAST_DRAWS), MOST_DRAWS)
    for other in sides[1:]:
        try:
            warnings = check(sides[0], other, "flops", metric)
            one = compare(sides[0], other, Choices(metric=metric.name, draws=draws, seed=study.seed))
        except BadInput as error:
            refused.append(str(error))
            continue
        found.append(dataclasses.replace(one, warnings=(*warnings, *one.warnings)))
    return found, refused


def _blocks(question: _Question, found: Sequence[RecipeComparison]) -> list[Block]:
    title = f"{question.key}, {question.rest}" if question.rest else question.key
    rows = Rows.of(
        found,
        {
            question.key: lambda one: one.sides[1].label.partition("=")[2],
            "against": lambda one: one.sides[0].label.partition("=")[2],
            "runs": lambda one: f"{one.sides[1].cost.size}",
            "multiplier": lambda one: bracketed(one.overall),
            "at the least cost": lambda one: bracketed(one.multipliers[0]),
            "at the largest": lambda one: bracketed(one.multipliers[-1]),
            "slope": lambda one: _slope(one),
            "frontier": lambda one: one.how,
        },
        text=("against", "frontier"),
    )
    lines = [line for one in found for line in (crossing(one), floor(one)) if line]
    more = [Paragraph(" ".join(dict.fromkeys(lines)))] if lines else []
    costs = [cost for one in found for cost in (one.costs[0], one.costs[-1])]
    span = f"from {short_count(min(costs))} to {short_count(max(costs))} FLOPs of the first"
    return [Paragraph(f"{title}: at losses that both reach, {span}."), rows, *more]


def _slope(one: RecipeComparison) -> str:
    ends = one.slope.interval
    return f"{one.slope.value:+.3f}" + ("" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]")
