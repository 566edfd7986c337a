"""Approach 1: which size is best at each budget, read off the lower envelope of the sizes' loss curves.

A size's curve is its loss against compute, interpolated between its token counts, every one of them cooled down. (A
single run's own curve would be measured on the way, at a learning rate that is too high for where it is: Hoffmann et
al. 2022, arXiv 2203.15556, sections 3.1 and appendix B.) As there, 1,500 budgets on a log scale are looked at.

With few sizes the best one is a staircase in compute, and least squares through k whole steps falls short of the
slope by a factor 1 - 1/k^2. The budgets at which one size hands over to the next do not: at each of them two sizes are
equally good, and the best size of a continuum lies between the two. The power law goes through these.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.isoflop.slices import SizeCurve, flops_of, read_weights, size_curves
from core.errors import BadInput

BUDGETS = 1500
FEWEST_SIZES = 3
AT_ONCE = 32  # repetitions whose curves are held in memory together
MOST_CURVES = 20_000  # sizes times repetitions


@dataclasses.dataclass(frozen=True)
class Handover:
    """Where a smaller size stops to be the best and a larger one begins.

    Attributes:
      flops: the budget at which both have the same loss; the last or first common one where they never do.
      params, tokens, loss: geometric means over the two sizes there, and the loss of the better.
      why: empty, or the reason why it is none.
    """

    flops: float
    params: float
    tokens: float
    loss: float
    why: str


@dataclasses.dataclass(frozen=True)
class Envelope:
    """Loss of every size over the budgets, and the handovers between them.

    Attributes:
      log_flops_G: natural logs of the budgets.
      loss_SG: loss of each size, infinite outside of its own runs.
      handovers: by increasing budget.
      slopes_B2: exponents of params and tokens in compute under each repetition of the noise; NaN where there is none.
    """

    log_flops_G: np.ndarray
    loss_SG: np.ndarray
    handovers: tuple[Handover, ...]
    slopes_B2: np.ndarray


def envelope(
    columns: Mapping[str, np.ndarray], noise: float, repetitions: int, generator: np.random.Generator
) -> Envelope:
    """The lower envelope of the loss curves of all sizes.

    Args:
      columns: params, tokens, loss and optionally flops.
      noise: relative standard deviation of one run's loss.
      repetitions: of the noise, behind the intervals.

    Raises:
      BadInput: fewer than 3 sizes have 3 token counts.
    """
    flops_R, loss_R = flops_of(columns), columns["loss"]
    curves = size_curves(columns, flops_R)
    if len(curves) < FEWEST_SIZES:
        raise BadInput(
            f"{len(curves)} sizes with 3 or more token counts each: an envelope of their curves needs {FEWEST_SIZES}"
        )
    log_flops_G = np.linspace(
        min(curve.log_flops_K[0] for curve in curves), max(curve.log_flops_K[-1] for curve in curves), BUDGETS
    )
    reads = [_reads(curve, log_flops_G) for curve in curves]
    loss_SG = np.stack(
        [
            np.where(inside_G, weights_GR @ loss_R[curve.rows], np.inf)
            for curve, (weights_GR, inside_G) in zip(curves, reads, strict=True)
        ]
    )
    places_H = _places(loss_SG[None], log_flops_G)[0]
    handovers = tuple(
        _handover(curves, loss_SG, log_flops_G, rank, place) for rank, place in enumerate(places_H)
    )
    ranks = _distinct(handovers)
    repetitions = min(repetitions, max(200, MOST_CURVES // len(curves)))
    slopes = np.full((repetitions, 2), np.nan)
    for start in range(0, repetitions, AT_ONCE):
        count = min(AT_ONCE, repetitions - start)
        noisy_BR = loss_R * (1 + noise * generator.standard_normal((count, loss_R.size)))
        noisy_BSG = np.stack(
            [
                np.where(inside_G, noisy_BR[:, curve.rows] @ weights_GR.T, np.inf)
                for curve, (weights_GR, inside_G) in zip(curves, reads, strict=True)
            ],
            axis=1,
        )
        at_BH = _places(noisy_BSG, log_flops_G)[:, ranks]
        slopes[start : start + count] = _slopes(at_BH, [handovers[rank] for rank in ranks])
    return Envelope(log_flops_G, loss_SG, tuple(handovers[rank] for rank in _shown(handovers)), slopes)


def _reads(curve: SizeCurve, log_flops_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map from a size's rows to its loss at each budget, and which budgets its runs cover."""
    inside_G = (curve.log_flops_K[0] - 1e-9 <= log_flops_G) & (log_flops_G <= curve.log_flops_K[-1] + 1e-9)
    weights_GR = np.zeros((log_flops_G.size, curve.rows.size))
    weights_GR[inside_G] = read_weights(curve.log_flops_K, log_flops_G[inside_G]) @ curve.map_KR
    return weights_GR, inside_G


