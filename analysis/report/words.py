"""A study in plain words: the summary at the top of a report, and the warnings a careful reader wants."""

from collections.abc import Sequence

import numpy as np

from analysis.figures.style import count_text
from analysis.report.sections.shapes import SAME_SIZE
from analysis.report.study import BACKTEST_LEVEL, BEYOND, LAW, Study
from core.numbers import number, percent, span

CLEARLY = 10.0  # Burnham and Anderson 2002, section 2.6: no support for a model this far in AIC
NOISE_FACTOR = 2.0  # a rise in loss beyond this many residual standard deviations (times root 2) is not noise


def summary(study: Study) -> list[str]:
    """The findings, most important first, one sentence or two each."""
    said = [_what_ran(study), *_what_it_cost(study)]
    if study.registered is not None:
        said.append(study.registered.sentence)
    said += [sentence for section in study.sections if section.front for sentence in section.said]
    if study.fit is None:
        said.append(f"No law is fitted: {study.why_no_fit}.")
    else:
        said += [_how_loss_falls(study), _best_split(study)]
    said.append(_valleys(study))
    said += [sentence for section in study.sections if not section.front for sentence in section.said]
    if study.backtest:
        hits = sum(one.inside for one in study.backtest)
        worst = max(abs(one.measured / one.predicted - 1) for one in study.backtest)
        said.append(
            f"Back-test: of the {len(study.backtest)} runs with the most FLOPs, predicted from the others alone, "
            f"{hits} fall inside their {BACKTEST_LEVEL:.0%} interval; the largest error is {percent(worst)}."
        )
    return said


def _what_ran(study: Study) -> str:
    usable, trunks = study.sweep.usable, len(study.sweep.trunks)
    total = len(study.sweep.runs) - trunks
    if not usable:
        return f"None of {total} runs has finished with a usable loss."
    n, d = (
        [value or 0.0 for value in values]
        for values in zip(*((r.count(), r.tokens) for r in usable), strict=True)
    )
    flops = [run.flops() or 0.0 for run in usable]
    return (
        f"{len(usable)} of {total} runs are finished and used: {_range(n)} parameters, {_range(d)} "
        f"training tokens, up to {max(flops):.3g} FLOPs a run."
        + (f" They branch off {trunks} trunks at constant learning rate." if trunks else "")
    )


def _what_it_cost(study: Study) -> list[str]:
    """FLOPs of all finished runs, with the tokens that branches share with their trunk counted once."""
    done = [run for run in study.sweep.runs if run.status == "complete"]
    trained, alone = (
        sum(run.flops(trained=once) or 0.0 for run in done if once or not run.trunk) for once in (True, False)
    )
    if not any(run.shared_tokens for run in done):
        return []
    return [
        f"The finished runs cost {trained:.3g} FLOPs: what branches share with their trunk is counted once. Trained "
        f"one by one, the same runs would have cost {alone:.3g}, so this is {trained / alone:.2f} of it."
    ]


def _range(values: Sequence[float]) -> str:
    low, high = count_text(min(values)), count_text(max(values))
    return low if low == high else f"{low} to {high}"


def _how_loss_falls(study: Study) -> str:
    fit = study.fit
    assert fit is not None
    p, i = fit.parameters, fit.intervals
    unknown = [name for name, known in fit.identified.items() if not known]
    if unknown:
        return (
            f"A law is fitted, but these runs do not identify {', '.join(unknown)}: alpha = {number(p['alpha'])} "
            f"({fit.level:.0%} interval {span(i['alpha'])}), beta = {number(p['beta'])} ({span(i['beta'])}), floor E = "
            f"{number(p['E'])} nats per token ({span(i['E'])}). More sizes, more data sizes or a wider range are "
            "needed; what follows from the law below is as uncertain as that."
        )
    return (
        f"Loss falls as N^-{number(p['alpha'])} in parameters ({fit.level:.0%} interval of the exponent "
        f"{span(i['alpha'])}) and as D^-{number(p['beta'])} in training tokens ({span(i['beta'])}), towards a floor "
        f"of {number(p['E'])} nats per token ({span(i['E'])}). A run lands within "
        f"{percent(2 * fit.residual_sd)} of this law (two residual standard deviations)."
    )


