"""How far runs land from a law here: the residuals of sweeps that are finished, before a new one promises anything.

What a law does not describe is in them, as it will be in those of the next sweep.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.optimize import minimize, nnls

from analysis.logs.load import SweepLogs, load_sweep
from core.errors import BadInput

# Standard deviation of log loss about the law where no sweep is at hand. The mean absolute residual of the Epoch table
# is 0.0047 (docs/results/published_fits.md); the residuals of quickstart, one seed of small models, are 0.014.
ASSUMED = (0.005, 0.02)
FEWEST_RUNS = 8  # of a sweep whose residuals say something about five parameters
FEWEST_SIZES = 3
MOST_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviation of log loss: one number, or from `low` to `high`; `source` says where from."""

    low: float
    high: float
    source: str


def noise_here(runs: Path, corpus: str) -> Noise:
    """Of the sweeps in `runs`: those on the same corpus, else those on others, else a range that is assumed."""
    found = list(_residuals(runs))
    same = [one for one in found if one[1] == corpus]
    chosen = same or found
    if not chosen:
        return Noise(*ASSUMED, source="assumed, since no finished sweep here has residuals")
    values = [residual for _, _, residual in chosen]
    names = ", ".join(name for name, *_ in chosen[:MOST_NAMED]) + (", ..." if len(chosen) > MOST_NAMED else "")
    if same:
        typical = float(np.median(values))
        return Noise(typical, typical, f"the residuals of {names}, on the same corpus")
    return Noise(min(values), max(values), f"the residuals of {names}, on other text")


def _residuals(runs: Path) -> Iterator[tuple[str, str, float]]:
    """Name, corpus and residual of every sweep that has enough finished runs."""
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else ():
        try:
            sweep = load_sweep(folder)
            columns = sweep.table().columns
        except (BadInput, OSError):
            continue  # no sweep, or too few runs
        sizes = (np.unique(columns[name]).size for name in ("params", "tokens"))
        if columns["loss"].size >= FEWEST_RUNS and min(sizes) >= FEWEST_SIZES:
            yield folder.name, _corpus(sweep), max(residual_sd(columns), 1e-4)


def _corpus(sweep: SweepLogs) -> str:
    data = sweep.groups[0].runs[0].spec.get("data")
    return str(data.get("corpus")) if isinstance(data, Mapping) else ""


def residual_sd(columns: Mapping[str, np.ndarray]) -> float:
    """Standard deviation of relative residuals about L = E + A / N^alpha + B / D^beta, by least squares.

    For given exponents the rest is linear and not negative, so that only two numbers are searched.
    """
    params, tokens, loss = (np.asarray(columns[name], dtype=float) for name in ("params", "tokens", "loss"))
    n, d = params / np.exp(np.log(params).mean()), tokens / np.exp(np.log(tokens).mean())

    def rest(exponents: np.ndarray) -> float:
        alpha, beta = np.clip(exponents, 0.0, 5.0)
        design = np.stack([np.ones(n.size), n**-alpha, d**-beta], axis=1) / loss[:, None]
        return float(nnls(design, np.ones(n.size))[1])

    start = min(itertools.product((0.1, 0.3, 0.5, 0.8, 1.3), repeat=2), key=lambda one: rest(np.array(one)))
    best = minimize(rest, np.array(start), method="Nelder-Mead", options={"maxiter": 200})
    return float(best.fun) / np.sqrt(max(loss.size - 5, 1))
