"""Which law, and how much of an answer is the analyst's choice: AIC and BIC, a sensitivity table."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as Grid
from scipy.optimize import minimize_scalar

from analysis.fit.clusters import clusters_of
from analysis.fit.fit import Fit, fit_law
from analysis.fit.objectives import FitObjective
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import BadInput

SAME_FLOPS = 1e-3  # relative difference below which two conventions of FLOPs are one


@dataclass(frozen=True)
class RankedLaw:
    """A law's fit with its information criteria; `delta_aicc` and `weight` are relative to the best of the set.

    Where a table has too few rows for AICc (`least_rows`), `delta_aicc` is infinite and `weight` 0.
    """

    fit: Fit
    aic: float
    aicc: float
    bic: float
    delta_aicc: float
    weight: float


def least_rows(law: Law) -> int:
    """Rows from which AICc is defined: more than the parameters, a variance and one."""
    return len(law.parameters) + 3


def information(fit: Fit, rows: float | None = None) -> tuple[float, float, float]:
    """AIC, AICc and BIC of a fit, from the likelihood that its objective stands for.

    Least squares: normal residuals with their variance as one more parameter (Akaike 1974). L1: Laplace residuals.
    Huber: residuals with density proportional to exp(-Huber(r) / tau), of which both are limits; tau is the one more
    parameter. Criteria compare laws under one objective, on the same rows, only.

    Args:
      rows: how many independent rows the table is worth; those of the fit if not given.
    """
    n = fit.n if rows is None else rows
    parameters = len(fit.law.parameters) - len(fit.fixed) + 1
    likelihood = n * _mean_log_likelihood(fit.value / fit.n, fit.objective)
    aic = 2 * parameters - 2 * likelihood
    spare = n - parameters - 1
    corrected = aic + 2 * parameters * (parameters + 1) / spare if spare > 0 else math.inf
    return aic, corrected, parameters * math.log(n) - 2 * likelihood


def _mean_log_likelihood(value: float, objective: FitObjective) -> float:
    """At the best scale, of a mean contribution `value` of a row to the objective."""
    value = max(value, 1e-300)
    if objective.robust == "l2":
        return -0.5 * (math.log(2 * math.pi * value) + 1)
    if objective.robust == "l1":
        return -(math.log(2 * value) + 1)

    def negative(log_tau: float) -> float:
        # the density's integral: a normal within delta, exponential tails outside
        tau, delta = math.exp(log_tau), objective.delta
        within = math.sqrt(2 * math.pi * tau) * math.erf(delta / math.sqrt(2 * tau))
        return math.log(within + 2 * tau / delta * math.exp(-(delta**2) / (2 * tau))) + value / tau

    centre = math.log(value)
    best = minimize_scalar(negative, bounds=(centre - 3.0, centre + 3.0), method="bounded")
    return -float(best.fun)


def independent_rows(fit: Fit, columns: Mapping[str, np.ndarray], cluster: str | np.ndarray | None) -> float:
    """How many independent rows a table of clusters is worth: n / (1 + (m - 1) rho) (Kish 1965).

    rho is the correlation of residuals within a cluster of about m rows, by its analysis of variance; at least 0.
    """
    labels, _ = clusters_of(columns, cluster)
    labels = np.asarray(columns[labels]) if isinstance(labels, str) else labels
    if labels is None or labels.shape[0] != fit.n or fit.law.target not in columns:
        return float(fit.n)
    actual, predicted = np.asarray(columns[fit.law.target], float), fit.predict(columns)
    residuals = np.log(actual / predicted) if fit.objective.space == "log" else actual - predicted
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    groups, n = counts.size, fit.n
    if groups in (1, n):
        return float(n)
    means = np.bincount(group, residuals) / counts
    within = float(((residuals - means[group]) ** 2).sum()) / (n - groups)
    between = float((counts * (means - residuals.mean()) ** 2).sum()) / (groups - 1)
    size = (n - float((counts**2).sum()) / n) / (groups - 1)
    rho = (between - within) / max(between + (size - 1) * within, 1e-300)
    return n / (1 + (size - 1) * min(max(rho, 0.0), 1.0))


def compare_laws(
    laws: Iterable[Law | str], columns: Mapping[str, np.ndarray], **options: Any
) -> list[RankedLaw]:
    """Fit several laws to the same rows and rank them, best first by AICc; rows of one run count as they are worth.

    Raises:
      BadInput: fewer than two laws, laws of different targets, or what `fit_law` refuses.
    """
    chosen = [get_law(law) if isinstance(law, str) else law for law in laws]
    if len(chosen) < 2:
        raise BadInput("at least 2 laws are needed for a comparison")
    check_one_target(chosen)
    return ranked(
        [fit_law(law, columns, **{"profile": False, **options}) for law in chosen],
        columns,
        options.get("cluster"),
    )


def check_one_target(laws: Sequence[Law]) -> None:
    """Raise BadInput where laws predict different columns."""
    if len({law.target for law in laws}) > 1:
        raise BadInput(f"laws of different targets cannot be compared: {', '.join(law.name for law in laws)}")


def ranked(
    fits: Sequence[Fit], columns: Mapping[str, np.ndarray], cluster: str | np.ndarray | None = None
) -> list[RankedLaw]:
    """Fits of the same rows, best first by AICc."""
    best_fit = min(fits, key=lambda fit: fit.value)
    rows = independent_rows(best_fit, columns, cluster)
    scores = [information(fit, rows) for fit in fits]
    best = min(score[1] for score in scores)
    gaps = [score[1] - best if math.isfinite(score[1]) else math.inf for score in scores]
    total = sum(math.exp(-gap / 2) for gap in gaps)
    found = [
        RankedLaw(fit, *score, delta_aicc=gap, weight=math.exp(-gap / 2) / total if total else 0.0)
        for fit, score, gap in zip(fits, scores, gaps, strict=True)
    ]
    return sorted(found, key=lambda rank: rank.delta_aicc)


@dataclass(frozen=True)
class Sensitivity:
    """One fit per choice of the analyst; `spans` the least and largest value of each parameter over all of them."""

    labels: tuple[str, ...]
    fits: tuple[Fit, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        names = self.fits[0].law.names
        values = {name: [fit.parameters[name] for fit in self.fits] for name in names}
        return {name: (min(entries), max(entries)) for name, entries in values.items()}

    def grid(self) -> Grid:
        """For the terminal."""
        grid = Grid(title="the same table under other choices", title_justify="left")
        names = list(self.fits[0].law.names)
        derived = "a_opt" in self.fits[0].derived
        for header in ("choice", "rows", *names, *(["a_opt"] if derived else [])):
            grid.add_column(header, justify="left" if header == "choice" else "right")
        for label, fit in zip(self.labels, self.fits, strict=True):
            numbers = [f"{fit.parameters[name]:.5g}" for name in names]
            numbers += [f"{fit.derived['a_opt']:.4f}"] if derived else []
            grid.add_row(label, str(fit.n), *numbers)
        for label, why in self.refused:
            grid.add_row(label, why, *["" for _ in names], *([""] if derived else []))
        return grid

    def to_json(self) -> dict[str, Any]:
        return {
            "choices": [
                {"choice": label, "n": fit.n, "parameters": fit.parameters, "derived": fit.derived}
                for label, fit in zip(self.labels, self.fits, strict=True)
            ],
            "refused": [{"choice": label, "why": why} for label, why in self.refused],
            "spans": {name: list(ends) for name, ends in self.spans.items()},
        }


def sensitivity(law: Law | str, columns: Mapping[str, np.ndarray], **options: Any) -> Sensitivity:
    """Refit under other objectives, deltas, exclusions, definitions of N and FLOP conventions.

    Args:
      options: of `fit_law`, as the reported fit had them.

    Raises:
      BadInput: what `fit_law` refuses with the options as they are; what it refuses of another choice is listed.
    """
    law = get_law(law) if isinstance(law, str) else law
    labels, fits, refused = [], [], []
    for choice in (_Choice("as asked", {}, columns), *_choices(law, columns, options)):
        try:
            fits.append(fit_law(law, choice.columns, **{**options, "profile": False, **choice.options}))
            labels.append(choice.label)
        except BadInput as error:
            if not fits:
                raise
            refused.append((choice.label, str(error)))
    return Sensitivity(tuple(labels), tuple(fits), tuple(refused))


@dataclass(frozen=True)
class _Choice:
    """What is changed of the options, and the columns."""

    label: str
    options: Mapping[str, Any]
    columns: Mapping[str, np.ndarray]


def _choices(law: Law, columns: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Iterator[_Choice]:
    """The choices that apply, which follow from the columns.

    `params_total` or `params_non_embedding` beside `params` give other definitions of N. `flops` beside params and
    tokens gives D = FLOPs / 6N or C = 6ND: what a table with another convention would have held.
    """
    if law.logarithmic:
        for delta in (1e-4, 1e-3, 1e-2):
            yield _Choice(
                f"huber {delta:g} on log", {"robust": "huber", "delta": delta, "space": "log"}, columns
            )
        for robust in ("l1", "l2"):
            yield _Choice(f"{robust} on log", {"robust": robust, "space": "log"}, columns)
    yield _Choice("l2 on value", {"robust": "l2", "space": "linear"}, columns)
    rows = np.asarray(columns[law.target]).shape[0]
    for dropped in (0, max(1, rows // 50), max(2, rows // 20)):
        if dropped != options.get("drop_worst", 0):
            yield _Choice(f"{dropped} largest left out", {"drop_worst": dropped}, columns)
    for other in ("params_total", "params_non_embedding"):
        if other in columns and "params" in law.inputs:
            yield _Choice(f"N = {other}", {}, {**columns, "params": columns[other]})
    if {"flops", "params", "tokens"} <= columns.keys():
        flops, params, tokens = (np.asarray(columns[name], float) for name in ("flops", "params", "tokens"))
        if np.max(np.abs(flops / (6.0 * params * tokens) - 1)) > SAME_FLOPS:
            if "tokens" in law.inputs:
                yield _Choice("D = flops / 6N", {}, {**columns, "tokens": flops / (6.0 * params)})
            if "flops" in law.inputs:
                yield _Choice("C = 6ND", {}, {**columns, "flops": 6.0 * params * tokens})
