"""The forecast of held-back runs that differ in data.mixture: the parabola of analysis/mixture.py on the small runs."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.forecast.predict import UNIDENTIFIED
from analysis.logs.load import SweepLogs
from analysis.mixture import best_share, fit_mixtures, predicted_loss, rows_of, share_of
from core.errors import BadInput
from core.records import HeldBackRun

LAW = "mixture"


def differ_in_mixture(held: Sequence[HeldBackRun]) -> bool:
    """Whether the question about these runs is which mixture is best."""
    return len({run.get("mixture", "") for run in held}) > 1


def forecast_of_mixtures(
    sweep: SweepLogs, held: Sequence[HeldBackRun], level: float
) -> tuple[dict[str, Any], str, Mapping[str, Any]]:
    """What is put down: the entries of forecast.json about law and runs, the table as CSV, and the content of fit.json.

    The first run is the one nearest to the best share: it is the one that is scored.

    Raises:
      BadInput: held-back runs of several sizes or of other corpora, or small runs that cannot be fitted.
    """
    names = {run["run"] for run in held}
    small = [run for run in sweep.usable if run.run not in names]
    corpora, share, params, loss = rows_of(sweep, small)
    sizes = {run["params"] for run in held}
    if len(sizes) > 1:
        raise BadInput(f"{sweep.path}: held-back runs have {len(sizes)} sizes; a best share is forecast at one")
    size = sizes.pop()
    fit = fit_mixtures(share, params, loss)
    best, (low, high) = best_share(fit, size, level)
    runs: list[dict[str, Any]] = []
    for run in held:
        *own, its = share_of(run.get("mixture", ""))
        if tuple(own) != corpora:
            raise BadInput(f"{sweep.path}: {run['run']} mixes {' and '.join(own)}, not {' and '.join(corpora)}")
        value, interval = predicted_loss(fit, its, size, level)
        runs.append({
            "run": run["run"], "params": size, "tokens": run["tokens"], "share": its, "level": level,
            "prediction": value, "interval": list(interval),
        })  # fmt: skip
    first = min(runs, key=lambda run: abs(run["share"] - best))
    found = {
        "law": LAW,
        "level": level,
        "corpora": list(corpora),
        "best_share": best,
        "best_share_interval": [low, high],
        "warnings": [] if share.min() < best < share.max() else [
            f"{UNIDENTIFIED}: the best share at {size:g} parameters is not between the shares that were tried, "
            f"{share.min():g} to {share.max():g}"
        ],
        **{key: first[key] for key in ("run", "params", "tokens", "prediction", "interval")},
        "runs": runs,
    }  # fmt: skip
    lines = ["run,share,params,loss"]
    lines += [
        f"{run.run},{one!r},{two!r},{three!r}"
        for run, one, two, three in zip(small, share.tolist(), params.tolist(), loss.tolist(), strict=True)
    ]
    content = {
        "law": LAW,
        "formula": "log loss = (1, w, w^2, n, n w, n w^2) . coefficients, w the share, n = log params - centre",
        "coefficients": fit.coefficients.tolist(),
        "centre": fit.centre,
        "residual_sd": fit.deviation,
        "date": datetime.datetime.now(datetime.UTC).isoformat(),
        "best_share_by_size": {
            f"{one:g}": best_share(fit, one, level)[0] for one in np.unique(params).tolist()
        },
    }
    return found, "\n".join(lines) + "\n", content


def lines_of(value: Mapping[str, Any]) -> list[str]:
    """The best share, in words."""
    low, high = value["best_share_interval"]
    return [
        f"  best share of {value['corpora'][0]} at {value['params']:,} parameters: {value['best_share']:.2f}, "
        f"{value['level']:.0%} interval {low:.2f} to {high:.2f}, the rest {value['corpora'][1]}"
    ]
