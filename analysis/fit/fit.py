"""Fit a law to a table, with a certificate and with intervals.

    python -m analysis.fit TABLE --law chinchilla --robust huber --delta 1e-3 --bootstrap 4000 --out fit.json

`fit_law` is the function, `Fit` what it gives, `Fit.to_json` the contract of fit.json.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.fit.checks import (
    check_choices,
    check_fit,
    checked_fixed,
    floor_warning,
    kept_rows,
    signed_law,
    usable_columns,
)
from analysis.fit.clusters import clusters_of, correlation_warning, few_clusters, left_out
from analysis.fit.estimation import Estimation, estimation_of
from analysis.fit.frontier import compute_optimal
from analysis.fit.identified import WORDS, identified, where_it_ended
from analysis.fit.multistart import Certificate, multistart
from analysis.fit.objectives import FitObjective
from analysis.fit.prediction import predict_law, prediction_interval
from analysis.fit.profile import profile_intervals
from analysis.fit.uncertainty import (
    Sandwich,
    asymptotic_draws,
    asymptotic_errors,
    bootstrap_draws,
    percentile_levels,
    sandwich,
)
from analysis.laws import get_law
from analysis.laws.base import Law
from analysis.quantiles import finite_quantiles
from core.errors import BadInput
from core.numbers import number

STORED_DRAWS = 1000  # draws kept in fit.json: enough for a 95% interval, small enough to read
NOISE_QUANTILES = 50  # of the residuals, where they are combined with a misfit
PROFILE_ROWS = 4096  # beyond this many rows profiles agree with the asymptotic interval and only cost time


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
      law, objective: what was fitted and how; `value` is the objective summed over rows.
      n: rows used. parameters: natural units.
      standard_errors, intervals: of the bootstrap where one was asked for (`draws_kind` says), else asymptotic
        errors and profile intervals. NaN where the table gives none.
      identified: verdict per parameter (analysis/fit/identified.py).
      draws: (R, P) natural units, or None where no covariance exists.
      residual_sd, residual_quantiles: residuals in the objective's space, widened for the parameters spent.
      starts: the certificate, as fit.json has it.
      derived, derived_intervals: for the chinchilla law a_opt, b_opt, tokens_per_param_at.
      warnings: one line each. dropped: rows left out by drop_worst.
      back_test: what analysis/fit/back_test.py found, where it was asked: nominal, covered, n, ...
    """

    law: Law
    objective: FitObjective
    value: float
    n: int
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    identified: dict[str, bool]
    draws: np.ndarray | None
    draws_kind: str
    residual_sd: float
    residual_quantiles: np.ndarray
    starts: dict[str, Any]
    derived: dict[str, Any]
    derived_intervals: dict[str, Any]
    level: float = 0.95
    seed: int = 0
    fixed: dict[str, float] = field(default_factory=dict)
    dropped: int = 0
    warnings: tuple[str, ...] = ()
    back_test: Mapping[str, Any] | None = None

    @property
    def known(self) -> bool:
        """Whether the law is identified: all its parameters are."""
        return all(self.identified.values())

    @property
    def unknown(self) -> dict[str, str]:
        """The parameters that are not identified, and why."""
        return {
            name: where_it_ended(self.law, name, self.parameters[name], self.intervals[name])
            for name, known in self.identified.items()
            if not known
        }

    @property
    def why_unknown(self) -> str:
        """`unknown` in one line."""
        return "; ".join(f"{name}: {why}" for name, why in self.unknown.items())

    @property
    def no_forecast(self) -> str:
        """Why nothing is predicted from a law that is not identified, and what would change that."""
        return (
            f"the law is not identified by its table ({self.why_unknown}), so that no forecast follows from it; more "
            "sizes, data sizes or seeds would identify it"
        )

    def said(self, name: str, digits: int = 3) -> str:
        """A parameter as a reader is told it: a number, or that it is not identified where it has run into a bound."""
        why = self.unknown.get(name, "")
        if "bound" in why or "no finite" in why:
            return f"not identified ({why})"
        return number(self.parameters[name], digits)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return self.law.names

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The law at new inputs, one value a row (or scalar inputs: one value)."""
        return predict_law(self.law, np.array([self.parameters[name] for name in self.law.names]), columns)[0]

    def predict_interval(
        self,
        columns: Mapping[str, Any],
        level: float = 0.95,
        noise: bool = True,
        misfit: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the prediction interval at each row.

        Parameter draws, and with `noise` also the residuals' own quantiles: where the next run may land. With `misfit`
        also these equally likely values of lack of fit (analysis/fit/back_test.py), in the residuals' space.

        Raises:
          BadInput: the fit has no draws (its parameters are not determined), or `level` is not within 0 and 1.
        """
        if self.draws is None:
            raise BadInput(
                f"the fit of law {self.law.name} has no draws: its table does not determine an interval"
            )
        draws = self.draws[:STORED_DRAWS] if noise else self.draws
        added = self.residual_quantiles if noise else np.zeros(1)
        if misfit is not None:
            coarse = np.quantile(added, (np.arange(NOISE_QUANTILES) + 0.5) / NOISE_QUANTILES)
            added = (coarse[:, None] + misfit[None, :]).reshape(-1)
        return prediction_interval(self.law, draws, added, columns, level, self.objective.space == "log")

    def to_json(self) -> dict[str, Any]:
        """The contents of fit.json, without `input`, which only the caller knows."""
        draws = None if self.draws is None else self.draws[:STORED_DRAWS].tolist()
        return _plain({
            "law": self.law.name,
            "formula": self.law.text,
            "source": self.law.source,
            "robust": self.objective.robust,
            "delta": self.objective.delta,
            "space": self.objective.space,
            **({"asymmetry": self.objective.asymmetry} if self.objective.asymmetry != 1 else {}),
            **({"shift": self.law.shift} if self.law.shift else {}),
            "n": self.n,
            "dropped": self.dropped,
            "objective": self.value,
            "parameters": self.parameters,
            "fixed": self.fixed,
            "level": self.level,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "standard_errors": self.standard_errors,
            "identified": self.identified,
            "law_identified": self.known,
            "identified_means": WORDS,
            "starts": self.starts,
            "derived": self.derived,
            "derived_intervals": self.derived_intervals,
            "residual_sd": self.residual_sd,
            "residual_quantiles": self.residual_quantiles.tolist(),
            "draws_kind": self.draws_kind,
            "draws": draws,
            "seed": self.seed,
            "warnings": list(self.warnings),
            **({} if self.back_test is None else {"back_test": dict(self.back_test)}),
        })  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Fit":
        """The fit that `to_json` wrote: predictions and intervals work as before, from the stored draws.

        Raises:
          BadInput: a key is missing or of the wrong kind.
        """
        try:
            law = get_law(stored["law"]).signed(float(stored.get("shift", 0.0)))
            draws = stored["draws"]
            fixed = {name: float(value) for name, value in stored["fixed"].items()}
            parameters = {name: float(stored["parameters"][name]) for name in law.names}
            intervals = {
                name: (_number(stored["intervals"][name][0]), _number(stored["intervals"][name][1]))
                for name in law.names
            }
            # by the criterion of today, whatever an earlier version stored
            known = identified(
                law, parameters, intervals, tuple(stored["starts"].get("at_bound", ())), tuple(fixed)
            )
            return cls(
                law=law,
                objective=FitObjective(
                    stored["robust"],
                    float(stored["delta"]),
                    stored["space"],
                    float(stored.get("asymmetry", 1.0)),
                ),
                value=_number(stored["objective"]),
                n=int(stored["n"]),
                parameters=parameters,
                standard_errors={name: _number(stored["standard_errors"][name]) for name in law.names},
                intervals=intervals,
                identified=known,
                draws=None if draws is None else np.array(draws, dtype=np.float64).reshape(-1, len(law.names)),
                draws_kind=str(stored["draws_kind"]),
                residual_sd=_number(stored["residual_sd"]),
                residual_quantiles=np.array(stored["residual_quantiles"], dtype=np.float64),
                starts=dict(stored["starts"]),
                derived=dict(stored["derived"]),
                derived_intervals=dict(stored["derived_intervals"]),
                level=float(stored["level"]),
                seed=int(stored["seed"]),
                fixed=fixed,
                dropped=int(stored["dropped"]),
                warnings=tuple(stored["warnings"]),
                back_test=_object(stored.get("back_test")),
            )
        except KeyError as error:
            raise BadInput(f"not a fit.json: the key {error.args[0]!r} is missing") from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"not a fit.json: {error}") from None


