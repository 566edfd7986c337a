"""Rows that do not belong to the curve of their budget (undertrained, diverged, mistyped): held apart and named.

At each budget log loss is a smooth curve in log size (analysis/isoflop/curve.py). A row is held apart where leaving it
out (or it and one more, so that two cannot hide each other) lowers the squares about these curves by more than the
noise of all budgets together explains. That noise is taken with the worst rows of every budget left out, and what is
then called more is simulated for the very design of the table, so that a clean table keeps all of its rows but one
time in a hundred (tests/analysis/test_isoflop_apart.py). Nothing here depends on how many resamples are asked for.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.isoflop.curve import curve_basis
from analysis.isoflop.slices import Slice

FEWEST_SIZES = 5  # of a budget: one more than its curve has terms, and one to leave out
LEVEL = 0.005  # of each of the two tests, over all budgets together
SIMULATIONS = 1999
SEED = 0
QUIETEST = 5e-4  # relative noise of a run below which a curve's own misfit would count
MOST_SHARE = 0.25  # of the rows of a budget
COMMON_BUDGETS, COMMON_SHARE = 3, 0.3  # that have such rows at one end: then it is the curve that does not hold
PAIRED_ROWS = 120  # of a budget, up to which pairs are tried


@dataclasses.dataclass(frozen=True)
class HeldApart:
    """A row that no curve goes through.

    Attributes:
      row: of the table that was given, from 0.
      flops: of its budget. params, tokens, loss: its own. expected: the loss that the other rows of its budget say.
    """

    row: int
    flops: float
    params: float
    tokens: float
    loss: float
    expected: float

    def words(self, number: int) -> str:
        """One line, with the row's number in its file."""
        off = self.loss / self.expected - 1
        return (
            f"row {number} ({self.params:.3g} params, {self.tokens:.3g} tokens) is held apart: its loss "
            f"{self.loss:.4g} is {abs(off):.1%} {'above' if off > 0 else 'below'} the {self.expected:.4g} that the "
            f"other sizes at {self.flops:.3g} FLOPs say (undertrained, diverged, or mistyped?); analysis.isoflop "
            "--keep-all takes it"
        )


