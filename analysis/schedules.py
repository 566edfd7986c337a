"""Sums of a learning-rate schedule, for the law of annealing (Tissue et al. 2024, arXiv 2408.11029, section 3)."""

import numpy as np
from scipy.signal import lfilter

from core.errors import BadInput

MOST_STEPS = 20_000_000


def rate_of_each_step(steps: np.ndarray, rates: np.ndarray, last: int) -> np.ndarray:
    """The rate of each optimizer step from 0 to `last`, from rows that may be sparse: linear between them.

    Before the peak is first reached, and before the first row, the peak counts: warmup is read as the peak, as the
    authors do (section 3.4).

    Args:
      steps: (R,) increasing. rates: (R,) at these steps.

    Raises:
      BadInput: too many steps, steps that do not increase, or no rate above 0.
    """
    if last > MOST_STEPS:
        raise BadInput(f"step {last:,}: at most {MOST_STEPS:,} steps are summed")
    if (np.diff(steps) <= 0).any() or steps[0] < 0:
        raise BadInput("steps of a curve must be at least 0 and increase, one row a step")
    if not (rates >= 0).all() or not rates.max() > 0:
        raise BadInput("learning rates of a curve must be at least 0, and one above 0")
    each = np.interp(np.arange(last + 1), steps, rates)
    each[: int(steps[int(np.argmax(rates))]) + 1] = rates.max()
    return each


def sums_of_schedule(each: np.ndarray, memory: float) -> tuple[np.ndarray, np.ndarray]:
    """S1 and S2 of each step: the sum of rates, and that of their falls, of which `memory` is left a step later."""
    falls = np.concatenate([[0.0], each[:-1] - each[1:]])
    return np.cumsum(each), np.cumsum(lfilter([1.0], [1.0, -memory], falls))