def _best_split(study: Study) -> str:
    fit, band = study.fit, study.band
    assert fit is not None
    assert band is not None
    here = int(np.argmin(np.abs(np.log(band.flops * BEYOND / band.flops[-1]))))

    def at(place: int) -> str:
        loss_ends = "" if band.loss_ends is None else f", {span([ends[place] for ends in band.loss_ends], 4)}"
        return (
            f"{count_text(float(band.params[place]))} parameters on {count_text(float(band.tokens[place]))} tokens "
            f"(predicted loss {band.loss[place]:.3f}{loss_ends})"
        )

    a = fit.derived.get("a_opt")
    ends = fit.derived_intervals.get("a_opt")
    grows = (
        "" if a is None else f" The best size grows as C^{number(a)}" + (f" ({span(ends)})." if ends else ".")
    )
    return (
        f"With C = 6 N D FLOPs, the law's best split of {band.flops[here]:.2g} FLOPs, about the largest budget "
        f"tried, is {at(here)}; at {BEYOND:g} times the largest budget, beyond all runs, it is {at(-1)}.{grows}"
    )


def _valleys(study: Study) -> str:
    found = study.isoflop
    if found is None:
        return f"isoFLOP valleys: none; {study.why_no_isoflop}."
    good = sum(valley.ok for valley in found.valleys)
    a, ends = found.derived["a_opt"], found.intervals["a_opt"]
    seen = [valley for valley in found.valleys if valley.ok or "too few sizes" not in valley.why]
    head = f"isoFLOP slices: {good} of {len(seen)} budgets {'has' if good == 1 else 'have'} a valley"
    if a is None:
        return f"{head}, too few for a power law."
    return f"{head}; the best size grows as C^{number(a)}" + (f" ({span(ends)})." if ends else ".")


def warnings(study: Study) -> list[str]:
    """Each distinct warning once, the gravest kinds first."""
    table = study.table
    said: list[str] = list(table.warnings if table else study.sweep.warnings)
    if study.registered is not None:
        said = [*(f"forecast: {fault}" for fault in study.registered.faults), *said]
    if table is not None:
        said += _rises(study)
    if study.fit is not None:
        said += [f"fit: {warning}" for warning in study.fit.warnings]
        said += _sensitive(study)
        said += _beaten(study)
    if study.isoflop is not None:
        said += [f"isoFLOP: {warning}" for warning in study.isoflop.warnings]
    if study.fit is not None and not study.backtest:
        said.append(f"no back-test: {study.why_no_backtest}")
    said += study.reading_warnings
    return list(dict.fromkeys(said))


def _beaten(study: Study) -> list[str]:
    """A rival law that the runs clearly prefer to the reported one (a difference in AICc beyond 10)."""
    if not study.rivals or study.rivals[0].fit.law.name == LAW:
        return []
    best, reported = study.rivals[0], next(one for one in study.rivals if one.fit.law.name == LAW)
    if not reported.delta_aicc > CLEARLY:
        return []
    return [
        f"another law describes these runs better: {best.fit.law.name} leaves {percent(best.fit.residual_sd)} of the "
        f"loss unexplained (one standard deviation), {LAW} {percent(reported.fit.residual_sd)}; AICc lower by "
        f"{reported.delta_aicc:.0f}. The exponents of {LAW} are those of a form that does not quite hold here"
    ]


def _rises(study: Study) -> list[str]:
    """Neighbours in size, or in tokens, where more gave a higher loss than noise explains."""
    assert study.table is not None
    columns = study.table.columns
    noise = study.fit.residual_sd if study.fit is not None else 0.0
    found = []
    for along, fixed, what in (("params", "tokens", "parameters"), ("tokens", "params", "training tokens")):
        for value in np.unique(columns[fixed]):
            rows = np.flatnonzero(columns[fixed] == value)
            distinct, index = np.unique(columns[along][rows], return_inverse=True)
            mean = np.bincount(index, np.log(columns["loss"][rows])) / np.bincount(index)
            apart = np.diff(np.log(distinct)) > np.log(SAME_SIZE)  # shapes of one size are compared elsewhere
            for place in np.flatnonzero((np.diff(mean) > NOISE_FACTOR * np.sqrt(2) * noise) & apart):
                found.append(
                    f"loss rises by {percent(float(np.expm1(mean[place + 1] - mean[place])))} from "
                    f"{count_text(distinct[place])} to {count_text(distinct[place + 1])} {what} "
                    f"at {count_text(value)} {'tokens' if fixed == 'tokens' else 'parameters'}"
                )
    if len(found) > 5:
        found = [*found[:5], f"and {len(found) - 5} more places where loss rises"]
    return found


def _sensitive(study: Study) -> list[str]:
    """Parameters that a choice of the analyst moves by more than their standard error."""
    assert study.fit is not None
    moved = []
    for name, error in study.fit.standard_errors.items():
        base = study.fit.parameters[name]
        values = [(abs(values[name] - base), label) for label, values in study.choices[1:]]
        if values and np.isfinite(error) and max(values)[0] > error > 0:
            moved.append(f"{name} by {max(values)[0] / error:.2g} standard errors ({max(values)[1]})")
    if not moved:
        return []
    return [f"a choice of the analyst moves {'; '.join(moved)}: the standard error alone understates the doubt"]
