"""Gadre et al.: average top-1 error of downstream tasks falls exponentially to a floor as the loss falls."""

from typing import Any

import jax.numpy as jnp

from analysis.laws.base import Law, exponent, positive, real


def error(p: Any, x: Any) -> Any:
    return p.epsilon - jnp.exp(p.log_k - p.gamma * x.loss)


error_from_loss = Law(
    name="error_from_loss",
    inputs=("loss",),
    parameters=(real("epsilon", 0.0, 10.0), positive("k"), exponent("gamma", 1e-3, 50.0)),
    formula=error,
    grid={
        "epsilon": (0.7, 0.85, 1.0),
        "k": (-2.0, 0.0, 1.0, 3.0),
        "gamma": (0.1, 0.3, 0.7, 1.5, 3.0),
    },
    source="Gadre et al. 2024, arXiv 2403.08540, eq. 5",
    text="error = epsilon - k exp(-gamma loss)",
    planted={"epsilon": 0.857, "k": 2.2, "gamma": 0.71},
    target="error",
    logarithmic=False,
    logged=(),
)
