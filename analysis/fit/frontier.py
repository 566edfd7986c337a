"""The compute-optimal frontier of a Chinchilla fit, in closed form, under C = 6 N D.

Hoffmann et al. 2022, arXiv 2203.15556, eq. 4: N_opt = G (C/6)^a, D_opt = (C/6)^b / G with a = beta / (alpha + beta),
b = alpha / (alpha + beta), G = (alpha A / (beta B))^(1 / (alpha + beta)).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FRONTIER_FLOPS = (1e18, 1e20, 1e21, 1e22, 1e23, 5.88e23, 1e24, 1e25, 1e26)


@dataclass(frozen=True)
class Frontier:
    """Optimal parameters, tokens and loss at each budget; arrays broadcast from parameters and `flops`."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray


def exponents(parameters: Mapping[str, np.ndarray | float]) -> tuple[np.ndarray, np.ndarray]:
    """(a, b): N_opt grows as C^a and D_opt as C^b. NaN where both exponents of the law are zero."""
    alpha, beta = np.asarray(parameters["alpha"]), np.asarray(parameters["beta"])
    with np.errstate(invalid="ignore", divide="ignore"):
        return beta / (alpha + beta), alpha / (alpha + beta)


def frontier(parameters: Mapping[str, np.ndarray | float], flops: np.ndarray | float) -> Frontier:
    """The frontier of one set of parameters, or of draws of shape (R, 1) against budgets of shape (C,)."""
    e, a, b, alpha, beta = (np.asarray(parameters[name]) for name in ("E", "A", "B", "alpha", "beta"))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        growth, _ = exponents(parameters)
        log_g = (np.log(alpha) + np.log(a) - np.log(beta) - np.log(b)) / (alpha + beta)
        log_product = np.log(np.asarray(flops, dtype=np.float64) / 6.0)
        log_params = log_g + growth * log_product
        log_tokens = log_product - log_params
        loss = e + a * np.exp(-alpha * log_params) + b * np.exp(-beta * log_tokens)
        return Frontier(np.exp(log_params), np.exp(log_tokens), loss)
