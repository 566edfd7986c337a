"""How the best size and its tokens grow with compute: power laws through valleys."""

import dataclasses
from collections.abc import Sequence

import numpy as np

PROPER_SHARE = 0.9  # of the repetitions must have what is reported, or it is not reported
FEW_VALLEYS = 3
FAR = 10.0  # a target further than this factor beyond the valleys is warned of
NAMES = (("a_opt", "params_coefficient"), ("b_opt", "tokens_coefficient"))


@dataclasses.dataclass(frozen=True)
class Valley:
    """One budget.

    Attributes:
      flops: the budget.
      params_opt, tokens_opt, loss_opt: the best size, its tokens and loss; None unless `ok`.
      ok: whether this budget has a valley.
      why: the reason where it has none; empty otherwise.
      sizes: sizes at this budget.
      params_interval: of params_opt under the noise of the runs, at the level asked for; None unless `ok`.
      deviation: standard deviation of log params_opt under that noise, at least a third of the step between sizes;
        a valley's weight in the power law is 1 over its square (Porian et al. 2024, arXiv 2406.19146, appendix).
    """

    flops: float
    params_opt: float | None
    tokens_opt: float | None
    loss_opt: float | None
    ok: bool
    why: str
    sizes: int
    params_interval: tuple[float, float] | None = None
    deviation: float = 1.0


