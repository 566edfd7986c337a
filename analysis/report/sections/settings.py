"""What the settings do that runs differ in: the answer to a sweep's question, for any field of a run."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from analysis.figures.families import Family, Panel, colours, family_panels
from analysis.figures.settings import SettingLine, SettingPanel, setting_figure
from analysis.figures.style import LOSS_LABEL
from analysis.logs.short_names import short_values
from analysis.report.section import Block, File, Paragraph, Picture, Rows, Section
from analysis.report.sections.powers import Power, pure_power
from analysis.report.study import Study, attempt
from analysis.settings.answers import FEWEST_SHARE, SettingAnswer, answers_of, result_of
from analysis.settings.effects import LEVEL, Difference
from analysis.settings.matched import MatchedRuns
from analysis.settings.verdict import cell_label, kinds_of, noise_words
from core.errors import BadInput
from core.numbers import number, percent, short_count, span
from core.records import BITS_PER_BYTE

ORDER = 4
RESULT = File("settings.json")
MOST_SETTINGS = 4  # with a figure each
FIGURES = tuple(Picture(f"setting-{place}", "Loss against a setting.") for place in range(1, MOST_SETTINGS + 1))
LAWS = tuple(Picture(f"setting-law-{place}", "A law for each value.") for place in range(1, MOST_SETTINGS + 1))
MOST_LINES = 8
MOST_PANELS = 4
MOST_COLUMNS = 6
FEWEST_FOR_A_LAW = 3


def section(study: Study) -> Section | None:
    """One part a setting, where runs differ in any."""
    if not study.alone:
        return None
    question, unread = "", []
    try:
        question = study.sweep.question
    except BadInput as error:
        unread = [f"the sweep's question is not known: {error}"]
    answers = answers_of(study.sweep, question)
    if not answers:
        return None
    telling = [one for one in answers if one.verdict is not None and (one.asked or one.share >= FEWEST_SHARE)]
    blocks = tuple(block for place, one in enumerate(answers) for block in _part(one, place, len(answers)))
    return Section(
        title="Settings",
        answer=telling[0].verdict.sentence if telling and telling[0].verdict else "",
        said=tuple(sentence for one in telling for sentence in _sentences(one)),
        warnings=(
            *unread,
            *_unasked(question, answers),
            *(warning for one in answers for warning in _warnings(one)),
        ),
        blocks=blocks,
        results={RESULT: result_of(answers)},
    )


def _sentences(one: SettingAnswer) -> list[str]:
    assert one.verdict is not None
    return [one.verdict.sentence, *([one.optimum_sentence] if one.optimum_sentence else [])]


def _unasked(question: str, answers: Sequence[SettingAnswer]) -> list[str]:
    if not question or any(one.asked for one in answers):
        return []
    return [f"the sweep's question is {question}, in which its finished runs do not differ"]


def _warnings(one: SettingAnswer) -> Iterator[str]:
    if one.failed and one.verdict is not None:
        told = ", ".join(f"{count} at {value}" for value, count in one.failed)
        if len(one.failed) < len(one.setting.values) or len(one.setting.values) == 1:
            yield (
                f"runs failed at some values of {one.setting.key} ({told}): their losses are missing, and the means of "
                "these values are of the runs that did not fail"
            )
    if one.verdict is None and one.asked:
        yield f"{one.setting.key}: {one.why_not}"
    if one.verdict is not None and (one.asked or one.share >= FEWEST_SHARE):
        yield from one.verdict.warnings


def _part(one: SettingAnswer, place: int, count: int) -> Iterator[Block]:
    if one.matching is None or one.effects is None or one.verdict is None:
        yield Paragraph(f"{one.setting.key}: {one.why_not}.")
        return
    if one.share < FEWEST_SHARE and not one.asked:
        names = {name for cell in one.matching.cells for own in cell.runs.values() for name in own}
        yield Paragraph(
            f"{one.setting.key}: only {len(names)} of {round(len(names) / one.share)} runs can be compared. "
            f"{one.verdict.sentence}"
        )
    else:
        yield Paragraph(" ".join(_sentences(one)))
    if place < MOST_SETTINGS:
        yield _figure(one, FIGURES[place].name)
    yield _table(one)
    yield Paragraph(f"{_compared(one)} {noise_words(one.effects)}")
    if place < MOST_SETTINGS and not one.setting.numeric:
        yield from _laws(one, LAWS[place].name)


def _compared(one: SettingAnswer) -> str:
    """What is equal between the runs, and what varies with the setting."""
    assert one.matching is not None
    words = f"Runs are compared at equal {one.matching.equal}"
    if any(cell.rest for cell in one.matching.cells):
        words += " and equal " + ", ".join(one.matching.cells[0].rest)
    if one.matching.tuned:
        words += f", each value at its best {', '.join(one.matching.tuned)}"
    if one.matching.along:
        shown = ", ".join(one.matching.along[:6]) + (", ..." if len(one.matching.along) > 6 else "")
        words += f"; with {one.setting.key} varies {shown}"
    if one.matching.apart:
        shown = ", ".join(short_values(one.matching.apart)[:6])
        words += f"; no run at {shown} is equal to the others in all else"
    if one.metric == BITS_PER_BYTE:
        words += "; in held-out bits per byte, since nats per token cannot be compared between tokenizers"
    return f"{words}."


def _table(one: SettingAnswer) -> Rows:
    """Mean loss of each value at each size, and against the best."""
    assert one.matching is not None and one.effects is not None and one.verdict is not None
    effects, best, cells = one.effects, one.verdict.best, one.matching.cells
    places = _spread_out(len(cells), MOST_COLUMNS)
    header = [
        one.setting.key,
        *(cell_label(cells, place) for place in places),
        "against the best",
        f"{LEVEL:.0%} interval",
    ]
    rows = []
    for value, shown in zip(effects.values, short_values(effects.values), strict=True):
        row = effects.values.index(value)
        losses = [f"{np.exp(effects.means_CV[place, row]):.4f}" for place in places]
        difference = effects.difference(value, best)
        against = ("best", "") if value == best else (_share(difference.mean), _interval(difference))
        rows.append((shown, *losses, *against))
    return Rows(header, rows)


def _share(log: float) -> str:
    return f"{'+' if log >= 0 else ''}{percent(float(np.expm1(log)))}"


def _interval(difference: Difference) -> str:
    if difference.interval is None:
        return "none: one seed"
    return f"{_share(difference.interval[0])} to {_share(difference.interval[1])}"


def _spread_out(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return sorted({round(place) for place in np.linspace(0, count - 1, most)})


def _figure(one: SettingAnswer, name: str) -> Block:
    assert one.matching is not None
    cells = one.matching.cells
    several = any(cell.rest != cells[0].rest for cell in cells)
    seeds = (
        "bars over seeds" if one.effects is not None and one.effects.pooling is not None else "one seed each"
    )
    caption = f"Loss against {one.setting.key}, one line a size, {seeds}"
    if several:
        caption += f"; one panel for {', '.join(cells[0].rest)}"
    label = LOSS_LABEL if one.metric != BITS_PER_BYTE else "held-out bits per byte"
    values = None if one.setting.numeric else short_values(one.matching.values)
    return Picture(name, f"{caption}.").by(lambda: setting_figure(_panels(one), one.setting.key, values, label))


def _panels(one: SettingAnswer) -> list[SettingPanel]:
    assert one.matching is not None
    cells = one.matching.cells
    kinds = sorted({tuple(cell.rest.items()) for cell in cells}, key=_in_order)
    panels = []
    for kind in [kinds[place] for place in _spread_out(len(kinds), MOST_PANELS)]:
        own = [place for place, cell in enumerate(cells) if tuple(cell.rest.items()) == kind]
        shown = [own[place] for place in _drawn([cells[place] for place in own])]
        title = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in kind)
        panels.append(SettingPanel(title, [_line(one, place, shown, len(kinds) > 1) for place in shown]))
    return panels


def _in_order(kind: Sequence[tuple[str, str]]) -> list[tuple[float, str]]:
    found = []
    for _, value in kind:
        try:
            found.append((float(value.split()[0]), value))
        except ValueError:
            found.append((float("inf"), value))
    return found


def _drawn(cells: Sequence[MatchedRuns]) -> list[int]:
    """Which cells get a line: all, or of each size the one of most tokens."""
    places = list(range(len(cells)))
    if len(cells) > MOST_LINES:
        last = {round(cell.params): place for place, cell in enumerate(cells)}
        places = sorted(last.values()) if len(last) > 1 else places
    return [places[place] for place in _spread_out(len(places), MOST_LINES)]


def _line(one: SettingAnswer, place: int, shown: Sequence[int], across: bool) -> SettingLine:
    assert one.matching is not None and one.effects is not None
    cells, effects = one.matching.cells, one.effects
    cell, logs = cells[place], effects.logs_CVS[place]
    means, best = effects.means_CV[place], cell.best if cell.best in effects.values else effects.values[0]
    lowest = float(means.min())
    if across:  # of this size at any value of the other settings
        alike = [row for row, other in enumerate(cells) if abs(np.log(other.params / cell.params)) < 0.02
                 and other.tokens == cell.tokens]  # fmt: skip
        lowest = float(effects.means_CV[alike].min())
    reach = None
    if effects.pooling is not None:
        halves = []
        for value in effects.values:
            interval = effects.difference(value, best, [place]).interval if value != best else None
            halves.append(0.0 if interval is None else (interval[1] - interval[0]) / 2)
        reach = 100 * np.array([halves, halves])
    seeds = np.exp(np.stack([np.nanmin(logs, axis=1), np.nanmax(logs, axis=1)]))
    x = [cell.x[value] for value in effects.values] if cell.x else range(len(effects.values))
    best_x = one.optima[place] if one.optima else None
    sizes = [cells[other] for other in shown]
    label = short_count(cell.params)
    if any(abs(np.log(other.tokens / cell.tokens)) > 0.02 for other in sizes):
        label += f", {short_count(cell.tokens)} tokens"
    return SettingLine(
        label=label,
        size=cell.params if len({round(other.params) for other in sizes}) > 1 else cell.tokens,
        x=np.array(x, dtype=float),
        loss=np.exp(means),
        seeds=seeds,
        above=100 * np.expm1(means - lowest),
        reach=reach,
        best=best_x.value if best_x else None,
    )


@dataclasses.dataclass(frozen=True)
class ValueLaw:
    """L = A / x^alpha over the sizes of one value."""

    value: str
    x: np.ndarray
    loss: np.ndarray
    reach: np.ndarray
    power: Power | None


def _laws(one: SettingAnswer, name: str) -> Iterator[Block]:
    """A law for each value of a category, where it has enough sizes: its exponent and the figure."""
    assert one.matching is not None and one.effects is not None
    cells = one.matching.cells
    if any(cell.rest != cells[0].rest for cell in cells) or len(cells) < FEWEST_FOR_A_LAW:
        return
    by_flops = kinds_of(cells) != "sizes"
    x = np.array([cell.flops if by_flops else cell.params for cell in cells])
    if np.unique(x).size < FEWEST_FOR_A_LAW:
        return
    what = "training FLOPs" if by_flops else "parameters"
    laws = [_law(one, row, x) for row in range(len(one.effects.values))]
    yield Picture(
        name, f"Loss against {what}, one line a value of {one.setting.key}; bars: lowest and highest seed."
    ).by(lambda: family_panels([_law_panel(one, laws, what, by_flops)]))
    yield Rows.of(
        laws,
        {
            one.setting.key: lambda law: law.value,
            f"exponent of {what}": lambda law: "" if law.power is None else number(law.power.alpha),
            f"{LEVEL:.0%} interval": lambda law: "" if law.power is None else span(law.power.interval),
            "unexplained": lambda law: "" if law.power is None else percent(law.power.residual_sd),
        },
    )
    yield Paragraph(
        f"Loss as a power of {what}, A / x^alpha, by least squares on log loss over {len(cells)} means: a description "
        "of this range, without a floor. Laws with a floor, where runs are enough, stand in the table of groups."
    )


def _law(one: SettingAnswer, row: int, x: np.ndarray) -> ValueLaw:
    assert one.effects is not None
    effects = one.effects
    logs = effects.logs_CVS[:, row]
    loss = np.exp(effects.means_CV[:, row])
    seeds = np.exp(np.stack([np.nanmin(logs, axis=1), np.nanmax(logs, axis=1)]))
    power, _ = attempt(pure_power, x, loss)
    return ValueLaw(short_values(effects.values)[row], x, loss, np.abs(seeds - loss), power)


def _law_panel(one: SettingAnswer, laws: Sequence[ValueLaw], what: str, by_flops: bool) -> Panel:
    families = []
    for law, tint in zip(laws, colours(len(laws)), strict=True):
        fine = np.geomspace(law.x.min(), law.x.max(), 40)
        curve = np.full(fine.size, np.nan) if law.power is None else law.power.at(fine)
        families.append(Family(law.value, law.x, law.loss, fine, curve, tint, reach=law.reach))
    label = LOSS_LABEL if one.metric != BITS_PER_BYTE else "held-out bits per byte"
    return Panel(
        f"One law a value of {one.setting.key.rpartition('.')[2]}",
        families,
        "training FLOPs C" if by_flops else "parameters N",
        label,
        key=one.setting.key.rpartition(".")[2],
        flops=by_flops,
    )
