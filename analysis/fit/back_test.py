"""How far a law can be trusted beyond its table: the largest runs are left out, predicted and compared.

`back_test` leaves out what costs more than a cutoff; `trust` does so for compute and for size and says how many of the
intervals held, and how large the lack of fit is that the intervals do not know of (`Trust.misfit`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, ndtri, stdtrit

from analysis.fit.checks import with_derived
from analysis.fit.clusters import clusters_of
from analysis.fit.fit import Fit, fit_law
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import BadInput
from core.numbers import percent

NOMINAL = 0.9
AXES = {"flops": "FLOPs", "params": "parameters"}  # what is left out by, where a table has it
KEPT = (0.75, 0.85, 0.5)  # shares of the rows, or of the sizes, that are fitted: the first that works
FEWEST_VALUES = 4  # of an axis, to leave the largest of them out
NEAR_STARTS = 31
GRID_STARTS = 64
MISFIT_QUANTILES = 60
RARE = 0.05


@dataclass(frozen=True)
class BackTest:
    """A fit on the smaller rows judged by the larger ones.

    Attributes:
      cutoff: the largest value of `axis` (flops, params) that was fitted.
      flops, actual, predicted, low, high: of the held-out rows; an interval of `level` for the run itself.
      held: of each held-out row, the logarithm of its value of `axis`.
      distance: of each held-out row, the logarithm of how far its furthest input lies beyond the fitted rows.
    """

    cutoff: float
    fit: Fit
    flops: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float = 0.95
    axis: str = "flops"
    held: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    distance: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def inside(self) -> np.ndarray:
        """Whether each held-out row lies in its interval."""
        return (self.low <= self.actual) & (self.actual <= self.high)

    @property
    def coverage(self) -> float:
        return float(np.mean(self.inside))

    @property
    def relative_error(self) -> float:
        """Mean absolute relative error of the held-out predictions."""
        return float(np.mean(np.abs(self.predicted / self.actual - 1)))

    @property
    def errors(self) -> np.ndarray:
        """Actual less predicted, in the space of the fit's residuals."""
        return self._residual_space(self.actual) - self._residual_space(self.predicted)

    @property
    def expected_sd(self) -> np.ndarray:
        """The standard deviation of an error that the interval stands for, in the same space."""
        ends = self._residual_space(self.high) - self._residual_space(self.low)
        return ends / (2 * float(ndtri(0.5 + self.level / 2)))

    def _residual_space(self, values: np.ndarray) -> np.ndarray:
        return np.log(values) if self.fit.objective.space == "log" else values


@dataclass(frozen=True)
class Trust:
    """Back-tests of one fit together.

    Attributes:
      nominal: level of the intervals. tests: by what was left out. refused: why others could not be made.
      largest: of the whole table, per column that a distance is taken in.
    """

    nominal: float
    tests: tuple[BackTest, ...]
    refused: tuple[str, ...]
    largest: Mapping[str, float]

    @property
    def n(self) -> int:
        return sum(test.actual.size for test in self.tests)

    @property
    def covered(self) -> int:
        return sum(int(test.inside.sum()) for test in self.tests)

    @property
    def error(self) -> float:
        """Mean absolute relative error over all held-out rows."""
        found = [np.abs(test.predicted / test.actual - 1) for test in self.tests]
        return float(np.mean(np.concatenate(found))) if found else math.nan

    @property
    def misfit(self) -> float:
        """Standard deviation of what errors have beyond their intervals, in the space of residuals.

        tau^2 = max(0, mean of (error^2 - expected variance)) over the held-out rows: the moment estimate of a variance
        component (DerSimonian and Laird 1986 for equal weights).
        """
        if not self.tests:
            return math.nan
        errors = np.concatenate([test.errors for test in self.tests])
        expected = np.concatenate([test.expected_sd for test in self.tests])
        return math.sqrt(max(0.0, float(np.mean(errors**2 - expected**2))))

    @property
    def reach(self) -> float:
        """Mean distance of the held-out rows beyond the fitted ones, as a logarithm."""
        return (
            float(np.mean(np.concatenate([test.distance for test in self.tests]))) if self.tests else math.nan
        )

    @property
    def degrees(self) -> int:
        """Distinct held-out budgets and sizes: rows of one are wrong together."""
        return sum(np.unique(np.round(test.held, 1)).size for test in self.tests)

    def warnings(self) -> list[str]:
        """Where fewer intervals held than should, and back-tests that could not be made where none could."""
        if not self.tests:
            return [f"no back-test: {'; '.join(self.refused)}"]
        return below_nominal(self.to_json())

    def sentence(self) -> str:
        """What was predicted from what, and how well."""
        if not self.tests:
            return f"No back-test: {'; '.join(self.refused)}."
        left_out = " and ".join(
            f"{test.actual.size} rows of more than {test.cutoff:.3g} {AXES[test.axis]}" for test in self.tests
        )
        return (
            f"Back-test: {left_out} were left out and predicted from the rest; {self.covered} of {self.n} landed in "
            f"their {self.nominal:.0%} interval, the mean error is {percent(self.error)}."
        )

    def to_json(self) -> dict[str, Any]:
        """The `back_test` entry of fit.json."""
        return {
            "nominal": self.nominal,
            "covered": self.covered,
            "n": self.n,
            "error": self.error,
            "misfit": self.misfit,
            "reach": self.reach,
            "degrees": self.degrees,
            "largest": dict(self.largest),
            "left_out": [
                {
                    "by": test.axis,
                    "above": test.cutoff,
                    "covered": int(test.inside.sum()),
                    "n": int(test.actual.size),
                    "error": test.relative_error,
                }
                for test in self.tests
            ],
            "refused": list(self.refused),
        }


