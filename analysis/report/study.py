"""Everything that a report says about a sweep, computed once: tables, fits, valleys, back-test, or why not."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.frontier import Band
from analysis.figures.predictions import Prediction
from analysis.figures.style import count_text
from analysis.fit.fit import Fit, fit_law
from analysis.fit.frontier import frontier
from analysis.fit.selection import Scored, back_test, compare_laws, sensitivity
from analysis.isoflop.find import Isoflop, find_valleys
from analysis.isoflop.slices import FLOPS_PER_PARAM_TOKEN
from analysis.learning_rate import Group, groups_of
from analysis.logs.files import spread
from analysis.logs.load import Sweep
from analysis.logs.load_curves import Curves
from analysis.logs.load_run import LOSS, at
from analysis.logs.table import OPTIONAL, Table
from analysis.report.sections import Known, Section, sections
from analysis.report.sections.forecast import Registered, registered_forecast
from analysis.report.sections.shapes import SAME_SIZE
from core.errors import BadInput

LAW = "chinchilla"
RIVALS = ("kaplan",)  # other laws of parameters and tokens, compared by least squares on log loss
LEVEL = 0.95
BACKTEST_LEVEL = 0.9
BACKTEST_SHARE = 0.25  # of the runs, those with the most FLOPs, are predicted from the others
BACKTEST_SHOWN = 12
BAND_POINTS = 60
BEYOND = 10.0  # the frontier is drawn to so many times the largest budget
BLOCK_SHARE = 0.06  # of the tokens so far, and of a tenth of the run: what one point of a curve averages
FEWEST_SIZES = 3  # that differ by more than a shape of equal size does
NEAR_STARTS = 31
CHOICE_WORDS = {
    "N = params_total": "N = all parameters",
    "N = params_non_embedding": "N = without embedding and head",
}


@dataclasses.dataclass(frozen=True)
class Path:
    """One run along training: its size, and loss (P,) at tokens (P,)."""

    params: float
    tokens: np.ndarray
    loss: np.ndarray


@dataclasses.dataclass(frozen=True)
class Study:
    """A sweep and what is known of it; a part that is missing says why in words.

    Attributes:
      source: SHA-256 of all the logs that were read.
      choices: (label, parameters) of the fit with one choice changed at a time, the reported fit first.
      rivals: the reported law and others on the same rows, best first by AICc.
      backtest: the runs with the most FLOPs, predicted from the others.
      registered: the forecast that was written before the larger runs, where there is one.
      table: the runs that a law of size and data may take: where some repeat their text, those that do not.
      groups: runs of one shape at several learning rates, where there are any: then there is no table.
      sections: answers to what only some sweeps ask (analysis/report/sections/).
    """

    sweep: Sweep
    source: str
    table: Table | None
    fit: Fit | None
    isoflop: Isoflop | None
    envelope: Isoflop | None
    band: Band | None
    choices: tuple[tuple[str, Mapping[str, float]], ...]
    rivals: tuple[Scored, ...]
    backtest: tuple[Prediction, ...]
    evaluations: tuple[Path, ...]
    training: tuple[Path, ...]
    reading_warnings: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    registered: Registered | None = None
    sections: tuple[Section, ...] = ()
    why_no_curves: str = "No run has logged a loss yet."
    why_no_fit: str = ""
    why_no_isoflop: str = ""
    why_no_backtest: str = ""


def study_of(sweep: Sweep, bootstrap: int = 1000, seed: int = 0) -> Study:
    """Load, fit and test; a part that the logs cannot give is left out with the reason."""
    shown = spread([run.run for run in sweep.runs])
    evaluations, metrics = sweep.evaluations(), sweep.metrics(shown)
    source = hashlib.sha256(f"{sweep.sha256} {evaluations.sha256} {metrics.sha256}".encode()).hexdigest()
    known: dict[str, Any] = {
        "sweep": sweep,
        "source": source,
        "evaluations": _paths(sweep, evaluations, shown, "value", LOSS),
        "training": _paths(sweep, metrics, shown, "loss"),
        "reading_warnings": (*evaluations.warnings, *metrics.warnings),
        "registered": registered_forecast(sweep),
        "groups": groups_of(sweep),
    }
    nothing: dict[str, Any] = {
        "table": None, "fit": None, "isoflop": None, "envelope": None, "band": None, "choices": (), "rivals": (),
        "backtest": (),
    }  # fmt: skip
    try:
        if known["groups"]:
            raise BadInput(
                "runs of one size differ in learning rate, which a law of size and data does not know"
            )
        every = sweep.table(optional=(*OPTIONAL, "params_total", "params_non_embedding"))
    except BadInput as error:
        why = str(error).removeprefix(f"{sweep.path}: ")
        return Study(**known, **nothing, why_no_fit=why, why_no_isoflop=why, why_no_backtest=why)
    single, why = _comparable(sweep, every)
    if single.sum() < 2:
        asked = Known(sweep, _numbers(every), single, None, None, None, evaluations, bootstrap, seed)
        if _tokenizers(sweep) > 1:
            known |= {"evaluations": (), "training": (), "why_no_curves": f"No curves: {why}."}
        return Study(
            **known,
            **nothing,
            sections=sections(asked),
            why_no_fit=why,
            why_no_isoflop=why,
            why_no_backtest=why,
        )
    table = dataclasses.replace(
        every, columns={name: values[single] for name, values in every.columns.items()}, rows=int(single.sum())
    )
    columns = _numbers(table)
    fit, valleys, curves, backtest, rivals = None, None, None, (), ()
    why_no_fit = why_no_isoflop = why_no_backtest = _too_alike(columns)
    if not why_no_fit:
        fit, why_no_fit = _attempt(fit_law, LAW, columns, bootstrap=bootstrap, seed=seed, level=LEVEL)
        repetitions = max(bootstrap, 200)
        valleys, why_no_isoflop = _attempt(find_valleys, columns, "parabola", bootstrap=repetitions, seed=seed)
        curves, none = _attempt(find_valleys, columns, "envelope", bootstrap=repetitions, seed=seed)
        if none:
            curves, _ = _attempt(find_valleys, columns, "hull", bootstrap=min(bootstrap, 300), seed=seed)
        backtest, why_no_backtest = ((), why_no_fit) if fit is None else _attempt(_backtest, fit, columns, seed)
        rivals, _ = ((), "") if fit is None else _attempt(_rivals, columns, seed)
    asked = Known(sweep, _numbers(every), single, fit, valleys, curves, evaluations, bootstrap, seed)
    return Study(
        **known,
        table=table,
        fit=fit,
        isoflop=valleys,
        envelope=curves,
        band=None if fit is None else _band(fit, six_n_d(columns)),
        choices=() if fit is None else _choices(fit, columns, seed),
        rivals=rivals or (),
        backtest=backtest or (),
        sections=sections(asked),
        why_no_fit=why_no_fit,
        why_no_isoflop=why_no_isoflop,
        why_no_backtest=why_no_backtest,
    )


def _numbers(table: Table) -> dict[str, np.ndarray]:
    return {name: values for name, values in table.columns.items() if name not in ("run", "seed")}


def _tokenizers(sweep: Sweep) -> int:
    return len({str(at(run.spec, "data", "tokenizer")) for run in sweep.usable})


def _comparable(sweep: Sweep, table: Table) -> tuple[np.ndarray, str]:
    """Rows that a law of size and data may take, and why the others may not."""
    kinds = _tokenizers(sweep)
    if kinds > 1:
        why = f"the runs use {kinds} tokenizers, and nats per token cannot be compared between them"
        return np.zeros(table.rows, bool), why
    if "unique_tokens" not in table.columns:
        return np.ones(table.rows, bool), ""
    fresh = table.columns["unique_tokens"] >= table.columns["tokens"]
    return fresh, f"{int((~fresh).sum())} of {table.rows} runs read their text more than once"


def _too_alike(columns: Mapping[str, np.ndarray]) -> str:
    """Why sizes that are all but equal carry no law of size; empty where they differ."""
    sizes = np.unique(columns["params"])
    apart = 1 + int((np.diff(np.log(sizes)) > np.log(SAME_SIZE)).sum())
    if apart == sizes.size or apart >= FEWEST_SIZES:
        return ""
    return f"{sizes.size} sizes of which only {apart} differ by more than {SAME_SIZE - 1:.0%}"


def _attempt(function: Any, *arguments: Any, **options: Any) -> tuple[Any, str]:
    """The result and "", or None and the reason that the function refused with."""
    try:
        return function(*arguments, **options), ""
    except BadInput as error:
        return None, str(error)


def _paths(
    sweep: Sweep, curves: Curves, names: Sequence[str], column: str, evaluation: str | None = None
) -> tuple[Path, ...]:
    frame = curves.frame.filter(curves.frame["run"].is_in(names)).drop_nulls(["tokens", column])
    if evaluation is not None:
        frame = frame.filter(name=evaluation)
    frame = frame.filter((frame["tokens"] > 0) & (frame[column] > 0))
    sizes = {run.run: run.count() for run in sweep.runs}
    paths = []
    for (run,), rows in frame.group_by(["run"], maintain_order=True):
        size = sizes.get(str(run))
        if size:
            tokens, loss = rows["tokens"].to_numpy(), rows[column].to_numpy()
            paths.append(Path(size, *_thinned(tokens, loss)))
    return tuple(paths)


def _thinned(tokens: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over blocks of tokens, so that a log draws as a line and not as noise.

    Blocks grow with the tokens before them, so that the short log of a branch is averaged as its trunk's is.
    """
    _, starts = np.unique(np.ceil(np.log(tokens + tokens[-1] / 10) / BLOCK_SHARE), return_index=True)
    sizes = np.diff(np.append(starts, tokens.size))
    return np.add.reduceat(tokens, starts) / sizes, np.add.reduceat(loss, starts) / sizes


