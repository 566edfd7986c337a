"""What a law needs of a table: refused in one line where it is missing, warned of where it is thin."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.fit.objectives import FitObjective
from analysis.laws.base import Columns, Law
from core.errors import BadInput

MOST_RESAMPLES = 1_000_000
NARROW_DECADES = 1.0
NO_FLOOR = 1e-9  # a floor below this has gone to 0
SIGNED_ROOM = 10.0  # how many spans of the target below its smallest value a floor of either sign may lie


def check_choices(law: Law, objective: FitObjective, bootstrap: int, wild: bool, level: float) -> None:
    """Refuse (BadInput) options that do not go together or are out of range."""
    if not law.logarithmic and objective.space == "log":
        raise BadInput(
            f"space 'log' is not allowed for law {law.name}: its {law.target} may be zero; use linear"
        )
    if bootstrap < 0 or bootstrap == 1 or bootstrap > MOST_RESAMPLES:
        raise BadInput(
            f"bootstrap {bootstrap} is not allowed; it is 0 or at least 2 resamples, at most {MOST_RESAMPLES:,}"
        )
    if wild and objective.asymmetry != 1:
        raise BadInput(
            f"--wild flips residuals, which asymmetry {objective.asymmetry:g} tells apart; resample rows instead"
        )
    if not 0 < level < 1:
        raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")


def with_derived(
    needed: Sequence[str], columns: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns, with those that follow from others by C = 6 N D or M = D / N, and a line on each that does."""
    known, notes = dict(columns), []

    def values(name: str) -> np.ndarray:
        return np.asarray(known[name], dtype=np.float64)

    def missing(name: str, *others: str) -> bool:
        return name not in known and all(other in known for other in others)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wants_tokens = "tokens" in needed or "tokens_per_param" in needed
        if wants_tokens and "tokens_per_param" not in known and missing("tokens", "flops", "params"):
            known["tokens"] = values("flops") / (6.0 * values("params"))
            notes.append("the table has no tokens: D = flops / (6 params) was taken")
        if "flops" in needed and missing("flops", "params", "tokens"):
            known["flops"] = 6.0 * values("params") * values("tokens")
            notes.append("the table has no flops: C = 6 params tokens was taken")
        if "tokens_per_param" in needed and missing("tokens_per_param", "params", "tokens"):
            known["tokens_per_param"] = values("tokens") / values("params")
    return known, notes


def checked_fixed(law: Law, fixed: Mapping[str, float]) -> dict[str, float]:
    """Names and natural values of the parameters that are held.

    Raises:
      BadInput: an unknown name, a value that the parameter cannot have, or none left to fit.
    """
    held = {}
    for name, value in fixed.items():
        if name not in law.names:
            raise BadInput(f"parameter {name!r} is not one of law {law.name}: {', '.join(law.names)}")
        if not np.isfinite(value) or (law.parameters[law.index(name)].positive and value <= 0):
            raise BadInput(f"parameter {name} cannot be held at {value!r}")
        held[name] = float(value)
    if len(held) == len(law.parameters):
        raise BadInput(f"every parameter of law {law.name} is held: there is nothing to fit")
    return held


