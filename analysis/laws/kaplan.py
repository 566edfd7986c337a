"""The joint law of Kaplan et al., which has no irreducible loss."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, exponent, positive


def log_loss(p: Any, x: Any) -> Any:
    return p.alpha_D * jnp.logaddexp(
        p.alpha_N / p.alpha_D * (p.log_N_c - x.log_params), p.log_D_c - x.log_tokens
    )


def starts(columns: Columns) -> np.ndarray:
    """Exponents on a grid; characteristic sizes so that each term alone is a given share of the typical loss."""
    log_params, log_tokens = np.log(columns["params"]).mean(), np.log(columns["tokens"]).mean()
    level = float(np.log(np.median(columns["loss"])))
    grid = itertools.product((0.03, 0.08, 0.15, 0.3, 0.6), (0.03, 0.08, 0.15, 0.3, 0.6), (0.3, 0.7, 0.95))
    return np.array(
        [
            [
                log_params + (level + np.log(share)) / alpha_n,
                log_tokens + (level + np.log1p(-share) * alpha_d) / alpha_d,
                alpha_n,
                alpha_d,
            ]
            for alpha_n, alpha_d, share in grid
        ]
    )


kaplan = Law(
    name="kaplan",
    inputs=("params", "tokens"),
    parameters=(
        positive("N_c", axis="params"),
        positive("D_c", axis="tokens"),
        exponent("alpha_N", 1e-3),
        exponent("alpha_D", 1e-3),
    ),
    formula=log_loss,
    grid=starts,
    source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
    text="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    planted={"N_c": 8.8e13, "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    compare=True,
)