def six_n_d(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """C = 6 N D, the convention of the closed-form frontier (Hoffmann et al. 2022, section 3.3)."""
    return FLOPS_PER_PARAM_TOKEN * columns["params"] * columns["tokens"]


def _band(fit: Fit, flops: np.ndarray) -> Band:
    """The frontier from the smallest budget of the runs to `BEYOND` times the largest."""
    budgets = np.geomspace(flops.min(), flops.max() * BEYOND, BAND_POINTS)
    best = frontier(fit.parameters, budgets)
    if fit.draws is None:
        return Band(budgets, best.params, best.tokens, best.loss, None, None, None)
    drawn = frontier({name: fit.draws[:, [place]] for place, name in enumerate(fit.parameter_names)}, budgets)
    tails = [(1 - fit.level) / 2, (1 + fit.level) / 2]

    def ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):
            low, high = np.nanquantile(np.where(np.isfinite(values), values, np.nan), tails, axis=0)
        return low, high

    return Band(
        budgets, best.params, best.tokens, best.loss, ends(drawn.params), ends(drawn.tokens), ends(drawn.loss)
    )


def _choices(
    fit: Fit, columns: Mapping[str, np.ndarray], seed: int
) -> tuple[tuple[str, Mapping[str, float]], ...]:
    """The same fit with one choice of the analyst changed at a time; the reported one first."""
    tried = sensitivity(LAW, columns, seed=seed, starts=_near(fit))
    reported = ("huber 0.001 on log (reported)", fit.parameters)
    # The reported fit comes a second time under its own objective's name.
    others = [
        (CHOICE_WORDS.get(label, label), other.parameters)
        for label, other in zip(tried.labels, tried.fits, strict=True)
        if label not in ("as asked", "huber 0.001 on log")
    ]
    return (reported, *others)


