"""The law of Muennighoff et al. for repeated data: excess epochs and excess parameters lose their worth exponentially.

Fixing E, A, B, alpha and beta (`--fix`) fits R_D and R_N alone, as the paper does after its chinchilla fit.
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, exponent, positive


def log_loss(p: Any, x: Any) -> Any:
    # parameters that the unique tokens would deserve: D_opt(C) = U_D solved for N_opt(C), C eliminated
    log_growth = (jnp.log(p.alpha) + p.log_A - jnp.log(p.beta) - p.log_B) / (p.alpha + p.beta)
    log_deserved = log_growth + p.beta / p.alpha * (x.log_unique_tokens + log_growth)
    log_unique_params = jnp.minimum(x.log_params, log_deserved)
    log_params = effective(log_unique_params, x.log_params, p.log_R_N)
    log_tokens = effective(x.log_unique_tokens, x.log_tokens, p.log_R_D)
    size_and_data = jnp.logaddexp(p.log_A - p.alpha * log_params, p.log_B - p.beta * log_tokens)
    return jnp.logaddexp(p.log_E, size_and_data)


def effective(log_unique: Any, log_total: Any, log_half: Any) -> Any:
    """log of U + U R* (1 - exp(-R / R*)), with R = total / unique - 1 repetitions (none below zero)."""
    repetitions = jnp.expm1(jnp.maximum(log_total - log_unique, 0.0))
    half = jnp.exp(log_half)
    return log_unique + jnp.log1p(-half * jnp.expm1(-repetitions / half))


def starts(columns: Columns) -> np.ndarray:
    log_params, log_tokens = np.log(columns["params"]).mean(), np.log(columns["tokens"]).mean()
    level = float(np.log(np.median(columns["loss"])))
    rates = np.log([0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e4])
    grid = itertools.product((0.2, 0.35, 0.6), rates, rates)
    third = level + np.log(0.3)
    return np.array(
        [
            [third, third + power * log_params, third + power * log_tokens, power, power, r_d, r_n]
            for power, r_d, r_n in grid
        ]
    )


data_constrained = Law(
    name="data_constrained",
    inputs=("params", "tokens", "unique_tokens"),
    parameters=(
        positive("E"),
        positive("A"),
        positive("B"),
        exponent("alpha", 1e-3),
        exponent("beta", 1e-3),
        positive("R_D", lower=1e-4, upper=1e12),
        positive("R_N", lower=1e-4, upper=1e12),
    ),
    formula=log_loss,
    grid=starts,
    source="Muennighoff et al. 2023, arXiv 2305.16264, eqs. 5 and 6",
    text="L = E + A / N'^alpha + B / D'^beta, X' = U + U R* (1 - exp(-R / R*))",
    planted={"E": 1.87, "A": 520.0, "B": 1480.0, "alpha": 0.35, "beta": 0.36, "R_D": 15.4, "R_N": 5.3},
    centred=False,
)
