"""Every setting of a sweep with its losses, effects and verdict; the sweep's own question first."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from analysis.logs.groups import CORPUS, flat, text_of
from analysis.logs.load import SweepLogs
from analysis.logs.load_run import Run
from analysis.logs.question import question_of
from analysis.settings.effects import LEVEL, Effects, effects_of
from analysis.settings.matched import Matching, matching_of
from analysis.settings.optimum import FEWEST_VALUES, Optimum, OptimumTrend, optima, to_json, trend
from analysis.settings.varied import Setting, Varied, varied
from analysis.settings.verdict import Verdict, cell_label, kinds_of, verdict_of
from core.numbers import number, span
from core.records import BITS_PER_BYTE, LOSS

# Settings that change what is held out, so that losses are of different text.
OTHER_TEXT = ("data.corpus", "data.domain", "data.validation_tokens", CORPUS)
FEWEST_SHARE = 0.5  # of the runs; a setting in which fewer can be compared is not what the sweep is about


@dataclasses.dataclass(frozen=True)
class SettingAnswer:
    """One setting of a sweep.

    Attributes:
      matching, effects, verdict: None where no two runs differ in it alone, or losses cannot be compared; `why_not`.
      metric: nats per token, or bits per byte where tokenizers differ; label: the metric in words.
      optima, moved: of a number with four values or more: the best between them by cell, and how it moves with size.
      asked: whether it is the sweep's question.
      failed: how many runs of each value failed.
    """

    setting: Setting
    metric: str
    label: str
    matching: Matching | None = None
    effects: Effects | None = None
    verdict: Verdict | None = None
    why_not: str = ""
    optima: tuple[Optimum | None, ...] = ()
    moved: OptimumTrend | None = None
    asked: bool = False
    failed: tuple[tuple[str, int], ...] = ()
    share: float = 0.0

    @property
    def optimum_sentence(self) -> str:
        """The best between the values, and whether it moves with size; empty where there is none."""
        if self.matching is None or not any(self.optima):
            return ""
        cells = self.matching.cells
        told = []
        for place, one in enumerate(self.optima):
            if one is not None:
                within = "" if one.interval is None else f" ({_within(one.interval)})"
                told.append((cells[place].params, f"{number(one.value)}{within} at {cell_label(cells, place)}"))
        shown = told if len(told) <= 3 else [told[0], told[len(told) // 2], told[-1]]
        lacking = len(self.optima) - len(told)
        less = f"; {lacking} of {len(self.optima)} have none inside the grid" if lacking else ""
        interval = f", {LEVEL:.0%} intervals" if any(one and one.interval for one in self.optima) else ""
        return (
            f"Between the values tried, the best {self.setting.key} is {', '.join(text for _, text in shown)} "
            f"(parabola in its logarithm{interval}){less}.{self._moves()}"
        )

    def _moves(self) -> str:
        if self.moved is None:
            return ""
        exponent, interval = self.moved.exponent, self.moved.interval
        if interval is None:
            return f" Over size it goes as N^{number(exponent)}; no interval can be given."
        if interval[0] <= 0 <= interval[1]:
            return f" It is not seen to move with size: N^{number(exponent)} ({span(interval)})."
        return (
            f" It {'rises' if exponent > 0 else 'falls'} with size, as N^{number(exponent)} ({span(interval)})."
        )


def answers_of(sweep: SweepLogs, question: str = "") -> tuple[SettingAnswer, ...]:
    """One for each setting that varied: the question first, then by how much losses differ.

    Args:
      question: the field that the sweep is about; "" where it does not say.
    """
    found = varied(sweep.groups)
    if not found.settings:
        return ()
    made = [_answer(found, setting, sweep, question) for setting in found.settings]
    if question and not any(one.asked for one in made):
        # Of settings that always vary together one stands for all: the one that was asked for gives the name.
        for place, one in enumerate(made):
            if one.matching is not None and question in one.matching.along:
                renamed = _renamed(found, one.setting, question)
                made[place] = _answer(renamed, renamed.settings[place], sweep, question)
                break
    return tuple(sorted(made, key=_first))


def _first(one: SettingAnswer) -> tuple[bool, bool, bool, float]:
    """The question, then a category that numbers were tuned for, then by how much losses differ."""
    tuned = one.matching is not None and bool(one.matching.tuned)
    return not one.asked, one.verdict is None, not tuned, -_range(one)


def _renamed(found: Varied, setting: Setting, key: str) -> Varied:
    """With `key`, which always varies with `setting`, in its place."""

    def value(run: Run) -> str:
        return text_of(found.trees[run.run].get(key)) or "none"

    placed = tuple(
        dataclasses.replace(
            one, values={**{k: v for k, v in one.values.items() if k != setting.key}, key: value(one.run)}
        )
        for one in found.placed
    )
    numbers = {one.values[key]: found.number_of(one.run, key) for one in placed}
    numeric = all(known is not None for known in numbers.values())
    order = sorted(numbers, key=lambda text: numbers[text] or 0.0) if numeric else list(numbers)
    other = Setting(key, tuple(order), numeric, key.rpartition(".")[2])
    settings = tuple(other if one == setting else one for one in found.settings)
    return Varied(settings, placed, found.trees)


def _answer(found: Varied, setting: Setting, sweep: SweepLogs, question: str) -> SettingAnswer:
    metric, label = _metric(found)
    bare = SettingAnswer(setting, metric, label, asked=setting.key == question, failed=_failed(setting, sweep))
    read = _loss(metric)
    matching = matching_of(found, setting, read)
    why = _not_comparable(found, setting, matching)
    if why:
        return dataclasses.replace(bare, why_not=why)
    if not matching.cells:
        return dataclasses.replace(
            bare,
            why_not="no two runs of one size and data size differ in it alone, so its values cannot be compared",
        )
    effects = effects_of(matching.cells, matching.values)
    verdict = verdict_of(setting, matching, effects, label)
    compared = {name for cell in matching.cells for names in cell.runs.values() for name in names}
    if matching.tuned:  # runs that were not the best were compared, too
        compared |= {one.run.run for one in found.placed if one.values[setting.key] in matching.values}
    share = len(compared) / max(1, len(found.trees))
    whole = dataclasses.replace(bare, matching=matching, effects=effects, verdict=verdict, share=share)
    if not setting.numeric or len(matching.values) < FEWEST_VALUES:
        return whole
    x_CV = np.array([[cell.x[value] for value in matching.values] for cell in matching.cells])
    best = optima(x_CV, effects)
    known = effects.deviation()
    sizes = [cell.params for cell in matching.cells]
    alike = kinds_of(matching.cells) == "sizes"
    moved = trend(sizes, best, known[1] if known else 1.0) if alike else None
    return dataclasses.replace(whole, optima=tuple(best), moved=moved)


def _metric(found: Varied) -> tuple[str, str]:
    kinds = {str(tree.get("data.tokenizer")) for tree in found.trees.values()}
    return (BITS_PER_BYTE, "held-out bits per byte") if len(kinds) > 1 else (LOSS, "held-out loss")


def _loss(metric: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        value = run.final(metric)
        return value if value is not None and value > 0 else None

    return read


def _not_comparable(found: Varied, setting: Setting, matching: Matching) -> str:
    questions = {question_of(one.run.spec) for one in found.placed}
    unlike = {"objective", "mask_share", "span_mean", "source_share"} & {setting.key, *matching.along}
    if len(questions) > 1 and unlike:
        return (
            f"runs differ in {', '.join(sorted(unlike))}, so their losses are of unlike questions; tasks compare them "
            "(launch.py backfill --tasks)"
        )
    other = [key for key in (setting.key, *matching.along) if key in OTHER_TEXT]
    if setting.key == "data.tokenizer":
        other = [key for key in other if key != CORPUS]  # the tokens differ, the text does not
    if CORPUS in other and len(other) == 1 and "data.tokenizer" in matching.along:
        other = []
    if other:
        return f"runs differ in {', '.join(other)}, so their losses are of different held-out text"
    return ""


def _failed(setting: Setting, sweep: SweepLogs) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for run in sweep.runs:
        if run.status == "failed" and (sweep.chosen is None or run.run in sweep.chosen):
            value = text_of(flat(run.spec).get(setting.key)) or "none"
            counts[value] = counts.get(value, 0) + 1
    return tuple(sorted(counts.items()))


def _range(one: SettingAnswer) -> float:
    return 0.0 if one.effects is None else float(np.ptp(one.effects.mean_V)) * one.share


def _within(interval: tuple[float, float]) -> str:
    if not np.isfinite(interval).all() or interval[1] > 1e6 * max(interval[0], 1e-300):
        return "no finite interval"
    return span(interval)


def result_of(answers: Sequence[SettingAnswer]) -> dict[str, object]:
    """Everything that was found, for a result file. Differences are of log loss, against the best value."""
    return {"level": LEVEL, "settings": [_one_result(one) for one in answers]}


def _one_result(one: SettingAnswer) -> dict[str, object]:
    head = {
        "setting": one.setting.key,
        "question": one.asked,
        "metric": one.metric,
        "values": list(one.setting.values),
        "numeric": one.setting.numeric,
        "failed": dict(one.failed),
    }
    if one.matching is None or one.effects is None or one.verdict is None:
        return {**head, "why_not": one.why_not}
    effects, best = one.effects, one.verdict.best
    against = {}
    for value in effects.values:
        if value != best:
            difference = effects.difference(value, best)
            against[value] = {
                "log_loss": difference.mean,
                "interval": difference.interval,
                "by_cell": [
                    dataclasses.asdict(effects.difference(value, best, [cell]))
                    for cell in range(len(one.matching.cells))
                ],
            }
    return {
        **head,
        "vary_with_it": list(one.matching.along),
        "not_compared": list(one.matching.apart),
        "equal": one.matching.equal,
        "at_the_best": list(one.matching.tuned),
        "cells": [
            {
                "params": cell.params,
                "tokens": cell.tokens,
                "settings": dict(cell.rest),
                "losses": {
                    value: {str(seed): loss for seed, loss in own.items()} for value, own in cell.losses.items()
                },
            }
            for cell in one.matching.cells
        ],
        "paired": effects.paired,
        "noise": effects.deviation() and effects.deviation()[0],  # type: ignore[index]
        "best": best,
        "kind": one.verdict.kind,
        "sentence": one.verdict.sentence,
        "warnings": list(one.verdict.warnings),
        "against_the_best": against,
        "optimum": to_json(one.optima, one.moved) if one.optima else None,
    }
