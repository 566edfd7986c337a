"""Fit a law to a table, with a certificate and with intervals.

    python -m analysis.fit TABLE --law chinchilla --robust huber --delta 1e-3 --bootstrap 4000 --out fit.json

`fit_law` is the function, `Fit` what it gives, `Fit.to_json` the contract of fit.json.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.fit import frontier as frontiers
from analysis.fit import uncertainty
from analysis.fit.checks import check_fit, cluster_warning, usable_columns, with_derived
from analysis.fit.identified import identified
from analysis.fit.multistart import Certificate, multistart
from analysis.fit.objectives import Objective
from analysis.fit.problem import Prepared, predicted, prepare
from analysis.fit.profile import profile_intervals
from analysis.fit.solver import float64_on_cpu
from analysis.fit.uncertainty import percentile_levels, sandwich
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import BadInput

STORED_DRAWS = 1000  # draws kept in fit.json: enough for a 95% interval, small enough to read
MOST_AT_ONCE = 1 << 23  # outcomes of a prediction that are in memory at once
ASYMPTOTIC_DRAWS = 2000
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
    """

    law: Law
    objective: Objective
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

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return self.law.names

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The law at new inputs, one value a row (or scalar inputs: one value)."""
        return self.at(np.array([self.parameters[name] for name in self.law.names])[None], columns)[0]

    def predict_interval(
        self, columns: Mapping[str, Any], level: float = 0.95, noise: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the prediction interval at each row.

        Parameter draws, and with `noise` also the residuals' own quantiles: where the next run may land.

        Raises:
          BadInput: the fit has no draws (its parameters are not determined), or `level` is not within 0 and 1.
        """
        if not 0 < level < 1:
            raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")
        if self.draws is None:
            raise BadInput(
                f"the fit of law {self.law.name} has no draws: its table does not determine an interval"
            )
        draws = self.draws[:STORED_DRAWS] if noise else self.draws
        inputs, place = _distinct_rows(self.law, columns)
        values = self.at(draws, inputs)
        logged = self.objective.space == "log"
        centre_SR = np.log(values) if logged else values
        spread_Q = self.residual_quantiles if noise else np.zeros(1)
        ends = np.empty((2, values.shape[1]))
        step = max(1, MOST_AT_ONCE // (draws.shape[0] * spread_Q.size))
        for start in range(0, ends.shape[1], step):
            rows = slice(start, start + step)
            landed = centre_SR[:, None, rows] + spread_Q[None, :, None]
            with np.errstate(invalid="ignore"):
                ends[:, rows] = np.nanquantile(
                    landed.reshape(-1, landed.shape[2]), [0.5 - level / 2, 0.5 + level / 2], axis=0
                )
        ends = (np.exp(ends) if logged else ends)[:, place]
        return ends[0], ends[1]

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
            "n": self.n,
            "dropped": self.dropped,
            "objective": self.value,
            "parameters": self.parameters,
            "fixed": self.fixed,
            "level": self.level,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "standard_errors": self.standard_errors,
            "identified": self.identified,
            "starts": self.starts,
            "derived": self.derived,
            "derived_intervals": self.derived_intervals,
            "residual_sd": self.residual_sd,
            "residual_quantiles": self.residual_quantiles.tolist(),
            "draws_kind": self.draws_kind,
            "draws": draws,
            "seed": self.seed,
            "warnings": list(self.warnings),
        })  # fmt: skip

    def at(self, natural: np.ndarray, columns: Mapping[str, Any]) -> np.ndarray:
        """Predictions of (R, P) natural parameters at n rows: (R, n)."""
        return predict_law(self.law, natural, columns)


