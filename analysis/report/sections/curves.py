"""Loss against tokens and parameters, along training and at its end."""

from collections.abc import Iterator

import numpy as np

from analysis.figures.curves import loss_curves, training_paths
from analysis.figures.style import LOSS_LABEL
from analysis.figures.thinned import thinned
from analysis.logs.groups import SAME_SIZE
from analysis.logs.load_curves import Curves
from analysis.logs.load_run import LOSS
from analysis.report.section import Drawing, Paragraph, Picture, Section
from analysis.report.study import Study, tokenizers
from core.numbers import percent, short_count

ORDER = 50
OF_EQUAL_SETTINGS = True
AGAINST_TOKENS = Picture(
    "loss_tokens", "Validation loss of finished runs against training tokens, one colour a model size."
)
AGAINST_PARAMS = Picture(
    "loss_params",
    "Validation loss of finished runs against parameters, one colour a number of training tokens.",
)
EVALUATIONS = Picture("evaluations", "Validation loss along training of every run, as far as it has come.")
TRAINING = Picture("training", "Training loss along training, averaged over blocks of steps.")

NOISE_FACTOR = 2.0  # a rise in loss beyond this many residual standard deviations (times root 2) is not noise
MOST_RISES = 5

Path = tuple[float, np.ndarray, np.ndarray]  # of one run: its size, and loss (P,) at tokens (P,)


def section(study: Study) -> Section:
    """Curves of every run that can be drawn beside the others, and where more gave a higher loss."""
    title = "Curves"
    kinds = tokenizers(study.sweep)
    if kinds > 1:
        words = (
            f"No curves: the runs use {kinds} tokenizers, and nats per token cannot be compared between them."
        )
        return Section(title, (Paragraph(words),))
    drawings = tuple(_drawings(study))
    return Section(
        title=title,
        blocks=drawings or (Paragraph("No run has logged a loss yet."),),
        warnings=tuple(rises(study)),
    )


def _drawings(study: Study) -> Iterator[Drawing]:
    evaluations = paths_of(study, study.evaluations, "value", LOSS)
    if study.table is not None:
        columns, predict = study.comparable, None if study.headline is None else study.headline.predict
        finished = [path for path in evaluations if path[0] in columns["params"]]
        yield AGAINST_TOKENS.by(lambda: loss_curves(columns, "tokens", predict, finished))
        yield AGAINST_PARAMS.by(lambda: loss_curves(columns, "params", predict))
    elif evaluations:
        along = ("Held-out loss along training", "all runs, finished or not", LOSS_LABEL)
        yield EVALUATIONS.by(lambda: training_paths(evaluations, *along, markers=True))
    training = paths_of(study, study.metrics, "loss")
    if training:
        words = ("Training loss", "block means; one line a run", "training loss (nats per token)")
        yield TRAINING.by(lambda: training_paths(training, *words))


def paths_of(study: Study, curves: Curves, column: str, evaluation: str | None = None) -> list[Path]:
    """Each shown run of known size along training, thinned to what can be drawn."""
    frame = curves.frame.filter(curves.frame["run"].is_in(study.shown)).drop_nulls(["tokens", column])
    if evaluation is not None:
        frame = frame.filter(name=evaluation)
    frame = frame.filter((frame["tokens"] > 0) & (frame[column] > 0))
    sizes = {run.run: run.count() for run in study.sweep.runs}
    return [
        (size, *thinned(rows["tokens"].to_numpy(), rows[column].to_numpy()))
        for (run,), rows in frame.group_by(["run"], maintain_order=True)
        if (size := sizes.get(str(run)))
    ]


def rises(study: Study) -> list[str]:
    """Neighbours in size, or in tokens, where more gave a higher loss than noise explains."""
    if study.table is None:
        return []
    columns = study.comparable
    noise = study.headline.residual_sd if study.headline is not None else 0.0
    found = []
    for along, fixed, what in (("params", "tokens", "parameters"), ("tokens", "params", "training tokens")):
        for value in np.unique(columns[fixed]):
            rows = np.flatnonzero(columns[fixed] == value)
            distinct, index = np.unique(columns[along][rows], return_inverse=True)
            mean = np.bincount(index, np.log(columns["loss"][rows])) / np.bincount(index)
            apart = np.diff(np.log(distinct)) > np.log(SAME_SIZE)  # shapes of one size are compared elsewhere
            for place in np.flatnonzero((np.diff(mean) > NOISE_FACTOR * np.sqrt(2) * noise) & apart):
                found.append(
                    f"loss rises by {percent(float(np.expm1(mean[place + 1] - mean[place])))} from "
                    f"{short_count(distinct[place])} to {short_count(distinct[place + 1])} {what} "
                    f"at {short_count(value)} {'tokens' if fixed == 'tokens' else 'parameters'}"
                )
    if len(found) > MOST_RISES:
        found = [*found[:MOST_RISES], f"and {len(found) - MOST_RISES} more places where loss rises"]
    return found
