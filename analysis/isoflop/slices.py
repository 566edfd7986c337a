"""Slices at equal compute: which runs, or which points between runs, share one FLOP budget.

A slice's losses are a fixed linear map of some rows of the table, `loss_S = weights_SR @ loss[rows_R] -
shift_S`, so that noise put on the runs goes through seeds, interpolation and all without being worked out again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from core.errors import BadInput

Kind = Literal["auto", "budgets", "interpolated"]
FLOPS_PER_PARAM_TOKEN = 6.0  # Kaplan et al. 2020, arXiv 2001.08361, section 2.1: C = 6 N D
SHARE_IN_BUDGETS = 2 / 3  # a table with so many of its rows in full budgets was planned by budget
INTERPOLATED_BUDGETS = 8
BUDGET_STEP = 1.5  # interpolated budgets closer than this factor say the same thing twice
LARGEST_SLICE = 4e6  # sizes times runs of one budget, for the memory of its weights
POINTS_OF_A_CURVE = 3


@dataclasses.dataclass(frozen=True)
class Slice:
    """Losses of several sizes at one budget.

    Attributes:
      flops: the budget, geometric mean of its runs.
      log_params_S: natural log of N, increasing, one entry a size.
      log_tokens_S: natural log of D at this budget.
      rows_R: rows of the table that it is made of.
      weights_SR: the map from these rows to the slice's points.
      shift_S: loss of each point over what it would be at exactly `flops`, nats.
      interpolated: whether points lie between runs.
    """

    flops: float
    log_params_S: np.ndarray
    log_tokens_S: np.ndarray
    rows_R: np.ndarray
    weights_SR: np.ndarray
    shift_S: np.ndarray
    interpolated: bool

    def losses(self, loss: np.ndarray) -> np.ndarray:
        """Loss of each size, (S,), from the loss of every row of the table."""
        return self.weights_SR @ loss[self.rows_R] - self.shift_S


def flops_of(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The table's FLOPs, or 6 N D where it has none."""
    if "flops" in columns:
        return columns["flops"]
    return FLOPS_PER_PARAM_TOKEN * columns["params"] * columns["tokens"]


def make_slices(
    columns: Mapping[str, np.ndarray],
    kind: Kind = "auto",
    tolerance: float = 0.1,
    min_points: int = 4,
) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """Slices in order of budget, and warnings about how they were made.

    Args:
      kind: `budgets` groups runs whose FLOPs agree within `tolerance`; `interpolated` reads, between the token
        counts of each size, the loss at common budgets (never beyond a size's own runs); `auto` takes budgets
        where most rows fall into full ones, interpolation otherwise.
      min_points: sizes that a slice needs to be of use.

    Raises:
      BadInput: no slice has `min_points` sizes.
    """
    flops_R = flops_of(columns)
    budgets = _by_budget(columns, flops_R, tolerance)
    full = [piece for piece in budgets if piece.log_params_S.size >= min_points]
    if kind == "budgets" or (kind == "auto" and _planned(full, flops_R)):
        if not full:
            most = max(piece.log_params_S.size for piece in budgets)
            raise BadInput(
                f"no FLOP budget has {min_points} sizes within {tolerance:.0%} of it (the fullest of "
                f"{len(budgets)} has {most}); for a grid over params and tokens use --slices interpolated"
            )
        return _shifted(budgets, flops_R, columns["loss"]), ()
    pieces = _between_runs(columns, flops_R, min_points)
    if pieces:
        return pieces, (
            f"the table is a grid, not a set of budgets: {len(pieces)} slices are interpolated in tokens "
            "between the runs of each size (no law is assumed, nothing is extrapolated)",
        )
    if kind == "auto" and full:
        return _shifted(budgets, flops_R, columns["loss"]), ()
    raise BadInput(
        f"no FLOP budget has {min_points} sizes within {tolerance:.0%} of it, and none lies inside "
        f"the token ranges of {min_points} sizes with {POINTS_OF_A_CURVE} token counts each"
    )


