"""The broken neural scaling law of Caballero et al.: power laws that change slope at smooth breaks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Columns, Law, Parameter, positive, real

STARTS = 120  # for each break


def broken_power(*planted: float, column: str = "flops") -> Law:
    """y = a + b x^-c0 * product over i of (1 + (x / d_i)^(1 / f_i))^(-c_i f_i).

    Args:
      planted: a, b, c0, then c_i, d_i, f_i of each break.
    """
    breaks = len(planted) // 3 - 1

    def log_loss(p: Any, x: Any) -> Any:
        log_x = getattr(x, f"log_{column}")
        falling = p.log_b - p.c0 * log_x
        for i in range(1, breaks + 1):
            slope, place, width = getattr(p, f"c{i}"), getattr(p, f"log_d{i}"), getattr(p, f"f{i}")
            falling = falling - slope * width * jax.nn.softplus((log_x - place) / width)
        return jnp.logaddexp(p.log_a, falling)

    def starts(columns: Columns) -> np.ndarray:
        """Random breaks within the range of x, slopes around the overall one; the level is that of the table."""
        rng = np.random.default_rng(0)
        log_x, log_y = np.log(columns[column]), np.log(columns["loss"])
        overall = -float(np.polyfit(log_x, log_y, 1)[0])
        rows = []
        for _ in range(STARTS * breaks):
            places = np.sort(rng.uniform(log_x.min(), log_x.max(), breaks))
            changes = rng.normal(0.0, 2 * abs(overall) + 0.05, breaks)
            widths = rng.uniform(np.log(0.05), np.log(2.0), breaks)
            c0 = overall * rng.uniform(0.0, 2.0)
            floor = log_y.min() + np.log(rng.choice([1e-3, 0.2, 0.6, 0.9]))
            b = float(np.median(log_y)) + c0 * float(log_x.mean())
            shape = [value for triple in zip(changes, places, widths, strict=True) for value in triple]
            rows.append([floor, b, c0, *shape])
        return np.array(rows)

    broken: list[Parameter] = []
    for i in range(1, breaks + 1):
        width = positive(f"f{i}", lower=0.02, upper=10.0)
        broken += [real(f"c{i}", -10, 10), positive(f"d{i}", axis=column), width]
    parameters = (positive("a"), positive("b", slopes=((column, "c0", -1.0),)), real("c0", -5, 5), *broken)
    return Law(
        name=f"bnsl{breaks}",
        inputs=(column,),
        parameters=parameters,
        formula=log_loss,
        grid=starts,
        source="Caballero et al. 2022, arXiv 2210.14891, eq. 1",
        text=f"L = a + b x^-c0 prod_(i <= {breaks}) (1 + (x / d_i)^(1 / f_i))^(-c_i f_i), x = {column}",
        added="a",
        planted=dict(zip((parameter.name for parameter in parameters), planted, strict=True)),
    )


bnsl1 = broken_power(0.8, 40, 0.07, 0.2, 1e20, 0.3)
bnsl2 = broken_power(0.5, 30, 0.06, 0.25, 1e19, 0.2, -0.15, 1e21, 0.2)
bnsl3 = broken_power(0.4, 30, 0.06, 0.25, 3e18, 0.1, -0.2, 2e20, 0.1, 0.3, 6e21, 0.1)