def _rivals(columns: Mapping[str, np.ndarray], seed: int) -> tuple[Scored, ...]:
    return tuple(compare_laws((LAW, *RIVALS), columns, robust="l2", seed=seed))


def _near(fit: Fit) -> np.ndarray | None:
    """Starts for a neighbouring fit: the optimum and some of its resamples, in place of thousands of a grid."""
    best = np.array([[fit.parameters[name] for name in fit.parameter_names]])
    if fit.draws is None:
        return None
    draws = fit.draws[np.isfinite(fit.draws).all(axis=1) & (fit.draws > 0).all(axis=1)]
    return np.concatenate([best, draws[:NEAR_STARTS]])


def _backtest(fit: Fit, columns: Mapping[str, np.ndarray], seed: int) -> tuple[Prediction, ...]:
    """Predict the runs with the most FLOPs from the others, with the noise of a run in the interval."""
    (test,) = back_test(LAW, columns, (1 - BACKTEST_SHARE,), BACKTEST_LEVEL, seed=seed, starts=_near(fit))
    if not np.isfinite([test.low, test.high, test.predicted]).all():
        raise BadInput("the smaller runs alone do not determine an interval")
    held = np.flatnonzero(columns["flops"] > test.cutoff)
    order = np.argsort(test.flops, kind="stable")
    return tuple(
        Prediction(
            label=f"{count_text(columns['params'][held[row]])} parameters, "
            f"{count_text(columns['tokens'][held[row]])} tokens",
            predicted=float(test.predicted[row]),
            low=float(test.low[row]),
            high=float(test.high[row]),
            measured=float(test.actual[row]),
        )
        for row in order.tolist()
    )
