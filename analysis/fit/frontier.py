"""The compute-optimal frontier of a Chinchilla fit, in closed form, under C = 6 N D.

Hoffmann et al. 2022, arXiv 2203.15556, eq. 4: N_opt = G (C/6)^a, D_opt = (C/6)^b / G with a = beta / (alpha + beta),
b = alpha / (alpha + beta), G = (alpha A / (beta B))^(1 / (alpha + beta)).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.quantiles import finite_quantiles

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


def compute_optimal(
    parameters: Mapping[str, float], draws: np.ndarray | None, tails: tuple[float, float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """a_opt, b_opt and tokens_per_param_at of a Chinchilla fit, and their intervals; empty for any other law.

    Args:
      parameters: natural values by name; `draws` of shape (R, P) in the same order.
      tails: percentiles of the draws that are the ends.
    """
    if set(parameters) != {"E", "A", "B", "alpha", "beta"}:
        return {}, {}
    flops = np.array(FRONTIER_FLOPS)

    def numbers(values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        optimum = frontier(values, flops)
        a, b = exponents(values)
        return a, b, optimum.tokens / optimum.params

    def laid_out(a: Any, b: Any, ratio: Any) -> dict[str, Any]:
        return {
            "a_opt": a,
            "b_opt": b,
            "tokens_per_param_at": {f"{budget:.3g}": value for budget, value in zip(flops, ratio, strict=True)},
        }

    a, b, ratio = numbers(parameters)
    derived = laid_out(float(a), float(b), ratio.tolist())
    if draws is None:
        return derived, {}
    drawn = numbers({name: draws[:, [position]] for position, name in enumerate(parameters)})
    ends = [finite_quantiles(np.clip(values, -1e300, 1e300), tails) for values in drawn]
    return derived, laid_out(ends[0][:, 0].tolist(), ends[1][:, 0].tolist(), ends[2].T.tolist())
