"""Best size at each FLOP budget, and how it grows: approaches 1 and 2 of Hoffmann et al. 2022 (arXiv 2203.15556).

Approach 1 is `envelope` where sizes have several token counts each, `hull` where they have not. A budget has a valley
if it has enough sizes, the curve through them opens upward, and its minimum lies inside the sizes tried, also when the
noise of the runs is put on it again. Any other budget is listed with the reason.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from analysis.isoflop.apart import HeldApart, held_apart
from analysis.isoflop.envelope import envelope
from analysis.isoflop.growth import PROPER_SHARE, Valley, interval_of, power_laws
from analysis.isoflop.hull import bracketed, lower_hull
from analysis.isoflop.slices import FLOPS_PER_PARAM_TOKEN, Kind, Slice, flops_of, make_slices, planned_budgets
from analysis.isoflop.valleys import Minima, akima_minima, parabola_minima, parabola_values, pooled_noise
from analysis.quantiles import finite_quantiles
from core.errors import BadInput

Method = Literal["parabola", "akima", "hull", "envelope"]
JUDGING_REPETITIONS = (
    2000  # of noise, behind the verdict on a valley: as many however many resamples are asked for
)
FEWEST_REPETITIONS = 400  # behind the interval of a valley, where no bootstrap is asked for
REPEATED_FREEDOM = 5  # seeds measure the noise if they leave so many degrees of freedom


@dataclasses.dataclass(frozen=True)
class Isoflop:
    """Valleys and the power laws through them.

    Attributes:
      method: parabola, akima, hull or envelope.
      valleys: by increasing budget.
      slices: the losses behind each valley (empty for hull and envelope).
      derived: a_opt and b_opt of N = k C^a, D = l C^b, with params_coefficient k and tokens_coefficient l; None
        where there are too few valleys.
      intervals: of a_opt and b_opt, by resampling; None where there are too few.
      noise: relative standard deviation of one run's loss behind the verdicts; None where unknown.
      warnings: one line each.
      held_apart: rows that do not belong to the curve of their budget, by the numbers that the warnings call them.
    """

    method: str
    valleys: tuple[Valley, ...]
    slices: tuple[Slice, ...]
    derived: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    noise: float | None
    warnings: tuple[str, ...]
    held_apart: tuple[HeldApart, ...] = ()

    def to_json(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The contents of isoflop.json; `source` is `Table.source()`."""
        valleys = [dataclasses.asdict(valley) for valley in self.valleys]
        for valley in valleys:
            valley["params_interval"] = _listed(valley["params_interval"])
        return {
            "method": self.method,
            "valleys": valleys,
            "derived": dict(self.derived),
            "intervals": {name: _listed(value) for name, value in self.intervals.items()},
            "noise": self.noise,
            "held_apart": [dataclasses.asdict(row) for row in self.held_apart],
            "warnings": list(self.warnings),
            "input": dict(source),
        }


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def find_valleys(
    columns: Mapping[str, np.ndarray],
    method: Method = "parabola",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    kind: Kind = "auto",
    tolerance: float = 0.1,
    min_points: int = 4,
    noise: float | None = None,
    keep_all: bool = False,
    row_numbers: np.ndarray | None = None,
) -> Isoflop:
    """Find the best size at each budget and the power laws through the valleys.

    Args:
      columns: params, tokens, loss and optionally flops (6 N D otherwise).
      bootstrap: repetitions behind the intervals; 0 for none.
      level: of the intervals.
      kind, tolerance, min_points: see `make_slices`.
      noise: relative standard deviation of one run's loss; None estimates it, from repeated (params, tokens)
        where there are enough, else from the scatter about the parabolas.
      keep_all: hold no row apart (see analysis/isoflop/apart.py).
      row_numbers: what the warnings call each row; 1, 2, 3, ... if not given.

    Raises:
      BadInput: no budget can be looked at; the message says what would be needed.
    """
    generator = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        flops = flops_of(columns)
    if not (np.isfinite(flops) & (flops > 0)).all():
        raise BadInput("6 params tokens is no finite positive number of FLOPs in some row: check the units")
    apart = () if keep_all else _held_apart(columns, kind, tolerance, min_points)
    if apart:
        kept = np.delete(np.arange(flops.size), [entry.row for entry in apart])
        numbers = np.arange(1, flops.size + 1) if row_numbers is None else row_numbers
        options = (method, bootstrap, seed, level, kind, tolerance, min_points, noise)
        rest = find_valleys({name: values[kept] for name, values in columns.items()}, *options, keep_all=True)
        lines = [entry.words(int(numbers[entry.row])) for entry in apart]
        named = tuple(dataclasses.replace(entry, row=int(numbers[entry.row])) for entry in apart)
        slices = tuple(dataclasses.replace(piece, rows_R=kept[piece.rows_R]) for piece in rest.slices)
        return dataclasses.replace(rest, slices=slices, warnings=(*lines, *rest.warnings), held_apart=named)
    if method == "hull":
        return _hull(columns, bootstrap, generator, level, tolerance)
    if method == "envelope":
        return _envelope(columns, bootstrap, generator, level, noise)
    slices, made = make_slices(columns, kind, tolerance, min_points)
    warnings = list(made)
    sd, freedom = (noise, np.inf) if noise is not None else _estimate_noise(columns, slices, warnings)
    judging = np.random.default_rng([seed, 1])
    both = (
        _noises(slices, columns["loss"], _scales(sd, freedom, repetitions, source), source)
        for repetitions, source in (
            (bootstrap or FEWEST_REPETITIONS, generator),
            (JUDGING_REPETITIONS, judging),
        )
    )
    judged = [
        _valley(piece, columns["loss"], noise_BS, judging_BS, method, min_points, level)
        for piece, noise_BS, judging_BS in zip(slices, *both, strict=True)
    ]
    valleys = tuple(valley for valley, _ in judged)
    log_flops = np.log([piece.flops for piece in slices])
    log_params_BV = np.stack([repeated for _, repeated in judged], axis=1)
    offsets = [_log_flops_per_param_token(piece, valley) for piece, valley in zip(slices, valleys, strict=True)]
    log_tokens_BV = (log_flops - np.array(offsets)) - log_params_BV
    derived, intervals = power_laws(
        valleys, (log_params_BV, log_tokens_BV) if bootstrap else None, level, warnings
    )
    return Isoflop(
        method=method,
        valleys=valleys,
        slices=slices,
        derived=derived,
        intervals=intervals,
        noise=float(sd) if np.isfinite(sd) else None,
        warnings=tuple(warnings),
    )


