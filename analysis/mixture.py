"""The best mixture of two corpora at a larger size, forecast from smaller ones and put down before any run of it.

    python -m analysis.mixture runs/mixtures --params 1e6 --out best_mixture.json

Runs that differ in data.mixture, size and seed give log L = a(n) + b(n) w + c(n) w^2 with w the share of the first
corpus, n = log N and a, b, c straight in n: a parabola in the share whose place moves with size. (Loss is a smooth
function of shares, Ye et al. 2024, arXiv 2403.16952; the parabola is our choice.) Intervals: draws of the six
coefficients from their multivariate t distribution under least squares. The file has the time, the logs' SHA-256 and a
digest of itself.
"""

import dataclasses
import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands import digest_of, write_result
from analysis.logs.groups import CORPUS, groups_of, sentence
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run, at
from core import cli
from core.errors import BadInput
from core.numbers import number, short_count

COEFFICIENTS = 6
GRID = np.linspace(0.01, 0.99, 99)
PART = re.compile(r"(.+?)=(0?\.[0-9]{1,2})(?:,|$)")


@dataclasses.dataclass(frozen=True)
class MixtureFit:
    """Least squares of log loss: coefficients, their draws (R, 6), residual deviation, and the mean log size."""

    coefficients: np.ndarray
    draws: np.ndarray
    deviation: float
    centre: float
    freedom: int

    def log_loss(self, coefficients: np.ndarray, share: np.ndarray, params: float) -> np.ndarray:
        """(R, shares) for coefficients (R, 6)."""
        return coefficients @ _design(np.log(params) - self.centre, share).T


def share_of(mixture: str) -> tuple[str, str, float]:
    """Both corpora and the share of the first.

    Raises:
      BadInput: not two corpora.
    """
    parts = PART.findall(mixture)
    if len(parts) != 2:
        raise BadInput(f"data.mixture={mixture!r}: must be two corpora with their shares")
    (first, share), (second, _) = parts
    return first, second, float(share)


def fit_mixtures(
    share: np.ndarray, params: np.ndarray, loss: np.ndarray, draws: int = 2000, seed: int = 0
) -> MixtureFit:
    """Fit the parabola.

    Args:
      share, params, loss: (N,) each, one a run.

    Raises:
      BadInput: fewer than 3 shares or 2 sizes, or no more runs than coefficients.
    """
    if np.unique(share).size < 3 or np.unique(params).size < 2 or share.size <= COEFFICIENTS:
        raise BadInput(
            f"{share.size} runs of {np.unique(share).size} shares and {np.unique(params).size} sizes: a best share "
            f"that moves with size takes at least 3 shares, 2 sizes and {COEFFICIENTS + 1} runs"
        )
    centre = float(np.log(params).mean())
    design = _design(np.log(params) - centre, share)
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ np.log(loss)
    residual, freedom = np.log(loss) - design @ found, share.size - COEFFICIENTS
    deviation = float(np.sqrt(residual @ residual / freedom))
    generator = np.random.default_rng(seed)
    normal = generator.multivariate_normal(np.zeros(COEFFICIENTS), inverse, size=draws)
    scale = deviation * np.sqrt(freedom / generator.chisquare(freedom, size=(draws, 1)))
    return MixtureFit(found, found + normal * scale, deviation, centre, freedom)


def _design(log_params: Any, share: np.ndarray) -> np.ndarray:
    columns = [share**power for power in range(3)]
    return np.stack([*columns, *(log_params * column for column in columns)], axis=-1)


def best_share(fit: MixtureFit, params: float, level: float = 0.9) -> tuple[float, tuple[float, float]]:
    """Where the predicted loss is least between 0.01 and 0.99, and its interval."""
    places = GRID[np.argmin(fit.log_loss(fit.draws, GRID, params), axis=1)]
    point = GRID[np.argmin(fit.log_loss(fit.coefficients[None], GRID, params))]
    low, high = np.quantile(places, [(1 - level) / 2, (1 + level) / 2])
    return float(point), (float(low), float(high))


