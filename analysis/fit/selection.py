"""Which law, and how much of an answer is the analyst's choice: AIC and BIC, back-tests, a sensitivity table."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as Grid

from analysis.fit.checks import with_derived
from analysis.fit.fit import Fit, fit_law
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


def information(fit: Fit) -> tuple[float, float, float]:
    """AIC, AICc and BIC of a fit, from the likelihood that its objective stands for.

    Least squares: normal residuals with their variance as one more parameter (Akaike 1974). L1 and Huber: Laplace
    residuals, whose maximum likelihood is the sum of absolute residuals; a Huber objective enters as objective / delta,
    which differs from that sum only within delta. Criteria compare laws under one objective, on the same rows, only.
    """
    n, parameters = fit.n, len(fit.law.parameters) - len(fit.fixed) + 1
    floor = 1e-300
    if fit.objective.robust == "l2":
        likelihood = -0.5 * n * (math.log(2 * math.pi * max(fit.value / n, floor)) + 1)
    else:
        absolute = fit.value / (fit.objective.delta if fit.objective.robust == "huber" else 1.0)
        likelihood = -n * (math.log(2 * max(absolute / n, floor)) + 1)
    aic = 2 * parameters - 2 * likelihood
    spare = n - parameters - 1
    corrected = aic + 2 * parameters * (parameters + 1) / spare if spare > 0 else math.inf
    return aic, corrected, parameters * math.log(n) - 2 * likelihood


def compare_laws(
    laws: Iterable[Law | str], columns: Mapping[str, np.ndarray], **options: Any
) -> list[RankedLaw]:
    """Fit several laws to the same rows and rank them, best first by AICc.

    Raises:
      BadInput: fewer than two laws, laws of different targets, or what `fit_law` refuses.
    """
    chosen = [get_law(law) if isinstance(law, str) else law for law in laws]
    if len(chosen) < 2:
        raise BadInput("at least 2 laws are needed for a comparison")
    if len({law.target for law in chosen}) > 1:
        raise BadInput(f"laws of different targets cannot be compared: {', '.join(law.name for law in chosen)}")
    fits = [fit_law(law, columns, **{"profile": False, **options}) for law in chosen]
    scores = [information(fit) for fit in fits]
    best = min(score[1] for score in scores)
    gaps = [score[1] - best if math.isfinite(score[1]) else math.inf for score in scores]
    total = sum(math.exp(-gap / 2) for gap in gaps)
    ranked = [
        RankedLaw(fit, *score, delta_aicc=gap, weight=math.exp(-gap / 2) / total if total else 0.0)
        for fit, score, gap in zip(fits, scores, gaps, strict=True)
    ]
    return sorted(ranked, key=lambda rank: rank.delta_aicc)


@dataclass(frozen=True)
class BackTest:
    """A fit on the cheaper rows judged by the dearer ones.

    `cutoff` in FLOPs; arrays over held-out rows; `coverage` the share of them within their prediction interval.
    """

    cutoff: float
    fit: Fit
    flops: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def coverage(self) -> float:
        return float(np.mean((self.low <= self.actual) & (self.actual <= self.high)))

    @property
    def relative_error(self) -> float:
        """Mean absolute relative error of the held-out predictions."""
        return float(np.mean(np.abs(self.predicted / self.actual - 1)))


def back_test(
    law: Law | str,
    columns: Mapping[str, np.ndarray],
    cutoffs: Sequence[float] = (0.5, 0.7, 0.85),
    level: float = 0.95,
    **options: Any,
) -> list[BackTest]:
    """Leave the largest runs out, predict them, and count how many landed in their interval.

    Args:
      cutoffs: shares (below 1: quantiles of compute) or FLOPs; rows at or below each are fitted.
      columns: with `flops`, or with params and tokens (then 6 N D).
      options: of `fit_law`.

    Raises:
      BadInput: a cutoff that leaves nothing to predict, or what `fit_law` refuses.
    """
    law = get_law(law) if isinstance(law, str) else law
    known, _ = with_derived(("flops",), columns)
    if "flops" not in known:
        raise BadInput("compute is unknown: the table needs flops, or params and tokens")
    compute = np.asarray(known["flops"], dtype=np.float64)
    results = []
    for cutoff in cutoffs:
        limit = float(np.quantile(compute, cutoff)) if 0 < cutoff < 1 else float(cutoff)
        inside = compute <= limit
        if inside.all() or not inside.any():
            raise BadInput(
                f"cutoff {cutoff:g} leaves {int((~inside).sum())} rows to predict and {int(inside.sum())} to fit"
            )
        fitted = fit_law(law, _at(columns, inside), **{"profile": False, **options})
        held = _at(columns, ~inside)
        inputs = {
            name: np.asarray(held[name], float) for name in (*law.inputs, "params", "tokens") if name in held
        }
        low, high = fitted.predict_interval(inputs, level)
        results.append(
            BackTest(
                limit,
                fitted,
                compute[~inside],
                np.asarray(held[law.target], float),
                fitted.predict(inputs),
                low,
                high,
            )
        )
    return results


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


def _at(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[chosen] for name, values in columns.items()}