def below_nominal(stored: Mapping[str, Any]) -> list[str]:
    """A warning where a back-test's coverage is below nominal, with how likely that is by chance.

    Raises:
      BadInput: `stored` is not the `back_test` entry of a fit.json.
    """
    try:
        nominal, covered, n = float(stored["nominal"]), int(stored["covered"]), int(stored["n"])
    except (KeyError, TypeError, ValueError):
        raise BadInput("back_test needs nominal, covered and n as numbers") from None
    if not (0 < nominal < 1 and 0 <= covered <= n):
        raise BadInput(
            f"back_test: nominal {nominal:g}, covered {covered}, n {n} is not allowed; 0 <= covered <= n"
        )
    if not n or covered >= nominal * n:
        return []
    chance = float(bdtr(covered, n, nominal))
    why = "intervals beyond the table are too narrow" if chance < RARE else "which chance may explain"
    return [
        f"back-test: {covered} of {n} left-out rows landed in their {nominal:.0%} interval (p = {chance:.2g} if "
        f"independent): {why}; --misfit on analysis.forecast widens intervals by the lack of fit"
    ]


def back_test(
    law: Law | str,
    columns: Mapping[str, np.ndarray],
    cutoffs: Sequence[float] = (0.5, 0.7, 0.85),
    level: float = 0.95,
    **options: Any,
) -> list[BackTest]:
    """Leave the runs of most compute out, predict them, and count how many landed in their interval.

    Args:
      cutoffs: shares (below 1: quantiles of compute) or FLOPs; rows at or below each are fitted.
      columns: with `flops`, or with params and tokens (then 6 N D).
      options: of `fit_law`.

    Raises:
      BadInput: a cutoff that leaves nothing to predict, or what `fit_law` refuses.
    """
    law = get_law(law) if isinstance(law, str) else law
    compute = _axis("flops", columns)
    results = []
    for cutoff in cutoffs:
        limit = float(np.quantile(compute, cutoff)) if 0 < cutoff < 1 else float(cutoff)
        results.append(_held_out(law, columns, compute <= limit, level, limit, "flops", options))
    return results


def trust(
    law: Law | str,
    columns: Mapping[str, np.ndarray],
    level: float = NOMINAL,
    whole_fit: Fit | None = None,
    **options: Any,
) -> Trust:
    """Leave out the largest budgets, then the largest sizes; rows of one run stay together.

    Args:
      columns: arrays of equal length, as `fit_law` takes them.
      whole_fit: of the whole table; what is left is then fitted from starts near it and a part of the law's own.
      options: of `fit_law`.
    """
    law = get_law(law) if isinstance(law, str) else law
    tests: list[BackTest] = []
    refused: list[str] = []
    runs, _ = clusters_of(columns, options.get("cluster"))
    if isinstance(runs, str):
        runs = np.asarray(columns[runs])
    whole = _reach_columns(law, columns)
    for axis in AXES:
        if axis not in whole:
            continue
        try:
            test = _largest_left_out(law, columns, axis, whole[axis], runs, level, whole_fit, options)
        except BadInput as error:
            refused.append(f"by {AXES[axis]}: {error}")
            continue
        if not any(np.array_equal(test.flops, earlier.flops) for earlier in tests):
            tests.append(test)
    largest = {name: float(values.max()) for name, values in whole.items()}
    return Trust(level, tuple(tests), tuple(refused or (() if tests else ("compute is unknown",))), largest)


def _largest_left_out(
    law: Law,
    columns: Mapping[str, np.ndarray],
    axis: str,
    values: np.ndarray,
    runs: np.ndarray | None,
    level: float,
    whole_fit: Fit | None,
    options: Mapping[str, Any],
) -> BackTest:
    """The first of the shares KEPT from which the law can be fitted with an interval."""
    if runs is not None and runs.shape == values.shape:
        _, run = np.unique(runs, return_inverse=True)
        values = np.array([values[run == one].max() for one in range(int(run.max()) + 1)])[run]
    distinct = np.unique(values)
    if distinct.size < FEWEST_VALUES:
        raise BadInput(f"{distinct.size} values are too few to leave the largest out")
    why: BadInput | None = None
    for share in KEPT:
        kept = distinct[: max(3, math.floor(share * distinct.size))] if axis != "flops" else values
        limit = float(kept.max()) if axis != "flops" else float(np.quantile(values, share))
        try:
            start = {} if whole_fit is None else {"starts": _starts(law, whole_fit, columns)}
            test = _held_out(law, columns, values <= limit, level, limit, axis, {**start, **options})
        except BadInput as error:
            why = why or error
            continue
        if np.isfinite([test.low, test.high, test.predicted]).all():
            return test
        why = why or BadInput("the smaller rows alone do not determine an interval")
    assert why is not None
    raise why


