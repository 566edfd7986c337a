"""The law of size and data: its parameters, what the analyst's choices move, what it leaves over, and its rivals."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.figures.parameters import sensitivity_figure
from analysis.figures.residuals import residual_figure
from analysis.fit.back_test import near
from analysis.fit.fit import Fit
from analysis.fit.identified import WORDS, said, said_interval
from analysis.fit.selection import RankedLaw, sensitivity
from analysis.fit.supported import CLEARLY
from analysis.report.section import Block, File, Paragraph, Picture, Rows, Section
from analysis.report.study import LAW, Study
from core.numbers import number, percent, span

ORDER = 60
OF_EQUAL_SETTINGS = True
ANSWERS = ("quickstart", "planned")
RESULT = File("fit.json")
RESIDUALS = Picture("residuals", "Residuals of the fitted law against parameters and against training tokens.")
SENSITIVITY = Picture(
    "sensitivity", "Each parameter under other choices of the analyst, beside the interval of the reported fit."
)

MANY_ERRORS = 100.0  # a parameter that a choice moves further is not held by the runs at all
REPORTED = "huber 0.001 on log"
CHOICE_WORDS = {
    "N = params_total": "N = all parameters",
    "N = params_non_embedding": "N = without embedding and head",
}

Choices = Sequence[tuple[str, Mapping[str, float]]]  # (label, parameters), the reported fit first


def section(study: Study) -> Section:
    """The fit, or why there is none."""
    title, fit = "The law", study.headline
    if fit is None:
        why = f"No law is fitted: {study.why_no_fit}."
        return Section(title, (Paragraph(why),), said=(why,))
    columns = study.comparable
    choices = _choices(fit, columns, study)
    rivals = study.rivals
    residual = np.log(columns["loss"] / fit.predict(columns))
    return Section(
        title=title,
        said=(_how_loss_falls(fit, rivals),),
        answer=_answer(fit),
        warnings=(
            *(f"fit: {warning}" for warning in fit.warnings),
            *_sensitive(fit, choices),
            *(_beaten(rivals) if fit.law.name == LAW else ()),
        ),
        blocks=(
            Paragraph(f"{_how_it_was_fitted(fit)} {WORDS[0].upper()}{WORDS[1:]}."),
            _parameters(fit, choices),
            Rows(
                ("choice", *fit.parameter_names),
                [
                    (label, *(said(fit.law, name, values[name], 4) for name in fit.parameter_names))
                    for label, values in choices
                ],
            ),
            *_compared(rivals, fit),
            RESIDUALS.by(
                lambda: residual_figure(columns["params"], columns["tokens"], residual, float(residual.std()))
            ),
            SENSITIVITY.by(
                lambda: sensitivity_figure(fit.parameter_names, choices, fit.intervals, fit.level, fit.unknown)
            ),
        ),
        results={RESULT: {**fit.to_json(), "input": study.input}},
    )


def _choices(fit: Fit, columns: Mapping[str, np.ndarray], study: Study) -> Choices:
    """The same fit with one choice of the analyst changed at a time."""
    tried = sensitivity(fit.law, columns, seed=study.seed, starts=near(fit), cluster=study.clusters)
    # The reported fit comes a second time under its own objective's name.
    others = [
        (CHOICE_WORDS.get(label, label), other.parameters)
        for label, other in zip(tried.labels, tried.fits, strict=True)
        if label not in ("as asked", REPORTED)
    ]
    return [(f"{REPORTED} (reported)", fit.parameters), *others]


def _how_loss_falls(fit: Fit, rivals: Sequence[RankedLaw]) -> str:
    p, i = fit.parameters, fit.intervals
    if not fit.known:
        alpha, beta, floor = (
            f"{fit.said(name)} [{said_interval(fit.law, name, i[name])}]" for name in ("alpha", "beta", "E")
        )
        return (
            f"A law is fitted, but these runs do not identify {', '.join(fit.unknown)}: alpha {alpha}, beta {beta}, "
            f"floor E {floor}; in brackets {fit.level:.0%} intervals. No best size and no forecast follows from it. "
            "More sizes, more data sizes, a wider range or more seeds would narrow the intervals."
        )
    within = (
        f"A run lands within {percent(2 * fit.residual_sd)} of this law (two residual standard deviations)."
    )
    if fit.law.name != LAW:
        usual = next(one for one in rivals if one.fit.law.name == LAW)
        values = ", ".join(f"{name} {number(p[name])} ({span(i[name])})" for name in fit.law.names)
        return (
            f"These runs support the law {fit.law.name}, {fit.law.text}, and not {LAW}, whose AICc is higher by "
            f"{usual.delta_aicc:.0f}: {values}; in brackets {fit.level:.0%} intervals. {within}"
        )
    return (
        f"Loss falls as N^-{number(p['alpha'])} in parameters ({fit.level:.0%} interval of the exponent "
        f"{span(i['alpha'])}) and as D^-{number(p['beta'])} in training tokens ({span(i['beta'])}), towards a floor "
        f"of {number(p['E'])} nats per token ({span(i['E'])}). {within}"
    )


def _answer(fit: Fit) -> str:
    """Whether one law describes the runs, how well, and what of it is not known, with the reason."""
    head = f"One law of size and data describes these {fit.n} runs to {percent(fit.residual_sd)}"
    if not fit.known:
        return f"{head}, but they do not identify all of it ({fit.why_unknown})."
    p, i = fit.parameters, fit.intervals
    if fit.law.name != LAW:
        known = ", ".join(f"{name} {number(p[name])} ({span(i[name])})" for name in fit.parameter_names)
        return f"{head}: {fit.law.name}, with {known}."
    return (
        f"{head}: loss falls as N^-{number(p['alpha'])} ({span(i['alpha'])}) and D^-{number(p['beta'])} "
        f"({span(i['beta'])}), towards {number(p['E'])} nats per token ({span(i['E'])})."
    )


def _how_it_was_fitted(fit: Fit) -> str:
    how = "pair bootstrap" if fit.draws_kind == "bootstrap" else "asymptotic, profile likelihood"
    return (
        f"{_formula(fit)} ({fit.law.source}), {fit.objective.robust} on {fit.objective.space} "
        f"loss with delta {fit.objective.delta:g}, {fit.n} runs, objective {fit.value:.6g}. N counts parameters "
        f"without the embedding table and with the head. Intervals: {fit.level:.0%}, {how}. "
        f"{fit.starts.get('reached_best', '?')} of {fit.starts.get('tried', '?')} starts reached the best objective."
    )


def _formula(fit: Fit) -> str:
    return "L(N, D) = E + A / N^alpha + B / D^beta" if fit.law.name == LAW else fit.law.text


def _parameters(fit: Fit, choices: Choices) -> Rows:
    def over_others(name: str) -> str:
        others = [values[name] for _, values in choices[1:]]
        return said_interval(fit.law, name, (min(others), max(others))) if others else ""

    return Rows.of(
        fit.parameter_names,
        {
            "parameter": str,
            "value": lambda name: fit.said(name, 4),
            "standard error": lambda name: number(fit.standard_errors[name]),
            f"{fit.level:.0%} interval": lambda name: said_interval(fit.law, name, fit.intervals[name], 4),
            "over other choices": over_others,
            "identified": lambda name: "yes" if fit.identified[name] else f"no: {fit.unknown[name]}",
        },
    )


def _exponents(fit: Fit) -> str:
    named = [name for name in fit.parameters if name.startswith(("alpha", "beta"))]
    return ", ".join(f"{name} {said(fit.law, name, fit.parameters[name])}" for name in named)


def _compared(rivals: Sequence[RankedLaw], fit: Fit) -> Sequence[Block]:
    if not rivals:
        return ()
    table = Rows.of(
        rivals,
        {
            "law": lambda one: one.fit.law.name,
            "parameters": lambda one: str(len(one.fit.parameters)),
            "unexplained (one standard deviation)": lambda one: percent(one.fit.residual_sd),
            "AICc above the best": lambda one: (
                f"{one.delta_aicc:.1f}" if np.isfinite(one.delta_aicc) else "too few runs"
            ),
            "exponents": lambda one: _exponents(one.fit),
        },
    )
    why = f"The law above is {fit.law.name}: {_why(rivals, fit)}."
    return Paragraph(f"Laws compared by least squares on log loss; lower AICc is better. {why}"), table


def _why(rivals: Sequence[RankedLaw], fit: Fit) -> str:
    """Why this law stands on top."""
    best, name = rivals[0], fit.law.name
    if name != LAW:
        return f"its AICc is lower by more than {CLEARLY:.0f}, and it predicts the largest runs no worse"
    if best.fit.law.name != name:
        return (
            f"{best.fit.law.name} has the lower AICc, but not clearly (by more than {CLEARLY:.0f}), or it is not "
            "identified, or it predicts the largest runs worse"
        )
    others = [one.delta_aicc for one in rivals[1:] if np.isfinite(one.delta_aicc)]
    if others and min(others) > CLEARLY:
        return "the runs clearly prefer it"
    return "the usual law, since the runs do not clearly prefer another"


def _beaten(rivals: Sequence[RankedLaw]) -> list[str]:
    """A rival law that the runs clearly prefer to the reported one (a difference in AICc beyond 10)."""
    if not rivals or rivals[0].fit.law.name == LAW:
        return []
    best, reported = rivals[0], next(one for one in rivals if one.fit.law.name == LAW)
    if not CLEARLY < reported.delta_aicc < np.inf or best.fit.residual_sd >= reported.fit.residual_sd:
        return []
    return [
        f"another law describes these runs better: {best.fit.law.name} leaves {percent(best.fit.residual_sd)} of the "
        f"loss unexplained (one standard deviation), {LAW} {percent(reported.fit.residual_sd)}; AICc lower by "
        f"{reported.delta_aicc:.0f}. The exponents of {LAW} are those of a form that does not quite hold here"
    ]


def _moved_by(errors: float) -> str:
    """In standard errors as far as that says anything: beyond, the parameter runs away."""
    return f"by {errors:.2g} standard errors" if errors < MANY_ERRORS else "without bound"


def _sensitive(fit: Fit, choices: Choices) -> list[str]:
    """Parameters that a choice of the analyst moves by more than their standard error."""
    moved = []
    for name, error in fit.standard_errors.items():
        values = [(abs(values[name] - fit.parameters[name]), label) for label, values in choices[1:]]
        if values and np.isfinite(error) and max(values)[0] > error > 0:
            away, label = max(values)
            moved.append(f"{name} {_moved_by(away / error)} ({label})")
    if not moved:
        return []
    return [f"a choice of the analyst moves {'; '.join(moved)}: the standard error alone understates the doubt"]
