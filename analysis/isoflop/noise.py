"""The noise of one run: given, from repeated seeds, or from the scatter of all budgets; and that noise put on again.

Scatter is taken about a smooth curve (analysis/isoflop/curve.py), not about the parabola: what a parabola misses on a
wide range of sizes is no noise. A budget that scatters far more than the others has its own noise and is named.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.special import fdtrc

from analysis.isoflop.curve import FEWEST_SIZES, curve_basis
from analysis.isoflop.slices import Slice

Unit = Literal["relative", "nats"]
REPEATED_FREEDOM = 5  # seeds measure the noise if they leave so many degrees of freedom
OUTLYING = 0.005  # level, over all budgets, at which one is said to scatter more than the others
FEWEST_OTHERS = 2  # budgets that one is held against
QUIETEST = 5e-4  # relative noise of a run below which the curve's own misfit would count


@dataclasses.dataclass(frozen=True)
class RunNoise:
    """Of one run's loss.

    Attributes:
      sd: standard deviation, over the loss or in nats; NaN where unknown.
      freedom: degrees of freedom of its square; infinite where it was given.
      unit: relative (to the loss) or nats.
      source: where it is from, in words.
      own: standard deviation and degrees of freedom of slices that have their own, by their place.
    """

    sd: float
    freedom: float
    unit: Unit
    source: str
    own: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.sd))

    def size_R(self, loss_R: np.ndarray) -> np.ndarray:
        """What `sd` is multiplied by for the noise of each run in nats."""
        return np.ones_like(loss_R) if self.unit == "nats" else loss_R

    def of_slice(self, place: int) -> float:
        """The standard deviation that holds for a slice."""
        return self.own[place][0] if place in self.own else self.sd


def noise_of(
    columns: Mapping[str, np.ndarray],
    slices: Sequence[Slice],
    given: float | None,
    unit: Unit,
    warnings: list[str],
) -> RunNoise:
    """The noise that was given, or else that of repeated (params, tokens) where there are enough, or of the scatter."""
    if given is not None:
        return RunNoise(given, np.inf, unit, "given")
    pairs = np.stack([columns["params"], columns["tokens"]], axis=1)
    _, point_R, count_P = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    point_R = point_R.reshape(-1)
    freedom = int((count_P - 1).sum())
    if freedom >= REPEATED_FREEDOM:
        log_loss_R = np.log(columns["loss"])
        mean_P = np.bincount(point_R, log_loss_R) / count_P
        sd = float(np.sqrt(((log_loss_R - mean_P[point_R]) ** 2).sum() / freedom))
        return RunNoise(sd, float(freedom), "relative", f"repeated runs, {freedom} degrees of freedom")
    sd, effective, own = pooled_noise(slices, columns["loss"])
    for place, (its, _) in sorted(own.items()):
        warnings.append(
            f"the losses at {slices[place].flops:.3g} FLOPs scatter by {its:.2%} about a smooth curve, at the other "
            f"budgets by {sd:.2%}: it has its own noise and little weight (a run that went wrong?)"
        )
    if not np.isfinite(sd):
        warnings.append(
            "the noise of a run is unknown (no repeated runs, no more sizes at a budget than a parabola has "
            "coefficients): whether a valley is deeper than noise cannot be told; --noise gives it"
        )
    return RunNoise(sd, effective, "relative", "scatter about smooth curves", own)


@dataclasses.dataclass(frozen=True)
class _Scatter:
    """With loss = truth (1 + s e), a slice's residual is a linear map of the e of its rows: the expected sum of squares
    is s^2 times `trace`, whatever the interpolation, and `squared` is the trace of that matrix's square."""

    square: float
    trace: float
    squared: float


