"""What must be alike on both sides before they are compared, and what a reader must know where it is not."""

import numpy as np

from analysis.compare.metric import Metric
from analysis.compare.side import Axis, RecipeRuns
from core.errors import BadInput
from core.numbers import number, short_count

TOKENS_APART = 1.05  # factor between the largest data sizes from which the axis params is not about size alone


def check(a: RecipeRuns, b: RecipeRuns, axis: Axis, metric: Metric, convention: str = "") -> list[str]:
    """Warnings.

    Args:
      convention: of FLOPs, where it was asked for by name.

    Raises:
      BadInput: losses of other text or tokens, or FLOPs that count different things.
    """
    return [
        *_same_question(a, b, metric),
        *_same_text(a, b, metric),
        *_same_count(a, b, axis, convention),
        *_tuned(a, b),
        *_sizes(a, b, axis),
        *(warning for side in (a, b) for warning in side.warnings),
    ]


def _same_question(a: RecipeRuns, b: RecipeRuns, metric: Metric) -> list[str]:
    """Likelihoods of tasks are one thing for all objectives but masked, whose are pseudo-likelihoods."""
    one, other = a.recipe.questions, b.recipe.questions
    is_likelihood = metric.per_token and "masked" in one | other
    if one and other and one != other and (metric.name.startswith("val/") or is_likelihood):
        raise BadInput(
            f"{metric.name} of unlike objectives cannot be compared: {a.label} has {_shown(one)}, {b.label} "
            f"{_shown(other)}; score both on a task (launch.py backfill --tasks) and take --metric "
            "task/NAME/choice_accuracy"
        )
    return []


def _same_text(a: RecipeRuns, b: RecipeRuns, metric: Metric) -> list[str]:
    warnings = []
    for what, one, other in (
        ("tokenizer", a.recipe.tokenizers, b.recipe.tokenizers),
        ("corpus", a.recipe.corpora, b.recipe.corpora),
    ):
        if not one or not other or one == other:
            continue
        said = f"{a.label} has {what} {_shown(one)}, {b.label} {_shown(other)}"
        if metric.per_token:
            advice = "; --metric bits_per_byte compares across tokenizers" if what == "tokenizer" else (
                ": both sides must be scored on one text; --metric bits_per_byte takes a difference of tokenizers alone"
            )  # fmt: skip
            raise BadInput(f"nats per token cannot be compared: {said}{advice}")
        if what == "corpus":
            warnings.append(f"{said}: held-out text may differ, and then no difference is the recipe's alone")
    if a.recipe.heldout and b.recipe.heldout and a.recipe.heldout != b.recipe.heldout:
        warnings.append(
            f"held-out tokens and context differ: {_shown(a.recipe.heldout)} in {a.label}, "
            f"{_shown(b.recipe.heldout)} in {b.label}"
        )
    return warnings


def _same_count(a: RecipeRuns, b: RecipeRuns, axis: Axis, convention: str) -> list[str]:
    if axis == "seconds" and a.recipe.devices != b.recipe.devices:
        return [
            f"{a.label} was trained on {_shown(a.recipe.devices)}, {b.label} on {_shown(b.recipe.devices)}: seconds "
            "compare the devices, too"
        ]
    if axis != "flops":
        return []
    one, other = a.recipe.counted, b.recipe.counted
    if one == other:
        return (
            ["FLOPs are 6 N D on both sides, since the tables have no column flops"] if one == {"6 N D"} else []
        )
    ways = [_shown(counted) or "by the column flops" for counted in (one, other)]
    said = f"{a.label} counts {ways[0]}, {b.label} {ways[1]}"
    if convention:
        return [f"FLOPs of both sides are taken as {convention}: {said}"]
    if "6 N D" in one | other or (one and other):
        raise BadInput(
            f"FLOPs count different things: {said}; name the convention of both (--flops CONVENTION), give tables a "
            "column flops, or take another --axis"
        )
    return [f"that FLOPs are counted alike is taken for granted: {said}"]


def _tuned(a: RecipeRuns, b: RecipeRuns) -> list[str]:
    one, other = a.recipe.rates, b.recipe.rates
    if one is None or other is None or one == other:
        return []
    favoured = a if one > other else b
    return [
        f"learning rates tried at one size: {one} in {a.label}, {other} in {b.label}: this favours {favoured.label}"
    ]


def _sizes(a: RecipeRuns, b: RecipeRuns, axis: Axis) -> list[str]:
    warnings = []
    for side in (a, b):
        if side.sizes == 1 and axis != "params":
            warnings.append(f"{side.label}: one model size only: what is compared is data, not scale")
    if (
        axis in ("params", "tokens")
        and a.params is not None
        and b.params is not None
        and a.tokens is not None
        and b.tokens is not None
    ):
        pair = (a.tokens, b.tokens) if axis == "params" else (a.params, b.params)
        most = [float(np.max(values)) for values in pair]
        if max(most) / min(most) > TOKENS_APART:
            what = "tokens" if axis == "params" else "parameters"
            warnings.append(
                f"the largest runs have {short_count(most[0])} {what} in {a.label} and {short_count(most[1])} in "
                f"{b.label}: over {axis} they are not compared at equal {what}"
            )
    return warnings


def _shown(values: frozenset[str]) -> str:
    texts = sorted(value if len(value) <= 40 else f"{value[:12]}..." for value in values)
    return " and ".join(texts[:2]) + (f" and {number(len(texts) - 2)} more" if len(texts) > 2 else "")