def _places(loss_BSG: np.ndarray, log_flops_G: np.ndarray) -> np.ndarray:
    """Log budgets at which the sizes up to each rank hand over to those above it, (B, S - 1); NaN where they do not.

    Looked at are the budgets that both sizes beside the handover cover: elsewhere a curve that ends would look like
    one that is overtaken. Counting the budgets that the smaller sizes win puts one place on curves that noise makes
    cross several times.
    """
    step = log_flops_G[1] - log_flops_G[0]
    places = np.full((loss_BSG.shape[0], loss_BSG.shape[1] - 1), np.nan)
    up_to_BSG = np.minimum.accumulate(loss_BSG, axis=1)
    from_BSG = np.minimum.accumulate(loss_BSG[:, ::-1], axis=1)[:, ::-1]
    for rank in range(places.shape[1]):
        small_BG, large_BG = up_to_BSG[:, rank], from_BSG[:, rank + 1]
        common = _common(loss_BSG[0], rank)
        if not common.size:
            continue
        smaller_wins_BG = small_BG[:, common] < large_BG[:, common]
        bracketed_B = smaller_wins_BG[:, 0] & ~smaller_wins_BG[:, -1]
        at_B = log_flops_G[common[0]] + step * (smaller_wins_BG.sum(axis=1) - 0.5)
        places[:, rank] = np.where(bracketed_B, at_B, np.nan)
    return places


def _common(loss_SG: np.ndarray, rank: int) -> np.ndarray:
    """Places of the budgets that the sizes on both sides of a handover cover."""
    return np.flatnonzero(np.isfinite(loss_SG[rank]) & np.isfinite(loss_SG[rank + 1]))


def _handover(
    curves: Sequence[SizeCurve], loss_SG: np.ndarray, log_flops_G: np.ndarray, rank: int, place: float
) -> Handover:
    small_SG, large_SG = loss_SG[: rank + 1], loss_SG[rank + 1 :]
    common = _common(loss_SG, rank)
    why = ""
    if not common.size:
        names = " and ".join(f"{np.exp(curves[at].log_params):.3g}" for at in (rank, rank + 1))
        return Handover(np.nan, np.nan, np.nan, np.nan, f"no budget is covered by sizes around {names}")
    if np.isnan(place):
        larger_first = not small_SG[:, common[0]].min() < large_SG[:, common[0]].min()
        place = float(log_flops_G[common[0] if larger_first else common[-1]])
        side = (
            "larger sizes are better from the first" if larger_first else "smaller sizes are better to the last"
        )
        why = f"at the edge: {side} budget that both were trained through"
    near = int(common[np.abs(log_flops_G[common] - place).argmin()])
    pair = (int(small_SG[:, near].argmin()), rank + 1 + int(large_SG[:, near].argmin()))
    tokens = [np.interp(place, curves[at].log_flops_K, curves[at].log_tokens_K) for at in pair]
    return Handover(
        flops=float(np.exp(place)),
        params=float(np.exp(np.mean([curves[at].log_params for at in pair]))),
        tokens=float(np.exp(np.mean(tokens))),
        loss=float(loss_SG[list(pair), near].min()),
        why=why,
    )


def _shown(handovers: Sequence[Handover]) -> list[int]:
    """Ranks of distinct handovers: a size that is never the best shares one with its neighbour."""
    seen: dict[tuple[float, float], int] = {}
    for rank, handover in enumerate(handovers):
        seen.setdefault((round(handover.params, 6), 0.0 if handover.why else handover.flops), rank)
    return sorted(seen.values(), key=lambda rank: (np.nan_to_num(handovers[rank].flops, nan=np.inf), rank))


def _distinct(handovers: Sequence[Handover]) -> list[int]:
    return [rank for rank in _shown(handovers) if not handovers[rank].why]


def _slopes(log_flops_BH: np.ndarray, handovers: Sequence[Handover]) -> np.ndarray:
    """Exponents of params and tokens through the handovers of each repetition, (B, 2); NaN below two."""
    slopes = np.full((log_flops_BH.shape[0], 2), np.nan)
    log_params_H = np.log([handover.params for handover in handovers])
    # FLOPs a token: what stays where noise moves the budget of a handover
    log_cost_H = np.log([handover.flops / handover.tokens for handover in handovers])
    for row, log_flops_H in enumerate(log_flops_BH):
        there = np.isfinite(log_flops_H)
        if there.sum() >= 2 and np.ptp(log_flops_H[there]) > 1e-9:  # else a line through them has no slope
            x = log_flops_H[there]
            slopes[row] = [np.polyfit(x, y, 1)[0] for y in (log_params_H[there], x - log_cost_H[there])]
    return slopes