def pooled_noise(
    slices: Sequence[Slice], loss: np.ndarray
) -> tuple[float, float, dict[int, tuple[float, float]]]:
    """Relative noise of one run, from the scatter of all slices about their curves.

    Returns:
      s, the effective degrees of freedom of s^2 (Satterthwaite 1946), and both for slices whose scatter is beyond that
      of the others (Cochran 1941), which are not in the first; (nan, 0, {}) where no slice has sizes to spare.
    """
    parts: dict[int, _Scatter] = {}
    shared = 0.0
    responses: list[tuple[np.ndarray, np.ndarray]] = []
    for place, piece in enumerate(slices):
        if piece.log_params_S.size < FEWEST_SIZES:
            continue
        # Of the loss itself, which is a sum of exponentials here, each point weighted by one over its noise.
        loss_S = piece.losses(loss)
        basis, _ = np.linalg.qr(curve_basis(piece.log_params_S) / loss_S[:, None])
        noise_SR = piece.weights_SR * loss[piece.rows_R] / loss_S[:, None]
        residual = 1.0 - basis @ basis.sum(axis=0)
        response = noise_SR - basis @ (basis.T @ noise_SR)
        gram = response @ response.T
        parts[place] = _Scatter(float(residual @ residual), float(np.trace(gram)), float((gram**2).sum()))
        if piece.interpolated:
            # Interpolated slices share runs, so the cross terms between them count as well.
            for rows, other in responses:
                _, here, there = np.intersect1d(piece.rows_R, rows, return_indices=True)
                shared += 2 * float(((response[:, here] @ other[:, there].T) ** 2).sum())
            responses.append((piece.rows_R, response))
    own: dict[int, tuple[float, float]] = {}
    while not responses and (worst := _outlying(parts)) is not None:
        own[worst] = _pooled([parts.pop(worst)])
    return (*_pooled(list(parts.values()), shared), own)


def _pooled(parts: Sequence[_Scatter], shared: float = 0.0) -> tuple[float, float]:
    trace = sum(part.trace for part in parts)
    if trace <= 0:
        return float("nan"), 0.0
    square = sum(part.square for part in parts)
    return float(np.sqrt(square / trace)), trace**2 / (sum(part.squared for part in parts) + shared)


def _outlying(parts: Mapping[int, _Scatter]) -> int | None:
    """The slice that scatters more than the others by more than chance; None where there is none."""
    if len(parts) <= FEWEST_OTHERS:
        return None
    found = []
    for place in parts:
        its, its_freedom = _pooled([parts[place]])
        rest, rest_freedom = _pooled([part for other, part in parts.items() if other != place])
        ratio = (its / max(rest, QUIETEST)) ** 2
        found.append((float(fdtrc(its_freedom, rest_freedom, ratio)) * len(parts), place))
    p, place = min(found)
    return place if p <= OUTLYING else None


def scales(noise: RunNoise, repetitions: int, generator: np.random.Generator) -> np.ndarray:
    """The noise of each repetition, (B,): what is estimated from few runs is itself uncertain, so it is drawn."""
    scale_B = np.full(repetitions, noise.sd if noise.known else 0.0)
    if np.isfinite(noise.freedom) and noise.freedom > 0:
        scale_B = scale_B * np.sqrt(noise.freedom / generator.chisquare(noise.freedom, repetitions))
    return scale_B


def noises(
    slices: Sequence[Slice],
    size_R: np.ndarray,
    noise: RunNoise,
    repetitions: int,
    generator: np.random.Generator,
    *,
    mirrored: bool = False,
) -> Iterator[np.ndarray]:
    """Noise of each slice's points in nats, (B, S); interpolated slices that share runs share their noise.

    Args:
      size_R: `RunNoise.size_R`.
      mirrored: every repetition is followed by its mirror image, so that medians do not move with the draws.
    """
    halves = 2 if mirrored else 1
    scale_B = scales(noise, repetitions // halves, generator)
    interpolated = [piece.rows_R for piece in slices if piece.interpolated]
    shared = np.unique(np.concatenate(interpolated)) if interpolated else np.zeros(0, dtype=int)
    noise_BR = generator.standard_normal((scale_B.size, shared.size))
    for place, piece in enumerate(slices):
        if piece.interpolated:
            own_BR = noise_BR[:, np.searchsorted(shared, piece.rows_R)] * size_R[piece.rows_R]
            noise_BS = own_BR @ piece.weights_SR.T * scale_B[:, None]
        else:
            # Averages over disjoint runs are independent: their standard deviation is all that is needed.
            spread_S = np.sqrt(((piece.weights_SR * size_R[piece.rows_R]) ** 2).sum(axis=1))
            its_B = scale_B
            if place in noise.own:
                its_B = scales(RunNoise(*noise.own[place], noise.unit, ""), scale_B.size, generator)
            noise_BS = generator.standard_normal((scale_B.size, spread_S.size)) * spread_S * its_B[:, None]
        yield np.concatenate([noise_BS, -noise_BS]) if mirrored else noise_BS
