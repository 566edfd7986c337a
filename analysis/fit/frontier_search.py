"""The compute-optimal frontier of a law that has no closed form, under C = 6 N D: found by search over sizes."""

import numpy as np

from analysis.fit.frontier import Frontier
from analysis.fit.prediction import predict_law
from analysis.laws.base import Law

SEARCHED = 241  # sizes that are looked at


def frontier_of(law: Law, natural: np.ndarray, flops: np.ndarray, sizes: tuple[float, float]) -> Frontier:
    """The frontier of any law of parameters and tokens, by search; for draws (R, P) and budgets (C,), (R, C).

    Args:
      sizes: least and largest to look at. NaN where the best lies at one of them.
    """
    log_sizes = np.linspace(np.log(sizes[0]), np.log(sizes[1]), SEARCHED)
    log_product = np.log(np.asarray(flops, dtype=np.float64) / 6.0)
    params = np.exp(log_sizes)[None, :] * np.ones((log_product.size, 1))
    tokens = np.exp(log_product)[:, None] / params
    loss = predict_law(law, natural, {"params": params.ravel(), "tokens": tokens.ravel()})
    loss = loss.reshape(-1, log_product.size, SEARCHED)
    place = np.argmin(loss, axis=2)
    inside = (place > 0) & (place < SEARCHED - 1)
    middle = np.clip(place, 1, SEARCHED - 2)[:, :, None]
    below, at, above = (np.take_along_axis(loss, middle + step, axis=2)[:, :, 0] for step in (-1, 0, 1))
    # the vertex of the parabola through the three best points
    with np.errstate(invalid="ignore", divide="ignore"):
        move = 0.5 * (below - above) / (below - 2 * at + above)
    log_params = log_sizes[middle[:, :, 0]] + move * (log_sizes[1] - log_sizes[0])
    log_params = np.where(inside, log_params, np.nan)
    found = at - 0.25 * (below - above) * move
    return Frontier(np.exp(log_params), np.exp(log_product - log_params), np.where(inside, found, np.nan))
