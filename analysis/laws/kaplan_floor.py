"""The joint law of Kaplan et al. with an irreducible loss added: one bend for size and data together, above a floor.

With E = 0 it is `kaplan`. Henighan et al. (arXiv 2010.14701) add the same constant to the laws of one variable; no
published fit of the joint form with a floor was found, so that its published number is that of its limit: at E = 0 and
the parameters of Kaplan et al., table 2, it gives the loss of their equation 1.5.
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, exponent, positive
from analysis.laws.kaplan import log_loss as above_floor


def log_loss(p: Any, x: Any) -> Any:
    return jnp.logaddexp(p.log_E, above_floor(p, x))


def starts(columns: Columns) -> np.ndarray:
    """Exponents on a grid; the floor a share of the lowest loss; each term a given share of the typical rest."""
    log_params, log_tokens = np.log(columns["params"]).mean(), np.log(columns["tokens"]).mean()
    lowest, typical = float(np.min(columns["loss"])), float(np.median(columns["loss"]))
    rows = []
    for alpha_n, alpha_d, share, floor in itertools.product(
        (0.08, 0.2, 0.4, 0.8), (0.08, 0.2, 0.4, 0.8), (0.3, 0.7, 0.95), (1e-3, 0.4, 0.8)
    ):
        level = np.log(typical - floor * lowest)
        rows.append([
            np.log(floor * lowest),
            log_params + (level + np.log(share)) / alpha_n,
            log_tokens + (level + np.log1p(-share) * alpha_d) / alpha_d,
            alpha_n,
            alpha_d,
        ])  # fmt: skip
    return np.array(rows)


kaplan_floor = Law(
    name="kaplan_floor",
    inputs=("params", "tokens"),
    parameters=(
        positive("E"),
        positive("N_c", axis="params"),
        positive("D_c", axis="tokens"),
        exponent("alpha_N", 1e-3),
        exponent("alpha_D", 1e-3),
    ),
    formula=log_loss,
    grid=starts,
    source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5; floor as in Henighan et al. 2020, arXiv 2010.14701, eq. 1.1",
    text="L = E + ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    planted={"E": 1.7, "N_c": 6.0e7, "D_c": 1.5e9, "alpha_N": 0.33, "alpha_D": 0.3},
)
