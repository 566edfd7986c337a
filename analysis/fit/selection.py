"""Which law, and how much of an answer is the analyst's choice: AIC and BIC, back-tests, a sensitivity table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as Grid

from analysis.fit.fit import Fit, fit_law
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import BadInput


@dataclass(frozen=True)
class Scored:
    """A law's fit with its information criteria; `delta_aicc` and `weight` are relative to the best of the set."""

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


def compare_laws(laws: Iterable[Law | str], columns: Mapping[str, np.ndarray], **options: Any) -> list[Scored]:
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
        Scored(fit, *score, delta_aicc=gap, weight=math.exp(-gap / 2) / total)
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
    compute = flops_of(columns)
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


def flops_of(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The `flops` column, or 6 N D."""
    if "flops" in columns:
        return np.asarray(columns["flops"], dtype=np.float64)
    if {"params", "tokens"} <= columns.keys():
        return 6.0 * np.asarray(columns["params"], float) * np.asarray(columns["tokens"], float)
    raise BadInput("compute is unknown: the table needs flops, or params and tokens")


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

    The choices that apply follow from the columns: `params_total` or `params_non_embedding` beside `params` give other
    definitions of N; `flops` beside tokens gives D = FLOPs / 6N, what a table with another convention would have held.
    """
    law = get_law(law) if isinstance(law, str) else law
    base = {"robust": "huber", "delta": 1e-3, "space": None, "drop_worst": 0, **options}
    first = {**base, "profile": False}
    dropped, rows = int(base["drop_worst"]), np.asarray(columns[law.target]).shape[0]
    choices: list[tuple[str, dict[str, Any], Mapping[str, np.ndarray]]] = [("as asked", {}, columns)]
    if law.logarithmic:
        choices += [(f"huber {delta:g} on log", {"robust": "huber", "delta": delta, "space": "log"}, columns)
                    for delta in (1e-4, 1e-3, 1e-2)]  # fmt: skip
        choices += [("l1 on log", {"robust": "l1", "space": "log"}, columns),
                    ("l2 on log", {"robust": "l2", "space": "log"}, columns)]  # fmt: skip
    choices.append(("l2 on value", {"robust": "l2", "space": "linear"}, columns))
    for more in (0, max(1, rows // 50), max(2, rows // 20)):
        if more != dropped:
            choices.append((f"{more} largest left out", {"drop_worst": more}, columns))
    for other in ("params_total", "params_non_embedding"):
        if other in columns and "params" in law.inputs:
            choices.append((f"N = {other}", {}, {**columns, "params": columns[other]}))
    if {"flops", "params", "tokens"} <= columns.keys() and "tokens" in law.inputs:
        implied = np.asarray(columns["flops"], float) / (6.0 * np.asarray(columns["params"], float))
        if np.max(np.abs(implied / np.asarray(columns["tokens"], float) - 1)) > 1e-3:
            choices.append(("D = flops / 6N", {}, {**columns, "tokens": implied}))
    if {"params", "tokens"} <= columns.keys() and "flops" in law.inputs and "flops" in columns:
        product = 6.0 * np.asarray(columns["params"], float) * np.asarray(columns["tokens"], float)
        if np.max(np.abs(product / np.asarray(columns["flops"], float) - 1)) > 1e-3:
            choices.append(("C = 6ND", {}, {**columns, "flops": product}))
    labels, fits, refused = [], [], []
    for label, change, table in choices:
        try:
            fits.append(fit_law(law, table, **{**first, **change}))
            labels.append(label)
        except BadInput as error:
            if label == "as asked":
                raise
            refused.append((label, str(error)))
    return Sensitivity(tuple(labels), tuple(fits), tuple(refused))


def _at(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[chosen] for name, values in columns.items()}