def fit_law(
    law: Law | str,
    columns: Mapping[str, np.ndarray],
    *,
    robust: str = "huber",
    delta: float = 1e-3,
    space: str | None = None,
    asymmetry: float = 1.0,
    signed_floor: bool = False,
    bootstrap: int = 0,
    cluster: str | np.ndarray | None = None,
    wild: bool = False,
    seed: int = 0,
    level: float = 0.95,
    starts: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
    drop_worst: int = 0,
    profile: bool | None = None,
    table_warnings: Sequence[str] = (),
) -> Fit:
    """Fit `law` to a table.

    Args:
      law: a law or its name.
      columns: arrays of equal length: the law's inputs and target; optional `weight`; labels for `cluster`.
      robust, delta, space, asymmetry: the objective; space defaults to log for laws of the loss, linear for the others.
      signed_floor: let the floor be negative though every loss is positive, in linear space.
      bootstrap: resamples; 0 gives asymptotic errors and profile intervals.
      cluster: labels, or the name of their column: rows of one label share their luck and are left out or resampled
        together. By default the column `run` where its labels repeat; "none" for independent rows.
      wild: flip residuals instead of drawing rows.
      starts: natural starting values, shape (S, P), in place of the law's own grid.
      fixed: parameters held at natural values.
      drop_worst: leave out that many rows of the largest target.
      profile: whether to compute profile intervals; by default where there is no bootstrap and the table is small.

    Raises:
      BadInput: what `analysis/fit/checks.py` refuses, an argument that is not allowed, or a law that cannot be
        evaluated anywhere near its starts on this table.
    """
    law = get_law(law) if isinstance(law, str) else law
    objective = FitObjective(robust, delta, space or ("log" if law.logarithmic else "linear"), asymmetry)
    check_choices(law, objective, bootstrap, wild, level)
    fixed = checked_fixed(law, fixed or {})
    cluster, clustered = clusters_of(columns, cluster)
    columns, labels = kept_rows(law, columns, cluster, drop_worst)
    law, columns = signed_law(law, objective.space, columns, signed_floor)
    table, derived_from = usable_columns(law, columns)
    free = len(law.parameters) - len(fixed)
    warnings = [*table_warnings, *derived_from, *check_fit(law, table, free), *clustered]
    warnings += [] if labels is None else few_clusters(labels, free)
    estimation = estimation_of(law, table, objective, fixed)
    begin = law.starts(table) if starts is None else law.to_internal(np.atleast_2d(starts))
    point, certificate = multistart(estimation, begin, seed)
    if not np.isfinite(certificate.minima[0].objective):
        raise BadInput(f"law {law.name} is not finite on this table from any of {certificate.tried} starts")
    spread = sandwich(estimation, point, certificate.hessian, labels)
    if labels is not None and not bootstrap:
        spread = left_out(estimation, certificate.points, labels, spread)
    if bootstrap:
        errors = _bootstrapped(estimation, certificate, labels, bootstrap, wild, seed, level)
    else:
        errors = _asymptotic(estimation, point, spread, seed, level)
    intervals = errors.intervals(law.names)
    if not bootstrap and spread.told and (estimation.rows <= PROFILE_ROWS if profile is None else profile):
        intervals.update(profile_intervals(estimation, point, certificate.hessian, level, spread))
    intervals.update({name: (value, value) for name, value in fixed.items()})
    parameters = dict(zip(law.names, estimation.natural(point).tolist(), strict=True))
    known = identified(law, parameters, intervals, certificate.at_bound, estimation.fixed)
    derived, derived_intervals = compute_optimal(parameters, errors.draws, errors.tails)
    warnings += [*errors.warnings, *certificate.warnings(law), *floor_warning(law, parameters)]
    if not all(known.values()):
        warnings.append(f"not identified by this table: {', '.join(name for name in known if not known[name])}")
    residuals = estimation.residuals(point)
    warnings += correlation_warning(columns, residuals, seed) if labels is None and not clustered else []
    widen = math.sqrt(estimation.rows / max(estimation.rows - estimation.free, 1))
    weights = estimation.problem.weights
    return Fit(
        law=law,
        objective=objective,
        value=float(objective.value(residuals, weights)),
        n=estimation.rows,
        parameters=parameters,
        standard_errors=dict(zip(law.names, errors.standard.tolist(), strict=True)),
        intervals=intervals,
        identified=known,
        draws=errors.draws,
        draws_kind=errors.kind,
        residual_sd=float(np.sqrt(np.average(residuals**2, weights=weights)) * widen),
        residual_quantiles=np.quantile(residuals * widen, np.linspace(0, 1, 201)),
        starts=certificate.to_json(estimation),
        derived=derived,
        derived_intervals=derived_intervals,
        level=level,
        seed=seed,
        fixed=fixed,
        dropped=drop_worst,
        warnings=tuple(dict.fromkeys(warnings)),
    )


