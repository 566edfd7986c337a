"""The loss on one corpus from the loss on another: a shifted power law.

Two models of a pair saw the same compute, trained on two corpora, or one model is evaluated on two. If both losses
follow a power of size above their floors, L_0 = E_0 + A_0 / N^a and L_1 = E_1 + A_1 / N^b, then kappa = b / a and
K = A_1 / A_0^kappa: a closed form that the tests use.

Brandfonbrener et al. take E_0 and E_1 from a law of each corpus (`--fix`), and fit K and kappa. Their table of runs
could not be read here: no number of the paper is checked.
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, exponent, positive, real

SMALLEST = 1e-6  # of a source loss above its floor: the logarithm of nothing is not asked for


def log_loss(p: Any, x: Any) -> Any:
    above = jnp.log(jnp.maximum(x.source_loss - p.E_0, SMALLEST))
    return jnp.logaddexp(p.log_E_1, p.log_K + p.kappa * above)


def starts(columns: Columns) -> np.ndarray:
    """Floors at shares of the lowest losses; K and kappa from a line through the logarithms of what is above them."""
    source, target = (np.asarray(columns[name], dtype=np.float64) for name in ("source_loss", "loss"))
    rows = []
    for below, share in itertools.product((0.05, 0.3, 1.0, 3.0), (0.02, 0.4, 0.8, 0.97)):
        floor = float(source.min() - below * np.ptp(source))
        added = share * float(target.min())
        slope, height = np.polyfit(np.log(source - floor), np.log(target - added), 1)
        rows.append([height, np.clip(slope, 0.05, 5.0), floor, np.log(added)])
    return np.array(rows)


loss_to_loss = Law(
    name="loss_to_loss",
    inputs=("source_loss",),
    parameters=(positive("K"), exponent("kappa", 1e-3, 20.0), real("E_0", -100.0, 100.0), positive("E_1")),
    formula=log_loss,
    grid=starts,
    source="Brandfonbrener et al. 2024, arXiv 2411.12925, eq. 1",
    text="L_1 = K (L_0 - E_0)^kappa + E_1, L_0 = source_loss",
    planted={"K": 0.9, "kappa": 1.15, "E_0": 1.4, "E_1": 1.1},
    logged=(),
    added="E_1",
)
