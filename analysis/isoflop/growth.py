"""How the best size and its tokens grow with compute: power laws through valleys."""

import dataclasses
from collections.abc import Sequence

import numpy as np

PROPER_SHARE = 0.9  # of the repetitions must have what is reported, or it is not reported
FEW_VALLEYS = 3


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
    """

    flops: float
    params_opt: float | None
    tokens_opt: float | None
    loss_opt: float | None
    ok: bool
    why: str
    sizes: int
    params_interval: tuple[float, float] | None = None


def power_laws(
    valleys: Sequence[Valley],
    repeated: tuple[np.ndarray, np.ndarray] | None,
    level: float,
    warnings: list[str],
) -> tuple[dict[str, float | None], dict[str, tuple[float, float] | None]]:
    """Least squares of log params_opt and log tokens_opt on log flops over the valleys that are ok.

    `repeated` holds both for every repetition, (B, V), NaN where it had no minimum.
    """
    good = np.array([valley.ok for valley in valleys])
    derived: dict[str, float | None] = dict.fromkeys(
        ("a_opt", "b_opt", "params_coefficient", "tokens_coefficient")
    )
    intervals: dict[str, tuple[float, float] | None] = {"a_opt": None, "b_opt": None}
    if (~good).any():
        warnings.append(f"{int((~good).sum())} of {good.size} budgets have no valley; each says why")
    if good.sum() < 2:
        warnings.append(f"no power law: {int(good.sum())} valleys, at least 2 are needed")
        return derived, intervals
    if good.sum() < FEW_VALLEYS:
        warnings.append("the power law is drawn through 2 valleys: whether a third would lie on it is unknown")
    used = [valley for valley in valleys if valley.ok]
    log_flops = np.log([valley.flops for valley in used])
    if np.ptp(log_flops) < np.log(3.0):
        warnings.append(f"the valleys span a factor {np.exp(np.ptp(log_flops)):.2g} of compute only")
    for name, coefficient, values, index in (
        ("a_opt", "params_coefficient", [valley.params_opt for valley in used], 0),
        ("b_opt", "tokens_coefficient", [valley.tokens_opt for valley in used], 1),
    ):
        slope, intercept = np.polyfit(log_flops - log_flops.mean(), np.log(np.array(values, float)), 1)
        derived[name] = float(slope)
        with np.errstate(over="ignore"):
            front = float(np.exp(intercept - slope * log_flops.mean()))
        derived[coefficient] = front if np.isfinite(front) else None
        if repeated is not None:
            slopes = _slopes(log_flops, repeated[index][:, good])
            intervals[name] = interval_of(slopes, level, warnings if index == 0 else [])
    return derived, intervals


def _slopes(log_flops_V: np.ndarray, values_BV: np.ndarray) -> np.ndarray:
    """Least-squares slope of each repetition over the valleys it has; NaN below two."""
    there = np.isfinite(values_BV)
    count = there.sum(axis=1)
    x = np.where(there, log_flops_V, 0.0)
    y = np.where(there, values_BV, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        centred = np.where(there, log_flops_V - (x.sum(axis=1) / count)[:, None], 0.0)
        slope = (centred * y).sum(axis=1) / (centred**2).sum(axis=1)
    return np.where(count >= 2, slope, np.nan)


def interval_of(draws: np.ndarray, level: float, warnings: list[str]) -> tuple[float, float] | None:
    kept = draws[np.isfinite(draws)]
    if kept.size < PROPER_SHARE * draws.size:
        warnings.append(f"no interval: {draws.size - kept.size} of {draws.size} repetitions have no power law")
        return None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
