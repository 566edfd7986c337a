"""The loss without held-out text that has near-duplicates in the training text, and the law of it."""

from collections.abc import Sequence

import numpy as np

from analysis.fit.back_test import near
from analysis.fit.fit import Fit, fit_law
from analysis.fit.identified import said_interval
from analysis.report.section import Paragraph, Rows, Section
from analysis.report.study import LAW, LEVEL, Study, attempt
from core.numbers import number, percent

ORDER = 65
OF_EQUAL_SETTINGS = True
THRESHOLDS = ("0.5", "0.75", "0.9")  # those of data/near_duplicates.py


def section(study: Study) -> Section | None:
    """One row a threshold at which every run has a loss; None where none has."""
    if study.table is None or study.of_table:
        return None
    named = {run.run: run for run in study.sweep.usable}
    runs = [named[str(name)] for name in study.table.columns["run"]]
    losses = {threshold: [run.final(f"val/clean-{threshold}/loss") for run in runs] for threshold in THRESHOLDS}
    clean = {
        threshold: np.array(own, float)
        for threshold, own in losses.items()
        if all(value is not None for value in own)
    }
    if not clean:
        return None
    everything = np.asarray(study.table.columns["loss"], float)
    fits = {threshold: _fit(study, loss) for threshold, loss in clean.items()} if study.fit else {}
    moved = {threshold: float(np.mean(np.log(loss / everything))) for threshold, loss in clean.items()}
    strictest = min(clean, key=float)
    rows = [_row("all of it", "0%", study.fit)] + [
        _row(f"Jaccard below {threshold}", percent(moved[threshold]), fits.get(threshold))
        for threshold in clean
    ]
    return Section(
        title="Held-out text without near-duplicates",
        said=(
            f"Without the held-out text that has near-duplicates in the training text (Jaccard {strictest} and more) "
            f"the loss is {_apart(moved[strictest])}, on average over {len(runs)} runs.",
        ),
        blocks=(
            Paragraph(
                "A near-duplicate shares at least this part of its 25-byte pieces with a training document. The law is "
                "fitted again to the loss over windows without a token of such a document."
            ),
            Rows(("held-out text", "loss against all", "alpha", "beta", "E"), rows),
        ),
    )


def _fit(study: Study, loss: np.ndarray) -> Fit | None:
    assert study.fit is not None
    columns = {**study.comparable, "loss": loss}
    found, _ = attempt(
        fit_law, LAW, columns, bootstrap=study.bootstrap, seed=study.seed, level=LEVEL, starts=near(study.fit)
    )
    return found


def _apart(log_ratio: float) -> str:
    return f"{percent(abs(np.expm1(log_ratio)))} {'higher' if log_ratio > 0 else 'lower'}"


def _row(label: str, moved: str, fit: Fit | None) -> Sequence[str]:
    cells = ("alpha", "beta", "E")
    if fit is None:
        return (label, moved, *("" for _ in cells))
    return (
        label,
        moved,
        *(
            f"{number(fit.parameters[name])} [{said_interval(fit.law, name, fit.intervals[name])}]"
            for name in cells
        ),
    )