def _held_out(
    law: Law,
    columns: Mapping[str, np.ndarray],
    inside: np.ndarray,
    level: float,
    cutoff: float,
    axis: str,
    options: Mapping[str, Any],
) -> BackTest:
    """Fit the rows `inside` and predict the others."""
    if inside.all() or not inside.any():
        raise BadInput(
            f"cutoff {cutoff:g} leaves {int((~inside).sum())} rows to predict and {int(inside.sum())} to fit"
        )
    labels = options.get("cluster")
    if isinstance(labels, np.ndarray):
        options = {**options, "cluster": labels[inside]}
    fitted = fit_law(law, _at(columns, inside), **{"profile": False, **options})
    held = _at(columns, ~inside)
    inputs = {name: np.asarray(held[name], float) for name in (*law.inputs, *_COUNTED) if name in held}
    low, high = fitted.predict_interval(inputs, level)
    reach = _reach_columns(law, columns)
    beyond = [np.log(values[~inside] / values[inside].max()) for values in reach.values()]
    return BackTest(
        cutoff=cutoff,
        fit=fitted,
        flops=reach.get("flops", np.full(inside.size, np.nan))[~inside],
        actual=np.asarray(held[law.target], float),
        predicted=fitted.predict(inputs),
        low=low,
        high=high,
        level=level,
        axis=axis,
        held=np.log(reach[axis][~inside]) if axis in reach else np.zeros(int((~inside).sum())),
        distance=np.maximum(np.max(beyond, axis=0), 0.0) if beyond else np.zeros(int((~inside).sum())),
    )


def misfit_noise(stored: Mapping[str, Any], known: Mapping[str, float]) -> np.ndarray:
    """Equally likely values of the lack of fit of a run, from the `back_test` entry of a fit.json.

    Lack of fit at distance x = ln(input / largest of the table), of the input that is furthest beyond, is taken to grow
    in proportion: its standard deviation is tau x / reach, with tau and reach of the back-test, and Student's
    distribution with as many degrees as budgets and sizes were left out. It is zero within the table, whose residuals
    hold its lack of fit already.

    Args:
      known: inputs of the run.

    Raises:
      BadInput: the entry does not hold a misfit.
    """
    try:
        tau, reach, degrees = float(stored["misfit"]), float(stored["reach"]), int(stored["degrees"])
        largest = {str(name): float(value) for name, value in dict(stored["largest"]).items()}
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            "no misfit is known, since no back-test could be made; analysis.fit --back-test makes one"
        ) from None
    if not (tau >= 0 and degrees >= 1 and all(value > 0 for value in largest.values())):
        raise BadInput("back_test of the fit holds values that no back-test gives")
    beyond = [math.log(value / largest[name]) for name, value in known.items() if name in largest and value > 0]
    share = max([0.0, *beyond]) / reach if reach > 0 else 1.0
    levels = (np.arange(MISFIT_QUANTILES) + 0.5) / MISFIT_QUANTILES
    return np.asarray(tau * share * stdtrit(degrees, levels))


_COUNTED = ("params", "tokens", "flops")


def _reach_columns(law: Law, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a distance beyond a table is taken in: inputs that count things, and compute."""
    known, _ = with_derived(("flops", *law.inputs), columns)
    names = [name for name in _COUNTED if name in known and (name in law.inputs or name == "flops")]
    return {name: np.asarray(known[name], dtype=np.float64) for name in names}


def _axis(name: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    known, _ = with_derived((name,), columns)
    if name not in known:
        raise BadInput("compute is unknown: the table needs flops, or params and tokens")
    return np.asarray(known[name], dtype=np.float64)


def _starts(law: Law, fit: Fit, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Starts near a fit of more rows, and some of the law's own, natural."""
    near_fit = near(fit)
    own = law.starts(with_derived(law.inputs, columns)[0])
    some = law.to_natural(own[:: max(1, len(own) // GRID_STARTS)])
    return some if near_fit is None else np.concatenate([near_fit, some])


def near(fit: Fit) -> np.ndarray | None:
    """Starts for a neighbouring fit: the optimum and some of its resamples, in place of thousands of a grid."""
    best = np.array([[fit.parameters[name] for name in fit.parameter_names]])
    if fit.draws is None:
        return None
    draws = fit.draws[np.isfinite(fit.draws).all(axis=1) & (fit.draws > 0).all(axis=1)]
    return np.concatenate([best, draws[:NEAR_STARTS]])


def _at(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(values)[chosen] for name, values in columns.items()}
