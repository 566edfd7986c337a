"""The bilinear law of Clark et al. for routed networks (mixtures of experts): what experts add shrinks with size.

log10 L = a log10 N + b log10 E' + c log10 N log10 E' + d, where N counts the parameters that a token meets without
routing, and E' is the number of experts, which saturates: 1 / E' = 1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) +
1 / E_max. So E' is E_start for a dense network (E = 1) and E_max for infinitely many experts. Logarithms are to base
10, as the paper prints a, b, c and d.

`mixture_of_experts` is the same law for those who count active and total parameters (Clark et al., section 5.2, with
active parameters in place of FLOPs per token): their ratio takes the place of E.

Checked with the paper's own table (223 runs; 61 of them S-Base, k = 1, routing on every second layer): a -0.084,
b -0.123, c 0.0104, d 1.12, as others find on it. The paper prints another subset's (a -0.082, b -0.108, c 0.009), which
was not found: these are not called reproduced. E_start and E_max are badly identified.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, positive, real

LN10 = float(np.log(10.0))
SOURCE = "Clark et al. 2022, arXiv 2202.01169"


def log_saturated(experts: Any, start: Any, most: Any) -> Any:
    """log of E', from the number of experts (or the ratio of total to active parameters), E_start and E_max."""
    offset = 1.0 / (1.0 / start - 1.0 / most)
    return -jnp.log(1.0 / (experts - 1.0 + offset) + 1.0 / most)


def bilinear(size: str, experts: Callable[[Any], Any], start: str, most: str) -> Callable[[Any, Any], Any]:
    """The law's formula, for the column that is N and what takes the place of E."""

    def log_loss(p: Any, x: Any) -> Any:
        n = getattr(x, f"log_{size}") / LN10
        e = log_saturated(experts(x), getattr(p, start), getattr(p, most)) / LN10
        return LN10 * (p.a * n + p.b * e + p.c * n * e + p.d)

    return log_loss


def starts(size: str, experts: Callable[[Columns], np.ndarray]) -> Callable[[Columns], np.ndarray]:
    """a, b, c and d by linear least squares at each pair of E_start and E_max."""

    def rows(columns: Columns) -> np.ndarray:
        n = np.log10(columns[size])
        ratio = np.asarray(experts(columns), dtype=np.float64)
        found = []
        for start, factor in itertools.product((1.05, 1.5, 2.5, 5.0), (3.0, 30.0, 100.0, 1000.0)):
            e = np.asarray(log_saturated(ratio, start, start * factor), dtype=np.float64) / LN10
            design = np.stack([n, e, n * e, np.ones_like(n)], axis=1)
            solution = np.linalg.lstsq(design, np.log10(columns["loss"]), rcond=None)[0]
            found.append([*solution, np.log(start), np.log(start * factor)])
        return np.array(found)

    return rows


def law(name: str, inputs: tuple[str, str], ratio: Callable[..., Any], **others: Any) -> Law:
    start, most = ("E_start", "E_max") if name == "routed" else ("B_start", "B_max")
    size, count = inputs
    return Law(
        name=name,
        inputs=inputs,
        parameters=(
            real("a", -2.0, 1.0),
            real("b", -5.0, 5.0),
            real("c", -1.0, 1.0),
            real("d", -20.0, 20.0),
            positive(start, 1e-3, 1e3),
            positive(most, 1e-2, 1e9),
        ),
        formula=bilinear(
            size, lambda x: ratio(getattr(x, f"log_{size}"), getattr(x, f"log_{count}")), start, most
        ),
        grid=starts(size, lambda columns: np.asarray(ratio(np.log(columns[size]), np.log(columns[count])))),
        centred=False,
        **others,
    )


routed = law(
    "routed",
    ("params", "experts"),
    lambda log_params, log_experts: jnp.exp(log_experts),
    source=f"{SOURCE}, eqs. 7 and 8",
    text="log10 L = a log10 N + b log10 E' + c log10 N log10 E' + d, E' from E_start to E_max",
    planted={"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.85, "E_max": 314.0},
)
mixture_of_experts = law(
    "mixture_of_experts",
    ("active_params", "total_params"),
    lambda log_active, log_total: jnp.exp(log_total - log_active),
    source=f"{SOURCE}, section 5.2, with active parameters for FLOPs per token",
    text="log10 L = a log10 N + b log10 B' + c log10 N log10 B' + d, N active, B = total / N, B' from B_start to B_max",
    planted={"a": -0.08, "b": -0.15, "c": 0.014, "d": 1.08, "B_start": 1.6, "B_max": 60.0},
)
