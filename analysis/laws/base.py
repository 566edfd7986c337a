"""What a scaling law is: named parameters, a formula, a grid of starting points and a citation; nothing else.

A law is written once, as the logarithm of the loss (or as a plain value, for accuracies and errors). The engine
asks nothing more of it: derivatives, centring of the logarithms, bounds and the multi-start all follow from here.

Parameters are written in three spaces:

  natural   as they are printed: E, A, alpha.
  internal  without bounds at zero: the logarithm of a `positive` parameter, the value of any other.
  centred   internal, for logged columns that have lost their mean. A coefficient moves along (A of A / N^alpha becomes
            the value of that term at the mean of log N), so that it is nearly uncorrelated with its exponent. The
            optimizer works here.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a law.

    Attributes:
      name: as it is printed and written to fit.json.
      positive: whether the optimizer moves its logarithm.
      lower, upper: internal bounds.
      slopes: (column, exponent, factor) triples: this coefficient multiplies column^(factor * exponent).
      axis: the column on whose axis a positive parameter lies (a break point, a characteristic size).
    """

    name: str
    positive: bool
    lower: float
    upper: float
    slopes: tuple[tuple[str, str, float], ...] = ()
    axis: str | None = None


def positive(
    name: str,
    lower: float = 0.0,
    upper: float = np.inf,
    *,
    slopes: Sequence[tuple[str, str, float]] = (),
    axis: str | None = None,
) -> Parameter:
    """A parameter above zero, moved as its logarithm. Bounds are natural; zero stands for exp(-60)."""
    log_lower = np.log(lower) if lower > 0 else -60.0
    log_upper = np.log(upper) if np.isfinite(upper) else 80.0
    return Parameter(name, True, float(log_lower), float(log_upper), tuple(slopes), axis)


def exponent(name: str, lower: float = 0.0, upper: float = 5.0) -> Parameter:
    """The exponent of a falling power: at its lower bound, zero, the term no longer depends on its column."""
    return Parameter(name, False, lower, upper)


def real(name: str, lower: float = -1e3, upper: float = 1e3) -> Parameter:
    """A parameter of either sign."""
    return Parameter(name, False, lower, upper)


