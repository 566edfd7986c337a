"""How large and how sudden: shares of the gain, where it starts, and BIG-bench's two numbers for comparison."""

import math

import numpy as np
from scipy.optimize import isotonic_regression

from analysis.emergence.noise import Design, Overdispersion, draw
from analysis.emergence.settings import Settings
from analysis.emergence.statistics import Evaluation, evaluate

REPLICATES = 400


def largest_share(x_K: np.ndarray, y_K: np.ndarray, weight_K: np.ndarray, window: float) -> float | None:
    """Largest share of the total gain within one window of x, on the isotonic fit joined by straight lines.

    None where the isotonic fit has no gain; 1 where all scales lie within one window.
    """
    rising_K = isotonic_regression(y_K, weights=weight_K).x
    gain = rising_K[-1] - rising_K[0]
    if gain <= 0.0:
        return None
    # The gain in a window is piecewise linear in where it starts: its maximum has an end on a scale.
    starts = np.concatenate([x_K, x_K - window])
    ends = np.interp(starts + window, x_K, rising_K) - np.interp(starts, x_K, rising_K)
    return float(ends.max() / gain)


def big_bench(y_K: np.ndarray) -> dict[str, float | None]:
    """Linearity and breakthroughness as in Srivastava et al. 2022 (arXiv 2206.04615), section 3.5 and appendix.

    Signed range over the root mean square, and over the root median square, of successive differences. Both
    are reported only: a straight line over 12 scales has a breakthroughness of 11.
    """
    top, bottom = int(np.argmax(y_K)), int(np.argmin(y_K))
    spread = math.copysign(float(y_K[top] - y_K[bottom]), top - bottom)
    squares = np.diff(y_K) ** 2
    mean, median = math.sqrt(float(squares.mean())), math.sqrt(float(np.median(squares)))
    return {
        "linearity": spread / mean if mean else None,
        "breakthroughness": spread / median if median else None,
    }


def onset(
    design: Design, observed: Evaluation, kind: str, settings: Settings, axis: str, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Change-point and its 95% interval on the x coordinate.

    Args:
      kind: `sharp`: the middle of the rise of the best narrow logistic. Otherwise the knot of the best
        flat-then-rise curve. The interval is a percentile interval of refits to data simulated from that curve.
    """
    fit = observed.sharp if kind == "sharp" else observed.flat_then_rise
    mean_BK = np.repeat(np.clip(fit.mean_BK[:1], 0.0, 1.0), REPLICATES, axis=0)
    over = Overdispersion(*(np.repeat(part[:1], REPLICATES) for part in observed.over))
    again = evaluate(design, draw(design, mean_BK, over, rng), settings, axis)
    refit = again.sharp if kind == "sharp" else again.flat_then_rise
    low, high = np.quantile(refit.parameters_BP[:, 2], [0.025, 0.975])
    estimate = float(fit.parameters_BP[0, 2])
    if kind == "sharp" and fit.parameters_BP[0, 3] < np.diff(design.x_K).min():
        # A rise between two scales says no more than that it lies between them.
        after = int(np.clip(np.searchsorted(design.x_K, estimate), 1, design.scales - 1))
        low, high = min(low, design.x_K[after - 1]), max(high, design.x_K[after])
    return estimate, float(min(low, estimate)), float(max(high, estimate))
