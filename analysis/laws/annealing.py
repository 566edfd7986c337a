"""A loss curve from its learning-rate schedule: how much was learned, and how far the rate has come down.

S1 is the sum of learning rates up to a step. S2 is the sum of how far the rate has fallen, each fall with a memory that
fades: S2(s) = sum over i <= s of m(i), m(i) = lambda m(i - 1) + lr(i - 1) - lr(i). `python -m analysis.annealing` finds
both from the curves of finished runs (analysis/schedules.py has the sums), and predicts the curve of another schedule.

The authors' own example, 40 losses of a cosine and a constant schedule of 20,000 steps, is a test: R2 above 0.9995.
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, exponent, positive

SMALLEST = 1e-9  # nats: a start that would predict less than nothing still has a logarithm


def log_loss(p: Any, x: Any) -> Any:
    falling = jnp.logaddexp(p.log_L_0, p.log_A - p.alpha * x.log_lr_sum)
    return jnp.log(jnp.maximum(jnp.exp(falling) - p.C * x.lr_fallen, SMALLEST))


def starts(columns: Columns) -> np.ndarray:
    """alpha and a share of the floor on a grid; A and C by least squares on the rest."""
    loss = np.asarray(columns["loss"], dtype=np.float64)
    fallen, log_sum = np.asarray(columns["lr_fallen"], float), np.log(columns["lr_sum"])
    rows = []
    for alpha, share in itertools.product((0.15, 0.3, 0.5, 0.8, 1.2), (0.3, 0.7, 0.9, 0.97)):
        floor = share * float(loss.min())
        design = np.stack([np.exp(-alpha * log_sum), -fallen], axis=1)
        a, c = np.linalg.lstsq(design, loss - floor, rcond=None)[0]
        rows.append([np.log(floor), np.log(max(a, 1e-6)), alpha, np.log(max(c, 1e-3))])
    return np.array(rows)


annealing = Law(
    name="annealing",
    inputs=("lr_sum", "lr_fallen"),
    parameters=(
        positive("L_0"),
        positive("A", slopes=(("lr_sum", "alpha", -1.0),)),
        exponent("alpha", 1e-3),
        positive("C"),
    ),
    formula=log_loss,
    grid=starts,
    source="Tissue et al. 2024, arXiv 2408.11029, eq. 1",
    text="L = L_0 + A / S1^alpha - C S2, S1 = lr_sum, S2 = lr_fallen",
    planted={"L_0": 2.6, "A": 0.43, "alpha": 0.55, "C": 0.41},
    logged=("lr_sum",),
    added="L_0",
)
