"""The law of McLeish et al. in width and depth beside parameters and tokens."""

from analysis.laws.base import Term, power_sum, spread_starts

TERMS = (
    Term("E"),
    Term("A", (("width", "alpha", -1.0),)),
    Term("B", (("depth", "beta", -1.0),)),
    Term("C", (("params", "gamma", -1.0),)),
    Term("D", (("tokens", "zeta", -1.0),)),
)

width_depth = power_sum(
    name="width_depth",
    inputs=("width", "depth", "params", "tokens"),
    terms=TERMS,
    grid=spread_starts(TERMS, exponents=(0.2, 0.5, 1.0), shares=(0.1, 0.4, 0.7)),
    source="McLeish et al. 2025, arXiv 2502.06857, the form in width, depth, parameters and tokens",
    text="L = E + A / width^alpha + B / depth^beta + C / N^gamma + D / D^zeta",
    planted={
        "E": 1.5,
        "A": 8.0,
        "B": 3.0,
        "C": 300.0,
        "D": 900.0,
        "alpha": 0.6,
        "beta": 0.9,
        "gamma": 0.33,
        "zeta": 0.31,
    },
)
