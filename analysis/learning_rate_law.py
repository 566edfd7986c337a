"""How the best learning rate and the best batch of a table's cells grow with size and data: lr = c N^a D^b."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.fit.fit import Fit, fit_law
from analysis.learning_rate_table import BATCH, RATE, RateCell
from core.errors import BadInput
from core.numbers import number

TOGETHER = 0.995  # correlation of log N and log D beyond which their exponents cannot be told apart


@dataclasses.dataclass(frozen=True)
class RateLaws:
    """Fits of what was tuned, by target (learning_rate, batch), and why there is none of another."""

    fits: Mapping[str, Fit]
    without: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The `laws` entry of learning_rate.json: what fit.json holds, without draws."""
        return {name: {**fit.to_json(), "draws": None} for name, fit in self.fits.items()}

    def sentences(self) -> list[str]:
        """Each law with its exponents' intervals, and why another could not be fitted."""
        lines = []
        for target, fit in self.fits.items():
            ends = ", ".join(
                f"{name} = {number(fit.parameters[name], 3)} [{number(fit.intervals[name][0], 3)}, "
                f"{number(fit.intervals[name][1], 3)}]"
                for name in fit.law.names
            )
            lines.append(f"best {target}: {fit.law.text}, {ends} ({fit.level:.0%} intervals, {fit.n} cells)")
            lines += [f"warning: {target}: {line}" for line in fit.warnings]
        return lines + [f"no law of the best {target}: {why}" for target, why in self.without.items()]

    def at(self, inputs: Mapping[str, float], level: float = 0.95) -> list[str]:
        """What each law says of a run to come.

        Raises:
          BadInput: an input of a law is missing.
        """
        lines = []
        for target, fit in self.fits.items():
            row = {name: np.array([value]) for name, value in inputs.items()}
            value = float(fit.predict(row)[0])
            low, high = (float(end[0]) for end in fit.predict_interval(row, level, noise=False))
            told = ", ".join(f"{name} {inputs[name]:.3g}" for name in inputs)
            lines.append(f"best {target} at {told}: {value:.3g} [{low:.3g}, {high:.3g}]")
        return lines


def laws_of_cells(cells: Sequence[RateCell], batch: str, seed: int = 0) -> RateLaws:
    """The law of the best rate, and of the best batch where that was tuned, through the cells inside their grids.

    Least squares of logarithms. N and D are both in a law where the cells tell them apart; where they move together, a
    law of C = 6 N D takes their place.

    Args:
      batch: the column that holds the batch, or "".
    """
    inside = [cell for cell in cells if cell.bracketed]
    fits: dict[str, Fit] = {}
    without: dict[str, str] = {}
    tuned = bool(inside) and all(batch in cell.tuned for cell in inside) and batch
    targets = {RATE: [cell.best for cell in inside]}
    if tuned:
        targets[BATCH] = [float(cell.tuned[batch]) for cell in inside]
    for target, values in targets.items():
        if target == BATCH and len(set(values)) < 2:
            continue
        if len(inside) < len(cells) and len(inside) < 3:
            without[target] = (
                f"{len(cells) - len(inside)} of {len(cells)} cells are best at the edge of their grid"
            )
            continue
        columns, name = _columns(inside, "" if tuned else batch, target)
        if not name:
            without[target] = "the cells are of one size and one number of tokens"
            continue
        try:
            fits[target] = fit_law(name, {**columns, target: np.array(values)}, robust="l2", seed=seed)
        except BadInput as error:
            without[target] = str(error)
    return RateLaws(fits, without)


def _columns(cells: Sequence[RateCell], batch: str, target: str) -> tuple[dict[str, np.ndarray], str]:
    """The columns that vary over cells, and the name of the law that reads them."""
    columns = {
        name: np.array([float(cell.shared[header]) for cell in cells])
        for name, header in (("params", "params"), ("tokens", "tokens"), ("batch", batch))
        if header and all(isinstance(cell.shared.get(header), float) for cell in cells)
    }
    varying = {name: values for name, values in columns.items() if np.unique(values).size > 1}
    if {"params", "tokens"} <= varying.keys():
        together = np.corrcoef(np.log(varying["params"]), np.log(varying["tokens"]))[0, 1]
        if abs(together) > TOGETHER:
            return {"flops": 6.0 * varying["params"] * varying["tokens"]}, f"{target}_flops"
        return varying, "learning_rate_batch" if target == RATE and "batch" in varying else target
    known = [name for name in ("params", "tokens") if name in varying]
    return ({known[0]: varying[known[0]]}, f"{target}_{known[0]}") if known else ({}, "")