@dataclasses.dataclass(frozen=True)
class AtTarget:
    """The power laws at a budget that was asked for; intervals are None where there is none."""

    flops: float
    params: float
    tokens: float
    params_interval: tuple[float, float] | None
    tokens_interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Log params_opt and log tokens_opt of every repetition of the noise, (B, V); NaN where it had no minimum."""

    log_params_BV: np.ndarray
    log_tokens_BV: np.ndarray


@dataclasses.dataclass(frozen=True)
class Missed:
    """By how much the method puts log params_opt too high: per unit of log compute, and where log compute is 0."""

    slope: float = 0.0
    level: float = 0.0

    def at(self, log_flops: float) -> float:
        return self.level + self.slope * log_flops


@dataclasses.dataclass(frozen=True)
class Growth:
    """`derived` and `intervals` of analysis.isoflop.result.Isoflop, and what is said of targets."""

    derived: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    at_targets: tuple[AtTarget, ...] = ()


def power_laws(
    valleys: Sequence[Valley],
    repeated: Repeated | None,
    level: float,
    warnings: list[str],
    *,
    exponent: float | None = None,
    targets: Sequence[float] = (),
    missed: Missed | None = None,
) -> Growth:
    """Weighted least squares of log params_opt and log tokens_opt on log flops over the valleys that are ok.

    Args:
      exponent: a_opt, where it is held; then the coefficients are what is estimated.
      targets: budgets at which both are wanted.
      missed: intervals are widened to hold what is left once this is taken off.
    """
    missed = missed or Missed()
    good = np.array([valley.ok for valley in valleys])
    derived: dict[str, float | None] = {name: None for pair in NAMES for name in pair}
    intervals: dict[str, tuple[float, float] | None] = {"a_opt": None, "b_opt": None}
    if (~good).any():
        warnings.append(f"{int((~good).sum())} of {good.size} budgets have no valley; each says why")
    needed = 2 if exponent is None else 1
    if good.sum() < needed:
        warnings.append(f"no power law: {int(good.sum())} valleys, at least {needed} are needed")
        return Growth(derived, intervals)
    if good.sum() == 2 and exponent is None:
        warnings.append("the power law is drawn through 2 valleys: whether a third would lie on it is unknown")
    used = [valley for valley in valleys if valley.ok]
    log_flops = np.log([valley.flops for valley in used])
    weight_V = np.array([valley.deviation for valley in used]) ** -2.0
    if np.ptp(log_flops) < np.log(3.0) and exponent is None:
        warnings.append(f"the valleys span a factor {np.exp(np.ptp(log_flops)):.2g} of compute only")
    log_params_V = np.log(np.array([valley.params_opt for valley in used], float))
    log_tokens_V = np.log(np.array([valley.tokens_opt for valley in used], float))
    # Where the growth of one is held, the cost of a token says that of the other.
    both = _held(log_flops, log_params_V + log_tokens_V, weight_V, None if exponent is None else 2 * exponent)
    slopes = (exponent, None if exponent is None else both - exponent)
    points: list[list[float]] = []
    ends: list[list[tuple[float, float] | None]] = []
    for index, (values_V, (name, coefficient)) in enumerate(
        zip((log_params_V, log_tokens_V), NAMES, strict=True)
    ):
        slope_B, level_B = line_through(log_flops, values_V[None], weight_V, slopes[index])
        slope, intercept = float(slope_B[0]), float(level_B[0])
        sign = 1.0 if index == 0 else -1.0
        derived[name] = slope
        with np.errstate(over="ignore"):
            front = float(np.exp(intercept))
            derived[coefficient] = front if np.isfinite(front) and front > 0 else None
        points.append([intercept + slope * float(np.log(target)) for target in targets])
        if repeated is None:
            ends.append([None for _ in targets])
            continue
        drawn_BV = (repeated.log_params_BV, repeated.log_tokens_BV)[index][:, good]
        slope_B, level_B = line_through(log_flops, drawn_BV, weight_V, slopes[index])
        if exponent is None:
            found = interval_of(slope_B, level, warnings if index == 0 else [])
            intervals[name] = _widened(found, sign * missed.slope)
        ends.append([
            _widened(interval_of(level_B + slope_B * np.log(target), level, []), sign * missed.at(np.log(target)))
            for target in targets
        ])  # fmt: skip
    at_targets = tuple(
        AtTarget(target, _power(points[0][t]), _power(points[1][t]), _powers(ends[0][t]), _powers(ends[1][t]))
        for t, target in enumerate(targets)
    )
    for target in targets:
        beyond = float(max(np.log(target) - log_flops.max(), log_flops.min() - np.log(target)))
        if beyond > np.log(FAR):
            warnings.append(
                f"{target:.3g} FLOPs is a factor {np.exp(beyond):.3g} beyond the valleys: the interval knows of "
                "noise, not of a power law that bends"
            )
    return Growth(derived, intervals, at_targets)


def _held(x_V: np.ndarray, y_V: np.ndarray, weight_V: np.ndarray, otherwise: float | None) -> float:
    """The slope through at least two points; what is given where there is one."""
    if np.ptp(x_V) <= 0:
        return 1.0 if otherwise is not None else float("nan")
    return float(line_through(x_V, y_V[None], weight_V)[0][0])


def _power(log_value: float) -> float:
    return float(np.exp(np.clip(log_value, -700.0, 700.0)))


def _powers(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (_power(ends[0]), _power(ends[1]))


def _widened(ends: tuple[float, float] | None, missed: float) -> tuple[float, float] | None:
    return None if ends is None else (min(ends[0], ends[0] - missed), max(ends[1], ends[1] - missed))


def line_through(
    x_V: np.ndarray, y_BV: np.ndarray, weight_V: np.ndarray, slope: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least-squares slope and level at x = 0 of each repetition over the points it has, (B,).

    NaN below two points; with a `slope` that is held, below one.
    """
    there = np.isfinite(y_BV)
    weight_BV = np.where(there, weight_V, 0.0)
    y_BV = np.where(there, y_BV, 0.0)
    count_B = there.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        total_B = weight_BV.sum(axis=1)
        x_B, y_B = (weight_BV @ x_V) / total_B, (weight_BV * y_BV).sum(axis=1) / total_B
        centred_BV = x_V - x_B[:, None]
        slope_B = (weight_BV * centred_BV * y_BV).sum(axis=1) / (weight_BV * centred_BV**2).sum(axis=1)
        slope_B = np.where(count_B >= 2, slope_B, np.nan) if slope is None else np.full(count_B.shape, slope)
    level_B = y_B - slope_B * x_B
    return np.where(np.isfinite(level_B), slope_B, np.nan), level_B


def interval_of(draws: np.ndarray, level: float, warnings: list[str]) -> tuple[float, float] | None:
    kept = draws[np.isfinite(draws)]
    if kept.size < PROPER_SHARE * draws.size:
        warnings.append(f"no interval: {draws.size - kept.size} of {draws.size} repetitions have no power law")
        return None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
