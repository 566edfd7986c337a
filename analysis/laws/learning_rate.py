"""How the best learning rate and the best batch move with size and data: products of powers.

The table has one row for each cell of size and data, with the rate or batch that is best there.
`python -m analysis.learning_rate TABLE` finds these rows in a table of runs and fits these laws to them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.laws.base import Columns, Law, positive, real

STEP_LAW = "Li et al. 2025 (Step Law), arXiv 2503.04715, eq. 1"
DEEPSEEK = "Bi et al. 2024 (DeepSeek), arXiv 2401.02954, eq. 1"


SYMBOLS = {"params": "N", "tokens": "D", "flops": "C", "batch": "B"}


def product_of_powers(
    name: str, target: str, powers: Mapping[str, str], planted: Sequence[float], source: str
) -> Law:
    """target = c * product of column^exponent.

    Args:
      powers: the exponent's name of each column.
      planted: c, then the exponents.
    """

    def logarithm(p: Any, x: Any) -> Any:
        return p.log_c + sum(
            getattr(p, power) * getattr(x, f"log_{column}") for column, power in powers.items()
        )

    def starts(columns: Columns) -> np.ndarray:
        """The law is linear in its internal parameters: one start is enough, and the others are a check."""
        means = [float(np.log(columns[column]).mean()) for column in powers]
        level = float(np.log(columns[target]).mean())
        slopes = [np.full(len(powers), slope) for slope in (-0.5, 0.0, 0.5)]
        return np.array([[level - float(slope @ means), *slope] for slope in slopes])

    shown = " ".join(f"{SYMBOLS[column]}^{power}" for column, power in powers.items())
    return Law(
        name=name,
        inputs=tuple(powers),
        parameters=(
            positive("c", slopes=[(column, power, 1.0) for column, power in powers.items()]),
            *(real(power, -5.0, 5.0) for power in powers.values()),
        ),
        formula=logarithm,
        grid=starts,
        source=source,
        text=f"{target.replace('_', ' ')} = c {shown}",
        planted=dict(zip(("c", *powers.values()), planted, strict=True)),
        target=target,
    )


RATE, BATCH = "learning_rate", "batch"
N, D = {"params": "a"}, {"tokens": "b"}

learning_rate = product_of_powers(RATE, RATE, N | D, (1.79, -0.713, 0.307), STEP_LAW)
learning_rate_batch = product_of_powers(
    "learning_rate_batch",
    RATE,
    N | D | {"batch": "g"},
    (0.5, -0.5, 0.1, 0.4),
    f"{STEP_LAW}, with the batch beside size and data; McCandlish et al. 2018, arXiv 1812.06162, on rate and batch",
)
learning_rate_params = product_of_powers("learning_rate_params", RATE, N, (2.0, -0.4), STEP_LAW)
learning_rate_tokens = product_of_powers("learning_rate_tokens", RATE, D, (2.0, -0.3), STEP_LAW)
learning_rate_flops = product_of_powers("learning_rate_flops", RATE, {"flops": "a"}, (0.3118, -0.125), DEEPSEEK)
batch = product_of_powers(BATCH, BATCH, N | D, (0.58, 0.02, 0.571), STEP_LAW)
batch_params = product_of_powers("batch_params", BATCH, N, (3.0, 0.6), STEP_LAW)
batch_tokens = product_of_powers("batch_tokens", BATCH, D, (0.58, 0.571), STEP_LAW)
batch_flops = product_of_powers("batch_flops", BATCH, {"flops": "a"}, (0.292, 0.3271), DEEPSEEK)
