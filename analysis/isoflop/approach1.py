"""Approach 1 as `analysis.isoflop` reports it: valleys, power laws and intervals from the hull or the envelope."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.isoflop.envelope import envelope
from analysis.isoflop.growth import Valley, interval_of, power_laws
from analysis.isoflop.hull import bracketed, lower_hull
from analysis.isoflop.noise import Unit, noise_of
from analysis.isoflop.result import Isoflop
from analysis.isoflop.slices import flops_of, make_slices
from core.errors import BadInput


def by_hull(
    columns: Mapping[str, np.ndarray],
    bootstrap: int,
    generator: np.random.Generator,
    level: float,
    tolerance: float,
    targets: Sequence[float],
) -> Isoflop:
    """Approach 1. Its intervals resample runs: a hull has no residuals to take noise from."""
    log_flops_R, log_loss_R = np.log(flops_of(columns)), np.log(columns["loss"])
    warnings: list[str] = []
    if np.unique(columns["params"]).size < 3:
        raise BadInput(
            f"{np.unique(columns['params']).size} sizes: a hull of loss against FLOPs tells of the best size "
            "only with 3 or more"
        )
    smaller_R, larger_R = bracketed(columns, tolerance)
    rows_on_hull = lower_hull(log_flops_R, log_loss_R).tolist()
    valleys = tuple(
        _hull_valley(columns, row, bool(smaller_R[row]), bool(larger_R[row])) for row in rows_on_hull
    )
    slopes = np.full((bootstrap, 2), np.nan)
    for repetition in range(bootstrap):
        rows = generator.integers(log_loss_R.size, size=log_loss_R.size)
        on_hull = rows[lower_hull(log_flops_R[rows], log_loss_R[rows])]
        inside = on_hull[smaller_R[on_hull] & larger_R[on_hull]]
        if np.unique(log_flops_R[inside]).size >= 2:
            for column, name in enumerate(("params", "tokens")):
                slopes[repetition, column] = np.polyfit(log_flops_R[inside], np.log(columns[name][inside]), 1)[
                    0
                ]
    growth = power_laws(valleys, None, level, warnings, targets=targets)
    intervals = growth.intervals
    if bootstrap and growth.derived["a_opt"] is not None:
        intervals = {
            "a_opt": interval_of(slopes[:, 0], level, warnings),
            "b_opt": interval_of(slopes[:, 1], level, []),
        }
    return Isoflop(
        "hull", valleys, (), growth.derived, intervals, None, tuple(warnings), at_targets=growth.at_targets
    )


def _hull_valley(columns: Mapping[str, np.ndarray], row: int, smaller: bool, larger: bool) -> Valley:
    flops = float(flops_of(columns)[row])
    sizes = int(np.unique(columns["params"]).size)
    if not (smaller and larger):
        side = "smaller" if not smaller else "larger"
        why = f"at the edge: no {side} size was trained through this budget, so the best size is not bracketed"
        return Valley(flops, None, None, None, False, why, sizes)
    n, d, loss = (float(columns[name][row]) for name in ("params", "tokens", "loss"))
    return Valley(flops, n, d, loss, True, "", sizes)


def by_envelope(
    columns: Mapping[str, np.ndarray],
    bootstrap: int,
    generator: np.random.Generator,
    level: float,
    given: float | None,
    unit: Unit,
    targets: Sequence[float],
) -> Isoflop:
    """Approach 1 on curves; its valleys are the budgets at which one size hands over to the next."""
    warnings: list[str] = []
    try:
        slices = make_slices(columns, "interpolated")[0] if given is None else ()
    except BadInput:
        slices = ()
    noise = noise_of(columns, slices, given, unit, warnings)
    relative = noise.sd / float(np.exp(np.log(columns["loss"]).mean())) if unit == "nats" else noise.sd
    crossings = envelope(columns, relative, bootstrap if noise.known else 0, generator)
    sizes = int(crossings.loss_SG.shape[0])
    valleys = tuple(
        Valley(handover.flops, None, None, None, False, handover.why, sizes)
        if handover.why
        else Valley(handover.flops, handover.params, handover.tokens, handover.loss, True, "", sizes)
        for handover in crossings.handovers
        if np.isfinite(handover.flops)
    )
    growth = power_laws(valleys, None, level, warnings, targets=targets)
    intervals = growth.intervals
    if len(crossings.slopes_B2) and growth.derived["a_opt"] is not None:
        intervals = {
            "a_opt": interval_of(crossings.slopes_B2[:, 0], level, warnings),
            "b_opt": interval_of(crossings.slopes_B2[:, 1], level, []),
        }
    return Isoflop(
        "envelope",
        valleys,
        (),
        growth.derived,
        intervals,
        noise.sd if noise.known else None,
        tuple(warnings),
        noise_source=noise.source if noise.known else "",
        at_targets=growth.at_targets,
    )