@dataclasses.dataclass(frozen=True)
class _Curve:
    """The rows of one budget: what their residuals are about its curve, and how they move if rows are left out."""

    rows: np.ndarray
    basis_RP: np.ndarray
    most_out: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom with the worst rows left out."""
        return self.rows.size - self.basis_RP.shape[1] - self.most_out

    def residuals(self, y_BR: np.ndarray) -> np.ndarray:
        return y_BR - (y_BR @ self.basis_RP) @ self.basis_RP.T

    def falls(self, residual_BR: np.ndarray) -> list[np.ndarray]:
        """By how much the squares fall without each row, (B, R), and without each pair, (B, R, R)."""
        hat_RR = self.basis_RP @ self.basis_RP.T
        left_R = np.maximum(1.0 - np.diag(hat_RR), 1e-9)
        single_BR = np.where(left_R > 1e-6, residual_BR**2 / left_R, 0.0)
        if self.most_out < 2:
            return [single_BR]
        determinant_RR = np.outer(left_R, left_R) - hat_RR**2
        proper_RR = (determinant_RR > 1e-6) & ~np.eye(self.rows.size, dtype=bool)
        squares_BRR = residual_BR[:, :, None] ** 2 * left_R[None, None, :]
        cross_BRR = residual_BR[:, :, None] * residual_BR[:, None, :] * hat_RR
        both_BRR = squares_BRR + squares_BRR.transpose(0, 2, 1) + 2.0 * cross_BRR
        return [single_BR, np.where(proper_RR, both_BRR / np.where(proper_RR, determinant_RR, 1.0), 0.0)]


def held_apart(columns: Mapping[str, np.ndarray], slices: Sequence[Slice]) -> tuple[HeldApart, ...]:
    """Rows that are to be left out, in the order in which they were found; none of slices between runs."""
    planned = slices = [piece for piece in slices if not piece.interpolated]
    sizes = {id(piece): piece.rows_R.size for piece in slices}
    left_out: dict[int, HeldApart] = {}
    while True:
        curves = [(piece, curve) for piece in slices if (curve := _curve(columns, piece, left_out)) is not None]
        found = _worst(columns, curves) if curves else None
        if found is None:
            return _without_common(left_out, columns, planned)
        piece, curve, places = found
        already = sum(row in left_out for row in piece.rows_R.tolist())
        if already + len(places) > MOST_SHARE * sizes[id(piece)]:
            # A budget in which so much is wrong has no curve to hold rows against.
            slices = [other for other in slices if other is not piece]
            continue
        for place in places:
            row = int(curve.rows[place])
            others = np.delete(np.arange(curve.rows.size), places)
            expected = _expected(columns, curve, others, place)
            own = {name: float(columns[name][row]) for name in ("params", "tokens", "loss")}
            left_out[row] = HeldApart(row=row, flops=piece.flops, expected=expected, **own)


def _without_common(
    left_out: Mapping[int, HeldApart], columns: Mapping[str, np.ndarray], slices: Sequence[Slice]
) -> tuple[HeldApart, ...]:
    """Without rows that many budgets have at the same end and on the same side of their curves.

    There no run went wrong: the curve does not hold so far from the valley.
    """
    kind_of: dict[int, tuple[bool, bool]] = {}
    budgets: dict[tuple[bool, bool], set[int]] = {}
    for place, piece in enumerate(slices):
        inside = [row for row in piece.rows_R.tolist() if row not in left_out]
        best = columns["params"][min(inside, key=lambda row: columns["loss"][row])] if inside else 0.0
        for row in piece.rows_R.tolist():
            if row in left_out:
                entry = left_out[row]
                kind_of[row] = (entry.params > best, entry.loss > entry.expected)
                budgets.setdefault(kind_of[row], set()).add(place)
    common = {
        kind
        for kind, places in budgets.items()
        if len(places) >= max(COMMON_BUDGETS, COMMON_SHARE * len(slices))
    }
    return tuple(entry for row, entry in left_out.items() if kind_of[row] not in common)


def _curve(columns: Mapping[str, np.ndarray], piece: Slice, left_out: Mapping[int, HeldApart]) -> _Curve | None:
    rows = np.array([row for row in piece.rows_R.tolist() if row not in left_out], dtype=int)
    params = columns["params"][rows]
    sizes = np.unique(params).size
    if sizes < FEWEST_SIZES:
        return None
    basis = curve_basis(np.log(params))
    most_out = min(2 if rows.size <= PAIRED_ROWS else 1, rows.size - basis.shape[1] - 1)
    return _Curve(rows, basis, most_out) if most_out > 0 else None


def _worst(
    columns: Mapping[str, np.ndarray], curves: Sequence[tuple[Slice, _Curve]]
) -> tuple[Slice, _Curve, tuple[int, ...]] | None:
    """The budget with the row, or the pair, that noise explains least; None where noise explains all."""
    simulated = [
        np.random.default_rng([SEED, n]).standard_normal((SIMULATIONS, c.rows.size))
        for n, (_, c) in enumerate(curves)
    ]
    null = _statistics([curve for _, curve in curves], simulated, 0.0)
    observed = _statistics(
        [curve for _, curve in curves], [np.log(columns["loss"][c.rows])[None] for _, c in curves], QUIETEST
    )
    for count in (1, 2):
        reached = [(float(now[0][0]), place) for place, now in enumerate(observed[count - 1])]
        highest_B = np.max([then[0] for then in null[count - 1]], axis=0)
        largest, place = max(reached)
        if (1 + int((highest_B >= largest).sum())) / (SIMULATIONS + 1) <= LEVEL:
            piece, curve = curves[place]
            at = int(observed[count - 1][place][1][0])
            places = (at,) if count == 1 else tuple(divmod(at, curve.rows.size))
            return piece, curve, places
    return None


def _statistics(
    curves: Sequence[_Curve], y: Sequence[np.ndarray], quietest: float
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """For one row, and for a pair: of each curve the largest fall over the noise (B,), and where it is (B,)."""
    squares = np.zeros(y[0].shape[0])
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    for curve, y_BR in zip(curves, y, strict=True):
        residual_BR = curve.residuals(y_BR)
        falls = [fall.reshape(len(fall), -1) for fall in curve.falls(residual_BR)]
        squares += np.square(residual_BR).sum(axis=1) - falls[-1].max(axis=1)
        for count in (0, 1):
            fall = falls[count] if count < len(falls) else np.zeros((len(residual_BR), 1))
            found[count].append((fall.max(axis=1), fall.argmax(axis=1)))
    noise = np.maximum(squares / sum(curve.freedom for curve in curves), max(quietest**2, 1e-30))
    return [[(fall / noise, at) for fall, at in each] for each in found]


def _expected(columns: Mapping[str, np.ndarray], curve: _Curve, others: np.ndarray, place: int) -> float:
    y = np.log(columns["loss"][curve.rows])
    solution, *_ = np.linalg.lstsq(curve.basis_RP[others], y[others], rcond=None)
    return float(np.exp(curve.basis_RP[place] @ solution))
