"""Rows that are not independent: the checkpoints of one run share its luck.

With few runs a sandwich of their scores is far too small. What one run does to the fit is measured instead: each is
left out, the law is fitted again, and the spread of these fits is the error (the cluster jackknife, CV3 of MacKinnon,
Nielsen and Webb 2023, arXiv 2205.03288), with Student's quantile at one degree less than there are runs. How often such
intervals hold the truth: `python -m bench.calibrate_clusters`.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis.fit.estimation import Estimation
from analysis.fit.solver import solve
from analysis.fit.uncertainty import EXTRA_STARTS, Sandwich, better

INDEPENDENT = "none"  # what --cluster takes for rows that are independent although a column run repeats
RUN = "run"
MOST_LEFT_OUT = 200  # clusters up to which each is left out; a sandwich of so many scores is right
FEWEST = 4
FLIPS = 999
LEAST_ROWS = 3  # of one size, in a row of token counts
CORRELATED = 0.01  # p-value of the test below which a warning is given
WINSOR = 3.0
CORRELATED_RESIDUALS = "residuals within one size are correlated"


def clusters_of(
    columns: Mapping[str, np.ndarray], cluster: str | np.ndarray | None
) -> tuple[str | np.ndarray | None, list[str]]:
    """What rows are clustered by, and a line on it where that was not asked for.

    By default that is the column `run` where its labels repeat, each with one size. An empty label is no run.
    """
    if isinstance(cluster, str) and cluster == INDEPENDENT:
        return None, []
    if cluster is not None or RUN not in columns:
        return cluster, []
    labels = np.asarray(columns[RUN]).astype(str)
    alone = labels == ""
    labels = np.where(alone, np.char.add("\0", np.arange(labels.size).astype(str)), labels)
    names, counts = np.unique(labels, return_counts=True)
    if counts.max() <= 1:
        return None, []
    if "params" in columns and _sizes(labels, np.asarray(columns["params"])) > names.size:
        line = "labels of run stand for several sizes each: rows are taken as independent"
        return None, [f"{line}; --cluster {RUN} takes those of a label together"]
    if names.size < FEWEST:
        runs = f"{names.size} run{'s' * (names.size > 1)}"
        return None, [
            f"up to {counts.max()} rows share a run and its luck, and {runs} are too few to take errors from: "
            "intervals are those of independent rows, and too narrow"
        ]
    line = (
        f"up to {counts.max()} rows share a run: they are not independent, and errors are those of {names.size} runs "
        f"(--cluster {INDEPENDENT} takes rows as independent)"
    )
    return labels, [line]


def _sizes(labels: np.ndarray, params: np.ndarray) -> int:
    """How many different (label, size) there are."""
    return len(set(zip(labels.tolist(), params.tolist(), strict=True)))


def left_out(estimation: Estimation, minima: np.ndarray, labels: np.ndarray, spread: Sandwich) -> Sandwich:
    """The covariance by leaving out one cluster after the other; `spread` where there are too many or too few.

    Args:
      minima: centred minima of the full table, best first, (M, P).
      spread: the sandwich of the clusters' scores.
    """
    _, cluster = np.unique(labels, return_inverse=True)
    count = int(cluster.max()) + 1
    if count > MOST_LEFT_OUT:
        return replace(spread, degrees=count - 1)
    if count < FEWEST:
        return replace(spread, covariance=np.full_like(spread.covariance, np.nan), degrees=count - 1)
    kept_GR = (cluster[None, :] != np.arange(count)[:, None]).astype(np.float64)
    tables = replace(estimation.problem, weights=kept_GR * estimation.problem.weights)
    best = solve(tables, np.tile(minima[0], (count, 1)), estimation.box)
    if estimation.objective.robust != "l2":
        best = better(best, solve(tables, np.tile(minima[0], (count, 1)), estimation.box, anneal=False))
    for other in minima[1 : 1 + EXTRA_STARTS]:
        best = better(best, solve(tables, np.tile(other, (count, 1)), estimation.box, anneal=False))
    moved = best.point - minima[0]
    covariance = (count - 1) / count * moved.T @ moved
    unknown = ~np.isfinite(np.diag(spread.covariance))
    covariance[unknown], covariance[:, unknown] = np.nan, np.nan
    return replace(spread, covariance=covariance, degrees=count - 1)


def few_clusters(labels: np.ndarray, free: int) -> list[str]:
    """A warning where there are hardly more clusters than parameters."""
    count = np.unique(labels).size
    if count < FEWEST:
        return [f"{count} clusters are too few for errors: at least {FEWEST} are needed"]
    if count <= free + 1:
        return [f"{count} clusters for {free} free parameters: intervals rest on few of them"]
    return []


def correlation_warning(columns: Mapping[str, np.ndarray], residuals: np.ndarray, seed: int) -> list[str]:
    """A warning where the residuals of one size are alike from one token count to the next.

    The statistic is the sum of products of neighbours; under independence the signs of residuals are random, whatever
    their sizes are, and flipping them gives its distribution. A fit leaves residuals that lean to the other side, so
    false alarms are rarer than `CORRELATED`.
    """
    if not {"params", "tokens"} <= columns.keys():
        return []
    params, tokens = (np.asarray(columns[name], float) for name in ("params", "tokens"))
    order = np.lexsort((tokens, params))
    size, count = params[order], tokens[order]
    spread = np.median(np.abs(residuals)) * 1.4826
    if not spread > 0:
        return []
    value = np.clip(residuals[order], -WINSOR * spread, WINSOR * spread)
    _, index, rows = np.unique(size, return_inverse=True, return_counts=True)
    next_to = np.flatnonzero(
        (size[1:] == size[:-1]) & (count[1:] > count[:-1]) & (rows[index][1:] >= LEAST_ROWS)
    )
    if next_to.size < 2 * LEAST_ROWS:
        return []
    products = value[next_to] * value[next_to + 1]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, value.size))
    flipped = (signs[:, next_to] * signs[:, next_to + 1]) @ products
    p = (1 + int((flipped >= products.sum()).sum())) / (FLIPS + 1)
    if p > CORRELATED:
        return []
    correlation = products.sum() / np.sqrt((value[next_to] ** 2).sum() * (value[next_to + 1] ** 2).sum())
    return [
        f"{CORRELATED_RESIDUALS} ({correlation:+.2f} from one token count to the next, p = {p:.2g}): "
        "rows may be checkpoints of one run, or the law misses a shape, and intervals are too narrow; a column run, or "
        "--cluster params, takes the rows of a size together"
    ]