def _distinct_rows(law: Law, columns: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The inputs of a law without repeats, and the place among them of each row: seeds share their prediction."""
    read = {*law.inputs, "params", "tokens", "flops"}
    given = {
        name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in columns.items() if name in read
    }
    rows = np.stack(np.broadcast_arrays(*given.values())) if given else np.zeros((0, 1))
    distinct, place = np.unique(rows, axis=1, return_inverse=True)
    if distinct.shape[1] == rows.shape[1]:
        distinct, place = rows, np.arange(rows.shape[1])
    return dict(zip(given, distinct, strict=True)), place.reshape(-1)


def predict_law(law: Law, natural: np.ndarray, columns: Mapping[str, Any]) -> np.ndarray:
    """A law's values for parameters of shape (R, P), natural units, at n rows of inputs: shape (R, n). Inputs may
    also have shape (R, n), one row of inputs for each row of parameters.

    Raises:
      BadInput: an input is missing, or is not positive where its logarithm is needed.
    """
    usable = {*law.inputs, "params", "tokens", "flops"}
    given = {
        name: np.atleast_1d(np.asarray(value, dtype=np.float64))
        for name, value in columns.items()
        if name in usable
    }
    inputs, _ = with_derived(law.inputs, given)
    for name in law.inputs:
        if name not in inputs:
            raise BadInput(
                f"law {law.name} needs {name} to predict; given are {', '.join(sorted(inputs)) or 'none'}"
            )
        if not np.all(np.isfinite(inputs[name])) or (name in law.log_columns and np.any(inputs[name] <= 0)):
            raise BadInput(f"{name} must be finite and above 0 to predict; it is {inputs[name].min():g}")
    read = {name: inputs[name] for name in law.inputs}
    rows = np.broadcast_shapes(*(values.shape for values in read.values()))
    design = law.design({name: np.broadcast_to(values, rows) for name, values in read.items()})
    theta = tuple(column[:, None] for column in law.to_internal(np.atleast_2d(natural)).T)
    with float64_on_cpu():
        value = np.asarray(law.evaluate(theta, design))
    value = np.broadcast_to(value, np.broadcast_shapes((np.atleast_2d(natural).shape[0], 1), rows))
    return np.exp(value) if law.logarithmic else np.array(value)


def fit_law(
    law: Law | str,
    columns: Mapping[str, np.ndarray],
    *,
    robust: str = "huber",
    delta: float = 1e-3,
    space: str | None = None,
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
      robust, delta, space: the objective; space defaults to log for laws of the loss, linear for the others.
      bootstrap: resamples; 0 gives asymptotic errors and profile intervals.
      cluster: labels, or the name of their column: rows of one label are resampled together.
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
    objective = Objective(robust, delta, space or ("log" if law.logarithmic else "linear"))
    if not law.logarithmic and objective.space == "log":
        raise BadInput(
            f"space 'log' is not allowed for law {law.name}: its {law.target} may be zero; use linear"
        )
    if bootstrap < 0 or bootstrap == 1:
        raise BadInput(f"bootstrap {bootstrap} is not allowed; it is 0 or at least 2 resamples")
    if not 0 < level < 1:
        raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")
    fixed = _checked_fixed(law, {**law.default_fixed, **(fixed or {})})
    free = len(law.parameters) - len(fixed)
    columns, labels = _kept_rows(law, columns, cluster, drop_worst)
    table, derived_from = usable_columns(law, columns)
    warnings = [*table_warnings, *derived_from, *check_fit(law, table, free)]
    warnings += cluster_warning(columns, None if cluster is None else "given") if bootstrap else []
    prepared = prepare(law, table, objective, fixed)
    begin = law.starts(table) if starts is None else law.to_internal(np.atleast_2d(starts))
    theta, certificate = multistart(prepared, begin, seed)
    if not np.isfinite(certificate.minima[0].objective):
        raise BadInput(f"law {law.name} is not finite on this table from any of {certificate.tried} starts")
    return _described(prepared, theta, certificate, labels, warnings, {
        "bootstrap": bootstrap, "wild": wild, "seed": seed, "level": level, "fixed": fixed,
        "dropped": drop_worst, "profile": profile,
    })  # fmt: skip


def _described(
    prepared: Prepared,
    theta: np.ndarray,
    certificate: Certificate,
    labels: np.ndarray | None,
    warnings: list[str],
    asked: Mapping[str, Any],
) -> Fit:
    """Everything that is said about an optimum: errors, intervals, verdicts, derived numbers, warnings."""
    law, problem, level = prepared.law, prepared.problem, asked["level"]
    n, free = problem.y.size, len(law.parameters) - len(prepared.fixed)
    natural = prepared.natural(theta)
    residuals = problem.y - predicted(law, problem, theta)
    hessian = certificate.hessian
    spread = sandwich(prepared, theta, hessian, labels)
    if asked["bootstrap"]:
        points = np.array([minimum.theta for minimum in certificate.minima])
        drawn = uncertainty.bootstrap(
            prepared, points, asked["bootstrap"], asked["seed"], cluster=labels, wild=asked["wild"]
        )
        draws: np.ndarray | None = drawn.natural
        errors, kind = np.std(drawn.natural, axis=0), "bootstrap"
        groups = n if labels is None else np.unique(labels).size
        tails = percentile_levels(level, groups, free)
        if drawn.unconverged > 0.01 * asked["bootstrap"]:
            warnings.append(
                f"{drawn.unconverged} of {asked['bootstrap']} resamples did not converge to rounding level"
            )
    else:
        draws, kind = _asymptotic_draws(prepared, theta, spread.covariance, asked["seed"]), "asymptotic"
        tails = (0.5 - level / 2, 0.5 + level / 2)
        errors = _asymptotic_errors(prepared, theta, spread.covariance)
    ends = np.full((2, natural.size), np.nan) if draws is None else np.nanquantile(draws, tails, axis=0)
    intervals = {name: (float(ends[0, i]), float(ends[1, i])) for i, name in enumerate(law.names)}
    if not asked["bootstrap"] and (asked["profile"] if asked["profile"] is not None else n <= PROFILE_ROWS):
        intervals.update(profile_intervals(prepared, theta, hessian, level, spread))
    for name in prepared.fixed:
        intervals[name] = (asked["fixed"][name], asked["fixed"][name])
    parameters = {name: float(value) for name, value in zip(law.names, natural, strict=True)}
    verdicts = identified(law, intervals, certificate.at_bound, prepared.fixed)
    derived, derived_intervals = _derived(law, parameters, draws, tails)
    warnings += certificate.warnings(law)
    unknown = [name for name, known in verdicts.items() if not known]
    if unknown:
        warnings.append(f"not identified by this table: {', '.join(unknown)}")
    widen = math.sqrt(n / max(n - free, 1))
    return Fit(
        law=law, objective=prepared.objective, value=float(prepared.objective.value(residuals, problem.weights)),
        n=n, parameters=parameters,
        standard_errors={name: float(value) for name, value in zip(law.names, errors, strict=True)},
        intervals=intervals, identified=verdicts, draws=draws, draws_kind=kind,
        residual_sd=float(np.sqrt(np.average(residuals**2, weights=problem.weights)) * widen),
        residual_quantiles=np.quantile(residuals * widen, np.linspace(0, 1, 201)),
        starts=certificate.to_json(prepared), derived=derived, derived_intervals=derived_intervals,
        level=level, seed=asked["seed"], fixed=dict(asked["fixed"]), dropped=asked["dropped"],
        warnings=tuple(dict.fromkeys(warnings)),
    )  # fmt: skip


def _checked_fixed(law: Law, fixed: Mapping[str, float | None]) -> dict[str, float]:
    """Names and values of pinned parameters; None frees one that the law holds by default."""
    held = {}
    for name, value in fixed.items():
        if name not in law.names:
            raise BadInput(f"parameter {name!r} is not one of law {law.name}: {', '.join(law.names)}")
        if value is None:
            continue
        if not np.isfinite(value) or (law.parameters[law.index(name)].positive and value <= 0):
            raise BadInput(f"parameter {name} cannot be held at {value!r}")
        held[name] = float(value)
    if len(held) == len(law.parameters):
        raise BadInput(f"every parameter of law {law.name} is held: there is nothing to fit")
    return held


def _kept_rows(
    law: Law, columns: Mapping[str, np.ndarray], cluster: str | np.ndarray | None, drop_worst: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The rows that are fitted, in their order, and their cluster labels."""
    kept = {name: np.asarray(values) for name, values in columns.items()}
    if isinstance(cluster, str):
        if cluster not in kept:
            raise BadInput(f"cluster column {cluster!r} is missing; the table has {', '.join(sorted(kept))}")
        cluster = kept[cluster]
    labels = None if cluster is None else np.asarray(cluster)
    if labels is not None and np.unique(labels).size < 2:
        raise BadInput("cluster column has one label only; at least 2 clusters are needed")
    if law.target not in kept or not drop_worst:
        return kept, labels
    rows = kept[law.target].shape[0]
    if not 0 <= drop_worst < rows:
        raise BadInput(f"drop-worst {drop_worst} is not allowed; the table has {rows} rows")
    keep = np.sort(np.argsort(-kept[law.target], kind="stable")[drop_worst:])
    return {name: values[keep] for name, values in kept.items()}, None if labels is None else labels[keep]


def _asymptotic_draws(
    prepared: Prepared, theta: np.ndarray, covariance: np.ndarray, seed: int
) -> np.ndarray | None:
    """Draws around the optimum from its asymptotic (Student) distribution; None where it has none."""
    known = np.isfinite(np.diag(covariance))
    if not known.any():
        return None
    block = covariance[np.ix_(known, known)]
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(seed)
    degrees = max(prepared.problem.y.size - int(known.sum()), 1)
    normal = rng.standard_normal((ASYMPTOTIC_DRAWS, int(known.sum())))
    student = normal / np.sqrt(rng.chisquare(degrees, (ASYMPTOTIC_DRAWS, 1)) / degrees)
    points = np.tile(theta, (ASYMPTOTIC_DRAWS, 1))
    points[:, known] += student @ root.T
    natural = prepared.natural(np.clip(points, prepared.box.lower, prepared.box.upper))
    return np.clip(natural, -1e300, 1e300)


def _asymptotic_errors(prepared: Prepared, theta: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard errors in natural units by the delta method."""
    inverse = np.linalg.inv(prepared.centring.matrix)
    variance = np.diag(inverse @ np.nan_to_num(covariance) @ inverse.T).copy()
    unknown = ~np.isfinite(np.diag(covariance))
    touched = (np.abs(inverse[:, unknown]) > 1e-12).any(axis=1)
    errors = np.sqrt(np.maximum(variance, 0.0))
    natural = prepared.natural(theta)
    for position, parameter in enumerate(prepared.law.parameters):
        if parameter.positive:
            errors[position] *= natural[position]
    errors[touched] = np.nan
    for name in prepared.fixed:
        errors[prepared.law.index(name)] = 0.0
    return errors


def _derived(
    law: Law, parameters: Mapping[str, float], draws: np.ndarray | None, tails: tuple[float, float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the chinchilla form says about compute-optimal training, with intervals; nothing for other laws."""
    if set(law.names) != {"E", "A", "B", "alpha", "beta"}:
        return {}, {}
    flops = np.array(frontiers.FRONTIER_FLOPS)

    def numbers(values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        optimum = frontiers.frontier(values, flops)
        a, b = frontiers.exponents(values)
        return a, b, optimum.tokens / optimum.params

    def laid_out(a: Any, b: Any, ratio: Any) -> dict[str, Any]:
        return {
            "a_opt": a,
            "b_opt": b,
            "tokens_per_param_at": {f"{budget:.3g}": value for budget, value in zip(flops, ratio, strict=True)},
        }

    a, b, ratio = numbers(parameters)
    derived = laid_out(float(a), float(b), ratio.tolist())
    if draws is None:
        return derived, {}
    drawn = numbers({name: draws[:, [position]] for position, name in enumerate(law.names)})
    ends = [np.nanquantile(np.clip(values, -1e300, 1e300), tails, axis=0) for values in drawn]
    return derived, laid_out(ends[0][:, 0].tolist(), ends[1][:, 0].tolist(), ends[2].T.tolist())


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: an absent number is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def fit_from_json(stored: Mapping[str, Any]) -> Fit:
    """The fit that `Fit.to_json` wrote: predictions and intervals work as before, from the stored draws.

    Raises:
      BadInput: a key is missing or of the wrong kind.
    """
    try:
        law = get_law(stored["law"])
        draws = stored["draws"]
        return Fit(
            law=law,
            objective=Objective(stored["robust"], float(stored["delta"]), stored["space"]),
            value=_number(stored["objective"]),
            n=int(stored["n"]),
            parameters={name: float(stored["parameters"][name]) for name in law.names},
            standard_errors={name: _number(stored["standard_errors"][name]) for name in law.names},
            intervals={
                name: (_number(stored["intervals"][name][0]), _number(stored["intervals"][name][1]))
                for name in law.names
            },
            identified={name: bool(stored["identified"][name]) for name in law.names},
            draws=None if draws is None else np.array(draws, dtype=np.float64).reshape(-1, len(law.names)),
            draws_kind=str(stored["draws_kind"]),
            residual_sd=_number(stored["residual_sd"]),
            residual_quantiles=np.array(stored["residual_quantiles"], dtype=np.float64),
            starts=dict(stored["starts"]),
            derived=dict(stored["derived"]),
            derived_intervals=dict(stored["derived_intervals"]),
            level=float(stored["level"]),
            seed=int(stored["seed"]),
            fixed={name: float(value) for name, value in stored["fixed"].items()},
            dropped=int(stored["dropped"]),
            warnings=tuple(stored["warnings"]),
        )
    except KeyError as error:
        raise BadInput(f"not a fit.json: the key {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"not a fit.json: {error}") from None
