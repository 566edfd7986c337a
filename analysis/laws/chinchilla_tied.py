"""The law of Hoffmann et al. with one exponent for size and data: parameters and tokens should grow alike.

Four parameters in place of five: a narrow table identifies it where it does not identify `chinchilla`. Muennighoff et
al. (arXiv 2305.16264, section 3.1) tie the exponents so, and find 0.353 on C4.
"""

import numpy as np

from analysis.laws.base import Term, power_sum

chinchilla_tied = power_sum(
    name="chinchilla_tied",
    inputs=("params", "tokens"),
    terms=(
        Term("E"),
        Term("A", (("params", "alpha", -1.0),)),
        Term("B", (("tokens", "alpha", -1.0),)),
    ),
    grid={
        "E": np.arange(-1.0, 1.5, 0.5),
        "A": np.arange(0.0, 30.0, 5.0),
        "B": np.arange(0.0, 30.0, 5.0),
        "alpha": np.arange(0.1, 1.6, 0.3),
    },
    source="Hoffmann et al. 2022, arXiv 2203.15556, eq. 2, with alpha = beta as in Muennighoff et al. 2023, arXiv "
    "2305.16264",
    text="L = E + A / N^alpha + B / D^alpha",
    planted={"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353},
)