def planned_budgets(
    columns: Mapping[str, np.ndarray], kind: Kind, tolerance: float, min_points: int
) -> tuple[Slice, ...]:
    """The slices of `make_slices` where they are budgets that the runs were planned by; none otherwise."""
    flops_R = flops_of(columns)
    budgets = [] if kind == "interpolated" else _by_budget(columns, flops_R, tolerance)
    full = [piece for piece in budgets if piece.log_params_S.size >= min_points]
    planned = full and (kind == "budgets" or _planned(full, flops_R))
    return _shifted(budgets, flops_R, columns["loss"]) if planned else ()


def _planned(full: Sequence[Slice], flops_R: np.ndarray) -> bool:
    return sum(piece.rows_R.size for piece in full) / flops_R.size >= SHARE_IN_BUDGETS


def _by_budget(columns: Mapping[str, np.ndarray], flops_R: np.ndarray, tolerance: float) -> list[Slice]:
    log_flops_R = np.log(flops_R)
    order = np.argsort(log_flops_R, kind="stable")
    reach = np.log1p(tolerance)
    groups: list[list[int]] = []
    for row in order:
        group = groups[-1] if groups else []
        # A chain of small steps must not join budgets: a group ends at twice the tolerance, too.
        if (
            group
            and log_flops_R[row] - log_flops_R[group[-1]] <= reach
            and log_flops_R[row] - log_flops_R[group[0]] <= 2 * reach
        ):
            group.append(row)
        else:
            groups.append([row])
    return [_slice_of(np.array(group), columns, log_flops_R) for group in groups]


def _slice_of(rows: np.ndarray, columns: Mapping[str, np.ndarray], log_flops_R: np.ndarray) -> Slice:
    params, index = np.unique(columns["params"][rows], return_inverse=True)
    if params.size * rows.size > LARGEST_SLICE:
        raise BadInput(
            f"{rows.size} runs of {params.size} sizes lie within one budget near "
            f"{np.exp(log_flops_R[rows[0]]):.3g} FLOPs; at most about {int(LARGEST_SLICE**0.5)} are taken"
        )
    weights_SR = np.zeros((params.size, rows.size))
    weights_SR[index, np.arange(rows.size)] = 1.0
    weights_SR /= weights_SR.sum(axis=1, keepdims=True)
    return Slice(
        flops=float(np.exp(log_flops_R[rows].mean())),
        log_params_S=np.log(params),
        log_tokens_S=weights_SR @ np.log(columns["tokens"][rows]),
        rows_R=rows,
        weights_SR=weights_SR,
        shift_S=np.zeros(params.size),
        interpolated=False,
    )


def _shifted(pieces: list[Slice], flops_R: np.ndarray, loss_R: np.ndarray) -> tuple[Slice, ...]:
    """Correct each point to its slice's exact budget.

    Along the frontier the loss falls with log C as it does at a fixed size (envelope theorem), so the slope is
    read off the lowest losses of neighbouring budgets.
    """
    if len(pieces) < 2:
        return tuple(pieces)
    log_budgets = np.log([piece.flops for piece in pieces])
    lowest = np.array([piece.losses(loss_R).min() for piece in pieces])
    slope = float(np.polyfit(log_budgets, lowest, 1)[0]) if len(pieces) == 2 else None
    local = np.full(len(pieces), slope) if slope is not None else np.gradient(lowest, log_budgets)
    shifted = []
    for piece, fall in zip(pieces, np.minimum(local, 0.0), strict=True):
        offset_S = piece.weights_SR @ np.log(flops_R[piece.rows_R]) - np.log(piece.flops)
        tokens_S = piece.log_tokens_S - offset_S
        shifted.append(dataclasses.replace(piece, shift_S=fall * offset_S, log_tokens_S=tokens_S))
    return tuple(shifted)


@dataclasses.dataclass(frozen=True)
class SizeCurve:
    """One size along its K token counts: the map from its rows to the mean loss at each."""

    log_params: float
    log_tokens_K: np.ndarray
    log_flops_K: np.ndarray
    rows: np.ndarray
    map_KR: np.ndarray