@dataclass(frozen=True)
class _Errors:
    """Natural standard errors (P,), draws (R, P) or None, and the percentiles of them that end an interval."""

    kind: str
    standard: np.ndarray
    draws: np.ndarray | None
    tails: tuple[float, float]
    warnings: tuple[str, ...] = ()

    def intervals(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Percentiles of the draws of each parameter; NaN where there are no draws."""
        if self.draws is None:
            return dict.fromkeys(names, (math.nan, math.nan))
        low, high = finite_quantiles(self.draws, self.tails).tolist()
        return dict(zip(names, zip(low, high, strict=True), strict=True))


def _bootstrapped(
    estimation: Estimation,
    certificate: Certificate,
    labels: np.ndarray | None,
    resamples: int,
    wild: bool,
    seed: int,
    level: float,
) -> _Errors:
    drawn = bootstrap_draws(estimation, certificate.points, resamples, seed, cluster=labels, wild=wild)
    independent = estimation.rows if labels is None else np.unique(labels).size
    tails = percentile_levels(level, independent, estimation.free)
    warnings: tuple[str, ...] = ()
    if drawn.unconverged > 0.01 * resamples:
        warnings = (f"{drawn.unconverged} of {resamples} resamples did not converge to rounding level",)
    return _Errors("bootstrap", np.std(drawn.natural, axis=0), drawn.natural, tails, warnings)


def _asymptotic(
    estimation: Estimation, point: np.ndarray, spread: Sandwich, seed: int, level: float
) -> _Errors:
    draws = asymptotic_draws(estimation, point, spread, seed)
    errors = asymptotic_errors(estimation, point, spread.covariance)
    kind = "asymptotic" if spread.degrees is None else "clusters left out"
    return _Errors(kind, errors, draws, (0.5 - level / 2, 0.5 + level / 2))


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: an absent number is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _object(value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise BadInput("not a fit.json: back_test is not an object")
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