def predicted_loss(
    fit: MixtureFit, share: float, params: float, level: float = 0.9, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """The loss of one run at a share and size, and its interval, the noise of a run in it."""
    where = np.array([share])
    noise = fit.deviation * np.random.default_rng(seed).standard_t(fit.freedom, fit.draws.shape[0])
    low, high = np.quantile(
        fit.log_loss(fit.draws, where, params)[:, 0] + noise, [(1 - level) / 2, (1 + level) / 2]
    )
    return float(np.exp(fit.log_loss(fit.coefficients[None], where, params)[0, 0])), (
        float(np.exp(low)),
        float(np.exp(high)),
    )


def rows_of(
    sweep: SweepLogs, runs: Sequence[Run], metric: str = "val/loss"
) -> tuple[tuple[str, str], np.ndarray, np.ndarray, np.ndarray]:
    """Both corpora, and of every run the share of the first, its parameters and its final loss, (N,) each.

    Raises:
      BadInput: no mixtures of the same two corpora, another setting that differs, or a run without that loss.
    """
    groups = groups_of(runs, known=("data.mixture", CORPUS))
    if len(groups) > 1:
        raise BadInput(f"{sweep.path}: {sentence(groups)}; a best share takes runs that differ in nothing else")
    read = {(str(at(run.spec, "data", "mixture")), run.provenance.corpus) for run in runs}
    if len(read) > len({mixture for mixture, _ in read}):
        raise BadInput(f"{sweep.path}: runs of one data.mixture have read different text")
    rows: list[tuple[float, float, float]] = []
    names: set[tuple[str, str]] = set()
    for run in runs:
        first, second, own = share_of(str(at(run.spec, "data", "mixture") or ""))
        final = run.final(metric)
        if final is None or not final > 0:
            raise BadInput(f"{sweep.path}/{run.run}: has no positive {metric}")
        names.add((first, second))
        rows.append((own, float(run.count() or 0), final))
    if len(names) != 1:
        raise BadInput(f"{sweep.path}: must hold finished runs on mixtures of the same two corpora")
    share, size, loss = np.array(rows).T
    return names.pop(), share, size, loss


def forecast_mixture(
    sweep: SweepLogs, params: float, metric: str = "val/loss", level: float = 0.9
) -> dict[str, Any]:
    """What is put down.

    Raises:
      BadInput: runs do not differ in mixtures of the same two corpora, or one of that size is there already.
    """
    names, share, size, loss = rows_of(sweep, sweep.usable, metric)
    first, second = names
    if size.max() >= params:
        raise BadInput(
            f"--params {params:g}: the sweep has runs of {size.max():g} parameters; must be larger, so that the "
            "forecast is written before its runs"
        )
    fit = fit_mixtures(share, size, loss)
    point, interval = best_share(fit, params, level)
    warnings = []
    if not share.min() < point < share.max():
        warnings.append(
            f"the best share is not between the shares that were tried, {share.min():g} to {share.max():g}"
        )
    predictions = []
    for one in sorted({*share.tolist(), point}):
        value, ends = predicted_loss(fit, one, params, level)
        predictions.append({"share": one, "prediction": value, "interval": list(ends)})
    found: dict[str, Any] = {
        "first": first,
        "second": second,
        "metric": metric,
        "params": params,
        "level": level,
        "best_share": point,
        "interval": list(interval),
        "best_by_size": {short_count(n): best_share(fit, n, level)[0] for n in np.unique(size).tolist()},
        "predictions": predictions,
        "residual_sd": fit.deviation,
        "warnings": warnings,
        "input": {"path": str(sweep.path), "sha256": sweep.sha256, "rows": share.size},
        "date": datetime.datetime.now(datetime.UTC).isoformat(),
    }
    return {**found, "digest": digest_of(found)}


def command(
    sweep: Path,
    /,
    *,
    params: float,
    metric: str = "val/loss",
    level: float = 0.9,
    out: Path | None = None,
) -> None:
    """Forecast the best mixture of two corpora at a size that is not trained yet.

    Args:
      sweep: runs/<sweep>, whose runs differ in data.mixture
      params: of the larger model, without the embedding table and with the head
      metric: the final evaluation that is made small
      level: of the intervals
      out: where the forecast is put down, with its time
    """
    found = forecast_mixture(load_sweep(sweep), params, metric, level)
    low, high = found["interval"]
    lines = [f"  warning: {warning}" for warning in found["warnings"]]
    lines.append(
        f"best share of {found['first']} at {short_count(params)} parameters: {number(found['best_share'])} "
        f"[{number(low)}, {number(high)}], the rest {found['second']}"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    if out is not None:
        write_result(out, found)
        sys.stdout.write(f"written: {out}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.mixture")


if __name__ == "__main__":
    main()