def size_curves(columns: Mapping[str, np.ndarray], flops_R: np.ndarray) -> list[SizeCurve]:
    """The sizes that have enough token counts for a curve, smallest first."""
    curves = []
    for params in np.unique(columns["params"]):
        rows = np.flatnonzero(columns["params"] == params)
        knots, index = np.unique(columns["tokens"][rows], return_inverse=True)
        if knots.size >= POINTS_OF_A_CURVE and knots.size * rows.size <= LARGEST_SLICE:
            map_KR = np.zeros((knots.size, rows.size))
            map_KR[index, np.arange(rows.size)] = 1.0
            map_KR /= map_KR.sum(axis=1, keepdims=True)
            log_flops_K = map_KR @ np.log(flops_R[rows])
            if (np.diff(log_flops_K) > 0).all():
                curves.append(SizeCurve(float(np.log(params)), np.log(knots), log_flops_K, rows, map_KR))
    return curves


def _between_runs(columns: Mapping[str, np.ndarray], flops_R: np.ndarray, min_points: int) -> tuple[Slice, ...]:
    curves = size_curves(columns, flops_R)
    if len(curves) < min_points:
        return ()
    pieces = []
    for log_budget in _covered_budgets(curves, min_points):
        inside = [
            curve
            for curve in curves
            if curve.log_flops_K[0] - 1e-9 <= log_budget <= curve.log_flops_K[-1] + 1e-9
        ]
        if len(inside) < min_points:
            continue  # a gap in the coverage
        reads = [read_weights(curve.log_flops_K, np.array([log_budget]))[0] for curve in inside]
        weights_SR = np.zeros((len(inside), sum(curve.rows.size for curve in inside)))
        at = 0
        for point, (read_K, curve) in enumerate(zip(reads, inside, strict=True)):
            weights_SR[point, at : at + curve.rows.size] = read_K @ curve.map_KR
            at += curve.rows.size
        rows = np.concatenate([curve.rows for curve in inside])
        used = (weights_SR != 0).any(axis=0)
        pieces.append(
            Slice(
                flops=float(np.exp(log_budget)),
                log_params_S=np.array([curve.log_params for curve in inside]),
                log_tokens_S=np.array(
                    [read_K @ curve.log_tokens_K for read_K, curve in zip(reads, inside, strict=True)]
                ),
                rows_R=rows[used],
                weights_SR=weights_SR[:, used],
                shift_S=np.zeros(len(inside)),
                interpolated=True,
            )
        )
    return tuple(pieces)


def _covered_budgets(curves: Sequence[SizeCurve], min_points: int) -> np.ndarray:
    """Logs of budgets, evenly over those that lie inside the runs of at least `min_points` sizes."""
    ends = np.unique([end for curve in curves for end in (curve.log_flops_K[0], curve.log_flops_K[-1])])
    covered = np.array(
        [
            end
            for end in ends
            if sum(curve.log_flops_K[0] <= end <= curve.log_flops_K[-1] for curve in curves) >= min_points
        ]
    )
    if not covered.size:
        return covered
    count = min(INTERPOLATED_BUDGETS, 1 + int(np.ptp(covered) / np.log(BUDGET_STEP)))
    return np.linspace(covered.min(), covered.max(), count) if count > 1 else np.array([np.median(covered)])


def read_weights(knots_K: np.ndarray, at_G: np.ndarray) -> np.ndarray:
    """Weights of the cubic through the four knots nearest to each place (a parabola where there are three), (G, K)."""
    first_G = np.clip(np.searchsorted(knots_K, at_G) - 2, 0, max(knots_K.size - 4, 0))
    near = first_G[:, None] + np.arange(min(4, knots_K.size))
    nodes, weights = knots_K[near], np.zeros((at_G.size, knots_K.size))
    for k in range(near.shape[1]):
        others = np.delete(nodes, k, axis=1)
        share_G = np.prod((at_G[:, None] - others) / (nodes[:, [k]] - others), axis=1)
        weights[np.arange(at_G.size), near[:, k]] = share_G
    return weights
