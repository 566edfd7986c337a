"""The law of Hoffmann et al.: an irreducible loss, a term in size and a term in data."""

import numpy as np

from analysis.laws.base import Term, power_sum

chinchilla = power_sum(
    name="chinchilla",
    inputs=("params", "tokens"),
    terms=(
        Term("E"),
        Term("A", (("params", "alpha", -1.0),)),
        Term("B", (("tokens", "beta", -1.0),)),
    ),
    # Hoffmann et al. 2022, appendix D.2: 4,500 starting points
    grid={
        "E": np.arange(-1.0, 1.5, 0.5),
        "A": np.arange(0.0, 30.0, 5.0),
        "B": np.arange(0.0, 30.0, 5.0),
        "alpha": np.arange(0.0, 2.5, 0.5),
        "beta": np.arange(0.0, 2.5, 0.5),
    },
    source="Hoffmann et al. 2022, arXiv 2203.15556, eq. 2; starting grid of its appendix D.2",
    text="L = E + A / N^alpha + B / D^beta",
    planted={"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
    compare=True,
)
