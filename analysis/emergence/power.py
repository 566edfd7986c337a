"""What this design could have seen: the smallest break, and the widest rise, found with 80% power.

Each simulated data set brings one bootstrap replicate from each of its own fitted nulls, and all replicates of a
truth together stand for the null distribution (warp-speed bootstrap: Giacomini, Politis and White 2013).
"""

import functools
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from analysis.emergence.hypotheses import minimum_p, upper_p
from analysis.emergence.noise import Design, Overdispersion, draw
from analysis.emergence.settings import Settings
from analysis.emergence.statistics import evaluate
from analysis.emergence.truths import rise

TARGET = 0.8
DATA_SETS = 160
BREAKS = np.geomspace(0.04, 1.0, 8)  # shares of the way from chance to 1
WIDTHS = np.array([0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])  # shares of W0
KNOT = 2.0 / 3.0


def power(design: Design, over: float, settings: Settings, axis: str) -> dict[str, Any]:
    """Smallest gain of a late hinge and widest full rise that are called, at level alpha for one task alone.

    Args:
      over: over-dispersion of the table, taken to the next quarter.
    """
    over = float(np.ceil(4.0 * over) / 4.0)
    return dict(
        _power(
            tuple(design.x_K.tolist()),
            tuple(design.scale_R.tolist()),
            tuple(design.n_R.tolist()),
            design.chance,
            over,
            settings,
            axis,
        )
    )


@functools.lru_cache(maxsize=512)
def _power(x, scale, n, chance, over, settings, axis):
    design = Design(np.array(x), np.array(scale), np.array(n), chance)
    x_K, room = design.x_K, 1.0 - chance
    place_K = (x_K - x_K[0]) / design.span
    hinge_K = np.maximum(place_K - KNOT, 0.0) / (1.0 - KNOT)
    widths = WIDTHS * settings.sharp_width(axis, design.span)
    hinges = [chance + share * room * hinge_K for share in BREAKS]
    rises = [rise(width, chance)(x_K) for width in widths]
    rng = np.random.default_rng([settings.seed, 9])
    rates = _rejections(design, np.array(hinges + rises), over, settings, axis, rng)
    smallest = _crossing(np.log(BREAKS), isotonic_regression(rates[: len(BREAKS), 0]).x)
    widest = _crossing(-np.log(widths[::-1]), isotonic_regression(rates[len(BREAKS) :, 1][::-1]).x)
    return (
        ("smallest_break", None if smallest is None else float(np.exp(smallest)) * room),
        ("widest_rise", None if widest is None else float(np.exp(-widest))),
        ("power", TARGET),
        ("overdispersion", over),
        (
            "break_curve",
            [[float(b * room), float(r)] for b, r in zip(BREAKS, rates[: len(BREAKS), 0], strict=True)],
        ),
        ("rise_curve", [[float(w), float(r)] for w, r in zip(widths, rates[len(BREAKS) :, 1], strict=True)]),
    )


def _crossing(x: np.ndarray, rate: np.ndarray) -> float | None:
    """First x at which the non-decreasing rate reaches the target, between points by a straight line."""
    if rate[-1] < TARGET:
        return None
    after = int(np.argmax(rate >= TARGET))
    if after == 0:
        return float(x[0])
    share = (TARGET - rate[after - 1]) / (rate[after] - rate[after - 1])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))


def _rejections(design, mean_TK, over, settings, axis, rng):
    """Shares of rejections (T, 2) of the onset and the sharpness test under each truth."""
    truths = len(mean_TK)
    mean_BK = np.repeat(np.clip(mean_TK, 0.0, 1.0), DATA_SETS, axis=0)
    flat = np.full(len(mean_BK), over)
    observed = evaluate(design, draw(design, mean_BK, Overdispersion(flat, flat), rng), settings, axis)
    null = {}
    for name in ("line", "onset_null", "sharp_null"):
        fitted_BK = np.clip(getattr(observed, name).mean_BK, 0.0, 1.0)
        null[name] = evaluate(design, draw(design, fitted_BK, observed.over, rng), settings, axis)
    rates = np.empty((truths, 2))
    for truth in range(truths):
        here = slice(truth * DATA_SETS, (truth + 1) * DATA_SETS)

        def pair(name, statistic, here=here):
            return getattr(observed, statistic)[here], getattr(null[name], statistic)[here][None]

        line = [pair("line", name) for name in ("bend_B", "forecast_B", "jump_B")]
        against_line = minimum_p([part[0] for part in line], [part[1] for part in line])
        delayed = np.maximum(against_line, upper_p(*pair("onset_null", "smooth_B")))
        sharp = np.maximum(
            upper_p(*pair("line", "sharp_ratio_B")), upper_p(*pair("sharp_null", "sharp_ratio_B"))
        )
        rates[truth] = (delayed <= settings.alpha).mean(), (sharp <= settings.alpha).mean()
    return rates
