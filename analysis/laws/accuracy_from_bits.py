"""Bhagia et al., step 2: task accuracy is a falling sigmoid of the bits per byte of the right answer."""

from typing import Any

import jax

from analysis.laws.base import Law, real


def accuracy(p: Any, x: Any) -> Any:
    return p.a * jax.nn.sigmoid(p.k * (x.bits_per_byte - p.x0)) + p.b


accuracy_from_bits = Law(
    name="accuracy_from_bits",
    inputs=("bits_per_byte",),
    parameters=(real("a", -1.0, 0.0), real("x0", 0.0, 1e3), real("k", 0.0, 1e3), real("b", 0.0, 1.0)),
    formula=accuracy,
    grid={"a": (-0.3, -0.75), "x0": (0.4, 0.7, 0.9, 1.2, 1.8), "k": (1.0, 3.0, 6.0, 12.0), "b": (0.8, 1.0)},
    source="Bhagia et al. 2024, arXiv 2412.04403, eq. 3, with the bounds of its published fits",
    text="accuracy = a / (1 + exp(-k (bits_per_byte - x0))) + b",
    planted={"a": -0.73, "x0": 0.77, "k": 6.0, "b": 0.99},
    target="accuracy",
    logarithmic=False,
    logged=(),
)
