"""Whether a slice has a valley: the curve opens upward, and noise put on again leaves its minimum among the sizes."""

import dataclasses
from collections.abc import Callable

import numpy as np

from analysis.isoflop.growth import PROPER_SHARE, Valley
from analysis.isoflop.slices import Slice
from analysis.isoflop.valleys import (
    CUBIC_COEFFICIENTS,
    Minima,
    akima_minima,
    cubic_minima,
    cubic_values,
    parabola_minima,
    parabola_values,
)
from analysis.quantiles import finite_quantiles

LEAST_STEP_SHARE = 1 / 3  # of the step between sizes: no valley is known better than that (Porian et al. 2024)
AKIMA_SHARE = 0.5  # of repetitions with a minimum, where an end stands clear of the lowest point (as there)
CLEAR = 3.0  # standard deviations of a difference


@dataclasses.dataclass(frozen=True)
class Again:
    """Noise of a slice's points in nats.

    Attributes:
      noise_BS: behind intervals, as many repetitions as were asked for.
      judging_BS: behind the verdict, always as many, mirrored.
      sd_S: standard deviation of each point; NaN where unknown.
    """

    noise_BS: np.ndarray
    judging_BS: np.ndarray
    sd_S: np.ndarray


def log_akima_minima(x_S: np.ndarray, loss_BS: np.ndarray) -> Minima:
    """Of the interpolation of log loss, as Porian et al. 2024 (arXiv 2406.19146) do it; the loss itself is given."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = akima_minima(x_S, np.log(loss_BS))
    return dataclasses.replace(found, loss_B=np.exp(found.loss_B))


MINIMA: dict[str, Callable[[np.ndarray, np.ndarray], Minima]] = {
    "parabola": parabola_minima,
    "cubic": cubic_minima,
    "akima": log_akima_minima,
}


def valley_of(
    piece: Slice, loss: np.ndarray, again: Again, method: str, min_points: int, level: float
) -> tuple[Valley, np.ndarray]:
    """The verdict on one slice, and log params_opt of every repetition (NaN where it has no minimum)."""
    x_S, loss_S = piece.log_params_S, piece.losses(loss)
    nothing = np.full(len(again.noise_BS), np.nan)

    def refused(why: str) -> tuple[Valley, np.ndarray]:
        return Valley(piece.flops, None, None, None, False, why, x_S.size), nothing

    fewest = max(min_points, 3, CUBIC_COEFFICIENTS + 1 if method == "cubic" else 0)
    if x_S.size < fewest:
        return refused(f"too few sizes: {x_S.size} at this budget, {fewest} are needed")
    parabola = parabola_minima(x_S, loss_S[None])
    base = MINIMA[method](x_S, loss_S[None])
    clear = method == "akima" and _deeper_than_noise(loss_S, again.sd_S)
    if method == "parabola" and not base.upward_B[0]:
        return refused("opens downward: the parabola through it has a maximum, no minimum")
    if method == "cubic" and not base.upward_B[0]:
        return refused("the cubic through it has no minimum")
    if method == "akima" and not (clear or parabola.upward_B[0]):
        return refused("opens downward: its ends are not above its middle")
    # An interpolation may have its minimum beyond the lowest point.
    ends = {} if method == "akima" else {0: "smallest", x_S.size - 1: "largest"}
    edge = ends.get(int(loss_S.argmin()))
    if edge or not base.inside_B[0]:
        edge = edge or ("smallest" if base.log_params_B[0] <= x_S[0] else "largest")
        return refused(
            f"at the edge: the minimum is at or beyond the {edge} size tried, so it is not bracketed"
        )
    # Curves are repeated about themselves, interpolations about the measured points.
    values = {"parabola": parabola_values, "cubic": cubic_values}.get(method)
    centre_S = loss_S if values is None else values(x_S, loss_S, x_S)
    repeated = MINIMA[method](x_S, centre_S + again.noise_BS)
    judging = MINIMA[method](x_S, centre_S + again.judging_BS)
    share, needed = float(judging.proper_B.mean()), AKIMA_SHARE if clear else PROPER_SHARE
    if method != "parabola" and not clear:
        about_S = parabola_values(x_S, loss_S, x_S)
        share = min(share, float(parabola_minima(x_S, about_S + again.judging_BS).proper_B.mean()))
    if share < needed:
        return refused(
            f"flat within noise: with the noise of a run put on it again, only {share:.0%} of repetitions keep "
            "a minimum inside the sizes tried"
        )
    if not (np.isfinite(repeated.loss_B[repeated.proper_B]).all() and np.isfinite(base.loss_B[0])):
        return refused("the losses are beyond what can be computed with")
    judged_B = judging.log_params_B[judging.proper_B]
    log_params = float(np.median(judged_B)) if method == "akima" else float(base.log_params_B[0])
    log_tokens = float(np.interp(log_params, x_S, piece.log_tokens_S))
    log_params_B = np.where(repeated.proper_B, repeated.log_params_B, np.nan)
    low, high = np.exp(finite_quantiles(log_params_B, [(1 - level) / 2, (1 + level) / 2]))
    least = LEAST_STEP_SHARE * float(x_S[-1] - x_S[0]) / (x_S.size - 1)
    return Valley(
        flops=piece.flops,
        params_opt=float(np.exp(log_params)),
        tokens_opt=float(np.exp(log_tokens)),
        loss_opt=float(base.loss_B[0]),
        ok=True,
        why="",
        sizes=x_S.size,
        params_interval=(float(low), float(high)),
        deviation=max(float(judged_B.std()), least) / share,
    ), log_params_B


def _deeper_than_noise(loss_S: np.ndarray, sd_S: np.ndarray) -> bool:
    """Whether noise cannot have made the smallest or the largest size worse than the best one."""
    if not np.isfinite(sd_S).all():
        return False
    lowest = int(loss_S.argmin())
    difference_S = np.sqrt(sd_S**2 + sd_S[lowest] ** 2)
    return any(loss_S[end] - loss_S[lowest] > CLEAR * difference_S[end] for end in (0, -1))