@dataclass(frozen=True)
class Term:
    """One term of a sum of powers: coefficient * product of column^(factor * exponent) over `powers`."""

    coefficient: str
    powers: tuple[tuple[str, str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Law:
    """A parametric form.

    Attributes:
      name: what `--law` takes.
      inputs: the columns that it reads.
      parameters: in the order in which they are printed.
      formula: (p, x) -> log of the prediction (or the prediction itself where `logarithmic` is False), written
        with jax.numpy. `p` has `log_A` and `A` for a positive parameter A, `alpha` for any other; `x` has
        `log_params` for a column `params` in `logged`, and the bare `loss` for a column that is not.
      grid: internal starting values of each parameter, or a function of the columns that gives them.
      source: authors, year, arXiv number, equation.
      text: the formula, for a reader.
      target: the column that is predicted.
      logarithmic: whether `formula` gives the logarithm of the prediction.
      logged: the inputs used as logarithms; all of them unless said otherwise.
      terms: for a sum of powers, its terms: they bring closed-form derivatives (see analysis/fit/derivatives.py).
      prepare: adds columns that the formula reads and the table does not have.
      centred: whether logged columns may be centred (False where the formula compares columns with constants).
      planted: natural values of every parameter, of a usual size: the truth that the tests plant in a table and find
        again (tests/analysis/test_laws.py).
      compare: whether reports and forecasts hold this law beside the others of the same table.
      added: the parameter that is added to everything else, where the law has one that is not called E.
      shift: what the formula's prediction and its floor exceed the table's by, so that a loss of either sign has a
        logarithm; 0 but for a law made by `signed`.
    """

    name: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    formula: Callable[[Any, Any], Any]
    grid: Mapping[str, Sequence[float] | np.ndarray] | Callable[[Columns], np.ndarray]
    source: str
    text: str
    planted: Mapping[str, float]
    target: str = "loss"
    logarithmic: bool = True
    logged: tuple[str, ...] | None = None
    terms: tuple[Term, ...] = ()
    prepare: Callable[[Columns], dict[str, np.ndarray]] | None = None
    centred: bool = True
    compare: bool = False
    added: str | None = None
    shift: float = 0.0

    @property
    def floor(self) -> str | None:
        """The parameter that is added to everything else, where the law has one."""
        alone = [term.coefficient for term in self.terms if not term.powers]
        return self.added or (alone[0] if alone else "E" if "E" in self.names else None)

    def signed(self, shift: float) -> "Law":
        """The same law for a target of either sign: its floor may be anything above -`shift`."""
        return dataclasses.replace(self, shift=shift)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def log_columns(self) -> tuple[str, ...]:
        return self.inputs if self.logged is None else self.logged

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that `formula` reads: the inputs, and those that `prepare` adds or that terms name."""
        named = [column for term in self.terms for column, _, _ in term.powers]
        return tuple(dict.fromkeys((*self.inputs, *named)))

    def index(self, name: str) -> int:
        return self.names.index(name)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper internal bounds, each of length P."""
        return (
            np.array([parameter.lower for parameter in self.parameters]),
            np.array([parameter.upper for parameter in self.parameters]),
        )

    def features(self, columns: Columns) -> dict[str, np.ndarray]:
        """The columns as the formula reads them, float64; logged ones under `log_<name>`, not yet centred."""
        prepared = dict(columns) if self.prepare is None else {**columns, **self.prepare(columns)}
        features = {}
        for name in self.reads:
            values = np.asarray(prepared[name], dtype=np.float64)
            if name in self.log_columns or name not in self.inputs:
                features[f"log_{name}"] = np.log(values)
            else:
                features[name] = values
        return features

    def centre(self, features: Columns, enabled: bool = True) -> "Centring":
        """The centring of these features (the identity where the law, or the caller, refuses it)."""
        means = {
            key.removeprefix("log_"): float(np.mean(values)) if enabled and self.centred else 0.0
            for key, values in features.items()
            if key.startswith("log_")
        }
        size = len(self.parameters)
        matrix, offset = np.eye(size), np.zeros(size)
        for row, parameter in enumerate(self.parameters):
            for column, exponent_name, factor in parameter.slopes:
                matrix[row, self.index(exponent_name)] += factor * means[column]
            if parameter.axis is not None:
                offset[row] -= means[parameter.axis]
        return Centring(means, matrix, offset)

    def starts(self, columns: Columns) -> np.ndarray:
        """The default starting points, shape (S, P), internal."""
        if callable(self.grid):
            return np.asarray(self.grid(columns), dtype=np.float64)
        axes = [np.asarray(self.grid[name], dtype=np.float64) for name in self.names]
        return np.array(list(itertools.product(*axes)))

    def to_natural(self, internal: np.ndarray) -> np.ndarray:
        """Internal to natural parameters along the last axis."""
        natural = np.array(internal, dtype=np.float64)
        for position, parameter in enumerate(self.parameters):
            if parameter.positive:
                natural[..., position] = np.exp(natural[..., position])
        if self.shift:
            natural[..., self.index(str(self.floor))] -= self.shift
        return natural

    def to_internal(self, natural: np.ndarray) -> np.ndarray:
        """Natural to internal parameters along the last axis; zero of a positive parameter is its bound."""
        internal = np.array(natural, dtype=np.float64)
        if self.shift:
            internal[..., self.index(str(self.floor))] += self.shift
        for position, parameter in enumerate(self.parameters):
            if parameter.positive:
                floor = np.exp(parameter.lower)
                internal[..., position] = np.log(np.maximum(internal[..., position], floor))
        return internal

    def evaluate(self, internal: Sequence[Any], features: Mapping[str, Any]) -> Any:
        """`formula` at P internal (or centred, as the features are) values, or arrays that broadcast."""
        values: dict[str, Any] = {}
        for parameter, value in zip(self.parameters, internal, strict=True):
            if parameter.positive:
                values[f"log_{parameter.name}"] = value
                values[parameter.name] = jnp.exp(value)
            else:
                values[parameter.name] = value
        return self.formula(SimpleNamespace(**values), SimpleNamespace(**features))


@dataclass(frozen=True)
class Centring:
    """From internal to centred parameters: centred = matrix @ internal + offset; logged columns lose their `means`."""

    means: Mapping[str, float]
    matrix: np.ndarray
    offset: np.ndarray

    def forward(self, internal: np.ndarray) -> np.ndarray:
        return internal @ self.matrix.T + self.offset

    def backward(self, centred: np.ndarray) -> np.ndarray:
        return (centred - self.offset) @ np.linalg.inv(self.matrix).T

    def apply(self, features: Columns) -> dict[str, np.ndarray]:
        return {
            key: values - self.means[key.removeprefix("log_")] if key.startswith("log_") else values
            for key, values in features.items()
        }


def power_sum(
    name: str,
    inputs: tuple[str, ...],
    terms: Sequence[Term],
    grid: Mapping[str, Sequence[float] | np.ndarray] | Callable[[Columns], np.ndarray],
    *,
    source: str,
    text: str,
    planted: Mapping[str, float],
    prepare: Callable[[Columns], dict[str, np.ndarray]] | None = None,
    compare: bool = False,
) -> Law:
    """A law that is a sum of positive terms, each a coefficient times powers of columns.

    Parameters come in the order coefficients, then exponents in order of first use. The formula is the
    log-sum-exp of the terms; the terms also give the engine closed-form derivatives.
    """
    exponents = tuple(dict.fromkeys(exponent_name for term in terms for _, exponent_name, _ in term.powers))
    parameters = tuple(positive(term.coefficient, slopes=term.powers) for term in terms) + tuple(
        exponent(name) for name in exponents
    )

    def formula(p: Any, x: Any) -> Any:
        logs = []
        for term in terms:
            value = getattr(p, f"log_{term.coefficient}")
            for column, exponent_name, factor in term.powers:
                value = value + factor * getattr(p, exponent_name) * getattr(x, f"log_{column}")
            logs.append(value)
        total = logs[0]
        for value in logs[1:]:
            total = jnp.logaddexp(total, value)
        return total

    return Law(
        name=name,
        inputs=inputs,
        parameters=parameters,
        formula=formula,
        grid=grid,
        source=source,
        text=text,
        planted=planted,
        terms=tuple(terms),
        prepare=prepare,
        compare=compare,
    )


def spread_starts(
    terms: Sequence[Term], exponents: Sequence[float], shares: Sequence[float], target: str = "loss"
) -> Callable[[Columns], np.ndarray]:
    """A start grid for a sum of powers: every combination of exponents, times shares of the first term.

    Coefficients follow from the table: at its logarithmic centre the first term is `share` of the typical loss and
    the others split the rest evenly.
    """
    names = tuple(dict.fromkeys(name for term in terms for _, name, _ in term.powers))

    def starts(columns: Columns) -> np.ndarray:
        prepared = dict(columns)
        if "tokens_per_param" in prepared and "params" in prepared:
            prepared["compute"] = 6.0 * prepared["params"] ** 2 * prepared["tokens_per_param"]
        read = {column for term in terms for column, _, _ in term.powers}
        centre = {column: float(np.log(prepared[column]).mean()) for column in read}
        level = float(np.log(np.median(columns[target])))
        rows = []
        for values in itertools.product(exponents, repeat=len(names)):
            power = dict(zip(names, values, strict=True))
            for share in shares if len(terms) > 1 else (1.0,):
                parts = [share] + [(1 - share) / max(len(terms) - 1, 1)] * (len(terms) - 1)
                logs = [
                    level + np.log(part) - sum(f * power[e] * centre[c] for c, e, f in term.powers)
                    for part, term in zip(parts, terms, strict=True)
                ]
                rows.append([*logs, *values])
        return np.array(rows)

    return starts