def _held_apart(
    columns: Mapping[str, np.ndarray], kind: Kind, tolerance: float, min_points: int
) -> tuple[HeldApart, ...]:
    try:
        return held_apart(columns, planned_budgets(columns, kind, tolerance, min_points))
    except BadInput:
        return ()  # a method that needs slices says so


def _scales(sd: float, freedom: float, repetitions: int, generator: np.random.Generator) -> np.ndarray:
    """The noise of each repetition: one from few runs is itself uncertain, so it is drawn where it was estimated."""
    scale_B = np.full(repetitions, sd if np.isfinite(sd) else 0.0)
    if np.isfinite(freedom) and freedom > 0:
        scale_B = scale_B * np.sqrt(freedom / generator.chisquare(freedom, repetitions))
    return scale_B


def _estimate_noise(
    columns: Mapping[str, np.ndarray], slices: Sequence[Slice], warnings: list[str]
) -> tuple[float, float]:
    pairs = np.stack([columns["params"], columns["tokens"]], axis=1)
    _, point_R, count_P = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    point_R = point_R.reshape(-1)
    freedom = int((count_P - 1).sum())
    if freedom >= REPEATED_FREEDOM:
        log_loss_R = np.log(columns["loss"])
        mean_P = np.bincount(point_R, log_loss_R) / count_P
        return float(np.sqrt(((log_loss_R - mean_P[point_R]) ** 2).sum() / freedom)), float(freedom)
    sd, effective = pooled_noise(slices, columns["loss"])
    if not np.isfinite(sd):
        warnings.append(
            "the noise of a run is unknown (no repeated runs, no more sizes at a budget than a parabola has "
            "coefficients): whether a valley is deeper than noise cannot be told"
        )
    return sd, effective


