"""The figures of a report, drawn from a study."""

from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.curves import loss_curves, training_paths
from analysis.figures.frontier import frontier_figure
from analysis.figures.isoflop import isoflop_slices
from analysis.figures.parameters import sensitivity_figure
from analysis.figures.predictions import prediction_figure
from analysis.figures.residuals import residual_figure
from analysis.figures.style import LOSS_LABEL, render
from analysis.report.document import Picture
from analysis.report.study import BACKTEST_LEVEL, BACKTEST_SHOWN, Study, six_n_d


def pictures(study: Study) -> dict[str, Picture]:
    """Every figure that the study has the data for, by name."""
    every = [
        *_drawings(study),
        *((d.name, d.caption, d.draw) for part in study.sections for d in part.drawings),
    ]
    return {name: Picture(name, caption, *render(draw(), name, study.source)) for name, caption, draw in every}


def _drawings(study: Study) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    evaluations = [(path.params, path.tokens, path.loss) for path in study.evaluations]
    training = [(path.params, path.tokens, path.loss) for path in study.training]
    table, fit, registered = study.table, study.fit, study.registered
    if registered is not None and registered.predictions:
        title = "Forecast" if registered.honest else "Not a valid forecast"
        yield (
            "forecast",
            "The held-back runs beside what was written about them before they started.",
            lambda: prediction_figure(registered.predictions, title, registered.level),
        )
    if table is not None:
        columns, predict = table.columns, None if fit is None else fit.predict
        known = set(np.unique(columns["params"]))
        paths = [path for path in evaluations if path[0] in known]
        yield (
            "loss_tokens",
            "Validation loss of finished runs against training tokens, one colour a model size.",
            lambda: loss_curves(columns, "tokens", predict, paths),
        )
        yield (
            "loss_params",
            "Validation loss of finished runs against parameters, one colour a number of training tokens.",
            lambda: loss_curves(columns, "params", predict),
        )
    elif evaluations:
        yield (
            "evaluations",
            "Validation loss along training of every run, as far as it has come.",
            lambda: training_paths(
                evaluations,
                "Held-out loss along training",
                "all runs, finished or not",
                LOSS_LABEL,
                markers=True,
            ),
        )
    if training:
        yield (
            "training",
            "Training loss along training, averaged over blocks of steps.",
            lambda: training_paths(
                training, "Training loss", "block means; one line a run", "training loss (nats per token)"
            ),
        )
    if table is None:
        return
    for name, found, caption in (
        (
            "isoflop",
            study.isoflop,
            "Loss against size at equal compute, with the valleys, and the best size they give.",
        ),
        (
            "envelope",
            study.envelope,
            "Loss against compute with the lower envelope of the runs, and the best size along it.",
        ),
    ):
        if found is not None:
            yield name, caption, lambda found=found: isoflop_slices(found, columns)  # type: ignore[misc]
    if fit is None:
        return
    if study.band is not None and np.isfinite(study.band.loss).all():
        band = study.band
        yield (
            "frontier",
            "Compute-optimal parameters and tokens of the fitted law, and its loss, beside the runs.",
            lambda: frontier_figure(band, columns["params"], columns["loss"], six_n_d(columns), fit.level),
        )
    residual = np.log(columns["loss"] / fit.predict(columns))
    yield (
        "residuals",
        "Residuals of the fitted law against parameters and against training tokens.",
        lambda: residual_figure(columns["params"], columns["tokens"], residual, float(residual.std())),
    )
    yield (
        "sensitivity",
        "Each parameter under other choices of the analyst, beside the interval of the reported fit.",
        lambda: sensitivity_figure(fit.parameter_names, study.choices, fit.intervals, fit.level),
    )
    if study.backtest:
        shown = study.backtest[-BACKTEST_SHOWN:]
        yield (
            "backtest",
            "The runs with the most FLOPs, predicted from the others.",
            lambda: prediction_figure(shown, "Back-test", BACKTEST_LEVEL),
        )
