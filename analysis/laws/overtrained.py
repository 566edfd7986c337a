"""The law of Gadre et al. for over-training: compute and tokens per parameter, with one exponent for both."""

import numpy as np

from analysis.laws.base import Columns, Term, power_sum, spread_starts

TERMS = (
    Term("E"),
    Term("a", (("compute", "eta", -1.0), ("tokens_per_param", "eta", 1.0))),
    Term("b", (("compute", "eta", -1.0), ("tokens_per_param", "eta", -1.0))),
)


def compute_of(columns: Columns) -> dict[str, np.ndarray]:
    """C = 6 N D with D = M N."""
    params = np.asarray(columns["params"], dtype=np.float64)
    return {"compute": 6.0 * params**2 * np.asarray(columns["tokens_per_param"], dtype=np.float64)}


overtrained = power_sum(
    name="overtrained",
    inputs=("params", "tokens_per_param"),
    terms=TERMS,
    grid=spread_starts(TERMS, exponents=(0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5), shares=(0.05, 0.2, 0.4, 0.7)),
    source="Gadre et al. 2024, arXiv 2403.08540, eq. 4",
    text="L = E + (a M^eta + b M^-eta) C^-eta, M = tokens per parameter, C = 6 N^2 M",
    planted={"E": 1.8, "a": 200.0, "b": 360.0, "eta": 0.137},
    prepare=compute_of,
)