def _noises(
    slices: Sequence[Slice], loss: np.ndarray, scale_B: np.ndarray, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Noise of each slice's points, (B, S); interpolated slices that share runs share their noise."""
    interpolated = [piece.rows_R for piece in slices if piece.interpolated]
    shared = np.unique(np.concatenate(interpolated)) if interpolated else np.zeros(0, dtype=int)
    noise_BR = generator.standard_normal((scale_B.size, shared.size))
    for piece in slices:
        if piece.interpolated:
            own_BR = noise_BR[:, np.searchsorted(shared, piece.rows_R)] * loss[piece.rows_R]
            yield own_BR @ piece.weights_SR.T * scale_B[:, None]
        else:
            # Averages over disjoint runs are independent: their standard deviation is all that is needed.
            spread_S = np.sqrt(((piece.weights_SR * loss[piece.rows_R]) ** 2).sum(axis=1))
            yield generator.standard_normal((scale_B.size, spread_S.size)) * spread_S * scale_B[:, None]


def _valley(
    piece: Slice,
    loss: np.ndarray,
    noise_BS: np.ndarray,
    judging_BS: np.ndarray,
    method: str,
    min_points: int,
    level: float,
) -> tuple[Valley, np.ndarray]:
    """The verdict on one slice, and log params_opt of every repetition (NaN where it has no minimum)."""
    x_S, loss_S = piece.log_params_S, piece.losses(loss)
    nothing = np.full(len(noise_BS), np.nan)

    def refused(why: str) -> tuple[Valley, np.ndarray]:
        return Valley(piece.flops, None, None, None, False, why, x_S.size), nothing

    if x_S.size < max(min_points, 3):
        return refused(f"too few sizes: {x_S.size} at this budget, {max(min_points, 3)} are needed")
    parabola = parabola_minima(x_S, loss_S[None])
    base = akima_minima(x_S, loss_S[None]) if method == "akima" else parabola
    if not parabola.upward_B[0]:
        return refused("opens downward: the parabola through it has a maximum, no minimum")
    edge = {0: "smallest", x_S.size - 1: "largest"}.get(int(loss_S.argmin()))
    if edge or not base.inside_B[0]:
        edge = edge or ("smallest" if base.log_params_B[0] <= x_S[0] else "largest")
        return refused(
            f"at the edge: the minimum is at or beyond the {edge} size tried, so it is not bracketed"
        )
    # Parabolas are repeated about their own curve, interpolations about the measured points.
    fitted_S = parabola_values(x_S, loss_S, x_S)
    repeated_parabola = parabola_minima(x_S, fitted_S + noise_BS)
    repeated: Minima = akima_minima(x_S, loss_S + noise_BS) if method == "akima" else repeated_parabola
    share = float(parabola_minima(x_S, fitted_S + judging_BS).proper_B.mean())
    if method == "akima":
        share = min(share, float(akima_minima(x_S, loss_S + judging_BS).proper_B.mean()))
    if share < PROPER_SHARE:
        return refused(
            f"flat within noise: with the noise of a run put on it again, only {share:.0%} of repetitions keep "
            "a minimum inside the sizes tried"
        )
    if not (np.isfinite(repeated.loss_B[repeated.proper_B]).all() and np.isfinite(base.loss_B[0])):
        return refused("the losses are beyond what can be computed with")
    log_params = float(base.log_params_B[0])
    log_tokens = float(np.interp(log_params, x_S, piece.log_tokens_S))
    log_params_B = np.where(repeated.proper_B, repeated.log_params_B, np.nan)
    low, high = np.exp(finite_quantiles(log_params_B, [(1 - level) / 2, (1 + level) / 2]))
    return Valley(
        flops=piece.flops,
        params_opt=float(np.exp(log_params)),
        tokens_opt=float(np.exp(log_tokens)),
        loss_opt=float(base.loss_B[0]),
        ok=True,
        why="",
        sizes=x_S.size,
        params_interval=(float(low), float(high)),
    ), log_params_B


def _log_flops_per_param_token(piece: Slice, valley: Valley) -> float:
    """log(C / N D) at the optimum: 6 by the usual count, the ledger's own by the exact one."""
    if valley.params_opt is None or valley.tokens_opt is None:
        return float(np.log(FLOPS_PER_PARAM_TOKEN))
    return float(np.log(piece.flops / (valley.params_opt * valley.tokens_opt)))


def _hull(
    columns: Mapping[str, np.ndarray],
    bootstrap: int,
    generator: np.random.Generator,
    level: float,
    tolerance: float,
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
    derived, intervals = power_laws(valleys, None, level, warnings)
    if bootstrap and derived["a_opt"] is not None:
        intervals = {
            "a_opt": interval_of(slopes[:, 0], level, warnings),
            "b_opt": interval_of(slopes[:, 1], level, []),
        }
    return Isoflop("hull", valleys, (), derived, intervals, None, tuple(warnings))


def _hull_valley(columns: Mapping[str, np.ndarray], row: int, smaller: bool, larger: bool) -> Valley:
    flops = float(flops_of(columns)[row])
    sizes = int(np.unique(columns["params"]).size)
    if not (smaller and larger):
        side = "smaller" if not smaller else "larger"
        why = f"at the edge: no {side} size was trained through this budget, so the best size is not bracketed"
        return Valley(flops, None, None, None, False, why, sizes)
    n, d, loss = (float(columns[name][row]) for name in ("params", "tokens", "loss"))
    return Valley(flops, n, d, loss, True, "", sizes)


def _envelope(
    columns: Mapping[str, np.ndarray],
    bootstrap: int,
    generator: np.random.Generator,
    level: float,
    noise: float | None,
) -> Isoflop:
    """Approach 1 on curves; its valleys are the budgets at which one size hands over to the next."""
    warnings: list[str] = []
    sd = noise
    if sd is None:
        try:
            slices, _ = make_slices(columns, "interpolated")
        except BadInput:
            slices = ()
        sd, _ = _estimate_noise(columns, slices, warnings)
    known = bool(np.isfinite(sd))
    crossings = envelope(columns, sd, bootstrap if known else 0, generator)
    sizes = int(crossings.loss_SG.shape[0])
    valleys = tuple(
        Valley(handover.flops, None, None, None, False, handover.why, sizes)
        if handover.why
        else Valley(handover.flops, handover.params, handover.tokens, handover.loss, True, "", sizes)
        for handover in crossings.handovers
        if np.isfinite(handover.flops)
    )
    derived, intervals = power_laws(valleys, None, level, warnings)
    if len(crossings.slopes_B2) and derived["a_opt"] is not None:
        intervals = {
            "a_opt": interval_of(crossings.slopes_B2[:, 0], level, warnings),
            "b_opt": interval_of(crossings.slopes_B2[:, 1], level, []),
        }
    return Isoflop("envelope", valleys, (), derived, intervals, float(sd) if known else None, tuple(warnings))
