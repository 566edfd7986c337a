"""Back-test: the runs with the most FLOPs, predicted from the others."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.figures.predictions import Prediction, prediction_figure
from analysis.fit.back_test import back_test, near
from analysis.fit.fit import Fit
from analysis.isoflop.slices import flops_of
from analysis.report.section import Paragraph, Picture, Section
from analysis.report.study import Study, attempt
from core.errors import BadInput
from core.numbers import percent, short_count

ORDER = 80
OF_EQUAL_SETTINGS = True
BACKTEST = Picture("backtest", "The runs with the most FLOPs, predicted from the others.")

LEVEL = 0.9
SHARE = 0.25  # of the runs are predicted from the others
MOST_SHOWN = 12


def section(study: Study) -> Section | None:
    """How well the law does beyond what it was fitted to, where there is a law."""
    if study.headline is None:
        return None
    title = "Back-test"
    predictions, why = attempt(_predictions, study.headline, study.comparable, study)
    if not predictions:
        return Section(title, (Paragraph(f"None: {why}."),), warnings=(f"no back-test: {why}",))
    shown = predictions[-MOST_SHOWN:]
    figure = BACKTEST.by(lambda: prediction_figure(shown, title, LEVEL))
    return Section(title, (figure,), said=(_sentence(predictions),))


def _predictions(fit: Fit, columns: Mapping[str, np.ndarray], study: Study) -> list[Prediction]:
    """By increasing FLOPs, with the noise of a run in the interval."""
    (test,) = back_test(
        fit.law, columns, (1 - SHARE,), LEVEL, seed=study.seed, starts=near(fit), cluster=study.clusters
    )
    if not np.isfinite([test.low, test.high, test.predicted]).all():
        raise BadInput("the smaller runs alone do not determine an interval")
    held = np.flatnonzero(flops_of(columns) > test.cutoff)
    order = np.argsort(test.flops, kind="stable")
    return [
        Prediction(
            label=f"{short_count(columns['params'][held[row]])} parameters, "
            f"{short_count(columns['tokens'][held[row]])} tokens",
            predicted=float(test.predicted[row]),
            low=float(test.low[row]),
            high=float(test.high[row]),
            measured=float(test.actual[row]),
        )
        for row in order.tolist()
    ]


def _sentence(predictions: Sequence[Prediction]) -> str:
    hits = sum(one.inside for one in predictions)
    worst = max(abs(one.measured / one.predicted - 1) for one in predictions)
    return (
        f"Back-test: of the {len(predictions)} runs with the most FLOPs, predicted from the others alone, "
        f"{hits} fall inside their {LEVEL:.0%} interval; the largest error is {percent(worst)}."
    )