def kept_rows(
    law: Law, columns: Mapping[str, np.ndarray], cluster: str | np.ndarray | None, drop_worst: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The rows that are fitted, in their order, and their cluster labels.

    Raises:
      BadInput: no such column of labels, one label only, or more rows to leave out than there are.
    """
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


def signed_law(law: Law, space: str, columns: Columns, asked: bool = False) -> tuple[Law, Columns]:
    """The law and its columns where target or floor may have either sign: both as they are, or moved above zero.

    In linear space a constant added to target and floor changes no residual.

    Args:
      asked: let the floor be negative though no value of the target is: a loss from which something was taken off.

    Raises:
      BadInput: values of zero or less that a law without a floor cannot have, or `asked` where it cannot be.
    """
    target = np.asarray(columns.get(law.target, ()), dtype=np.float64)
    if asked and space != "linear":
        raise BadInput("--signed-floor needs --space linear: a loss of either sign has no logarithm")
    if asked and law.floor is None:
        raise BadInput(f"--signed-floor: law {law.name} has no floor; choose a law with one")
    if space != "linear" or not law.logarithmic or not target.size or not (asked or (target <= 0).any()):
        return law, columns
    if law.floor is None:
        raise BadInput(
            f"law {law.name} has no floor, so its {law.target} cannot be negative; choose a law with one, E"
        )
    with np.errstate(invalid="ignore"):
        shift = float(SIGNED_ROOM * np.ptp(target) - target.min())
    return (
        (law.signed(shift), {**columns, law.target: target + shift}) if np.isfinite(shift) else (law, columns)
    )


def usable_columns(law: Law, columns: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns that the law reads, float64, checked value by value; and which of them were derived.

    Raises:
      BadInput: a column is missing, of another length, not finite, or not positive where its logarithm is needed.
    """
    known, notes = with_derived(law.inputs, columns)
    missing = [name for name in (*law.inputs, law.target) if name not in known]
    if missing:
        raise BadInput(
            f"law {law.name} needs the column {', '.join(missing)}; the table has {', '.join(sorted(known))}"
        )
    signed = " (space linear takes either sign)" if law.floor else ""
    wanted = [*law.inputs, law.target, *(["weight"] if "weight" in known else [])]
    result = {name: np.asarray(known[name], dtype=np.float64) for name in wanted}
    rows = result[law.target].shape[0] if result[law.target].ndim == 1 else -1
    for name, values in result.items():
        if values.ndim != 1 or values.shape[0] != rows:
            raise BadInput(f"column {name} has shape {values.shape}; one value a row is needed ({rows} rows)")
        _refuse(name, values, ~np.isfinite(values), "is not finite")
        if name in law.log_columns or (name == law.target and law.logarithmic):
            _refuse(
                name,
                values,
                values <= 0,
                "must be above 0: its logarithm is taken" + signed * (name == law.target),
            )
            _refuse(name, values, (values < 1e-150) | (values > 1e150), "is beyond any unit (1e-150 to 1e150)")
        if name == "weight":
            _refuse(name, values, values < 0, "must not be negative")
    return result, notes


def check_fit(law: Law, columns: Columns, free: int) -> list[str]:
    """Warnings about the rows and ranges that `free` parameters are to be fitted from.

    Raises:
      BadInput: no more rows than parameters, or a column of the law that is constant.
    """
    weights = columns.get("weight", np.ones_like(columns[law.target]))
    used = weights > 0
    rows = int(used.sum())
    if rows <= free:
        raise BadInput(
            f"{rows} rows are too few for law {law.name}: more than its {free} free parameters are needed"
        )
    inputs = np.stack([columns[name][used] for name in law.inputs])
    for name, values in zip(law.inputs, inputs, strict=True):
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise BadInput(
                f"column {name} is constant ({values[0]:.6g}): law {law.name} cannot tell what depends on it"
            )
    target = columns[law.target][used]
    if np.ptp(target) <= 1e-12 * max(float(np.abs(target).max()), 1e-300):
        raise BadInput(f"column {law.target} is constant ({target[0]:.6g}): there is nothing to fit")
    points = np.unique(inputs, axis=1).shape[1]
    if points < free:
        raise BadInput(
            f"{points} distinct points ({', '.join(law.inputs)}) are too few for the {free} free parameters "
            f"of law {law.name}"
        )
    return [*_thin(law, inputs, rows, free), *_shape(law, inputs)]


def _thin(law: Law, inputs: np.ndarray, rows: int, free: int) -> list[str]:
    warnings = []
    if rows < 3 * free:
        warnings.append(f"{rows} rows for {free} free parameters: intervals rest on few residuals")
    for name, values in zip(law.inputs, inputs, strict=True):
        if name not in law.log_columns:
            continue
        distinct = np.unique(values).size
        decades = float(np.log10(values.max() / values.min()))
        if distinct < 3:
            warnings.append(
                f"{name} takes only {distinct} values: a floor and a slope cannot both be told from it"
            )
        if decades < NARROW_DECADES:
            warnings.append(f"{name} spans a factor {10**decades:.2g} only: exponents need a decade or more")
    return warnings


def _shape(law: Law, inputs: np.ndarray) -> list[str]:
    """Inputs that move together cannot be told apart."""
    logs = np.log(inputs[[name in law.log_columns for name in law.inputs]])
    if logs.shape[0] < 2:
        return []
    correlation = np.corrcoef(logs)
    names = [name for name in law.inputs if name in law.log_columns]
    return [
        f"{names[i]} and {names[j]} move together (correlation of logarithms {correlation[i, j]:+.4f}): "
        "their terms cannot be told apart"
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if abs(correlation[i, j]) > 0.995
    ]


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, why: str) -> None:
    rows = np.flatnonzero(wrong)
    if rows.size:
        raise BadInput(f"row {rows[0] + 1}, column {name}: {values[rows[0]]:g} {why}")


def floor_warning(law: Law, parameters: Mapping[str, float]) -> list[str]:
    """A warning where a floor that cannot be negative has gone to 0."""
    if law.floor is None or law.shift or not law.logarithmic or parameters[law.floor] > NO_FLOOR:
        return []
    return [
        f"the floor {law.floor} is at 0; where something was taken off the losses, --space linear --signed-floor lets "
        "it be negative"
    ]
