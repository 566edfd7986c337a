"""What all sections of a report may use: the table of a sweep's runs, and the fits of it or why there are none."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from analysis.fit.fit import Fit, fit_law
from analysis.isoflop.find import Isoflop, find_valleys
from analysis.learning_rate import RateGroup, groups_of
from analysis.logs.files import spread
from analysis.logs.load import SweepLogs
from analysis.logs.load_curves import Curves
from analysis.logs.load_run import at
from analysis.logs.table import OPTIONAL, Table
from analysis.report.formats import csv_text
from core.errors import BadInput

LAW = "chinchilla"
LEVEL = 0.95
SAME_SIZE = 1.02  # parameters within this factor count as equal
FEWEST_SIZES = 3  # that are not equal
LEAST_RESAMPLES = 200  # of the valleys' intervals
HULL_RESAMPLES = 300
NEAR_STARTS = 31

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Study:
    """What is there before a section looks.

    Attributes:
      columns: every usable run, (R,) each, in the order of `sweep.usable`; empty where no table can be made.
      single: (R,) which of them a law of size and data may take: those that read no token twice, with one tokenizer.
      table: those runs, with their names; None where there are fewer than two.
      fit, isoflop, envelope: of those runs, or None: `why_no_fit` and `why_no_isoflop` say why.
      evaluations, metrics: rows of all evals.jsonl, and of the metrics.jsonl of the runs `shown`.
      groups: runs of one shape at several learning rates, where there are any: then there is no table.
      bootstrap: resamples behind intervals.
    """

    sweep: SweepLogs
    columns: Mapping[str, np.ndarray]
    single: np.ndarray
    evaluations: Curves
    metrics: Curves
    groups: tuple[RateGroup, ...] = ()
    table: Table | None = None
    fit: Fit | None = None
    isoflop: Isoflop | None = None
    envelope: Isoflop | None = None
    why_no_fit: str = ""
    why_no_isoflop: str = ""
    bootstrap: int = 0
    seed: int = 0

    @property
    def comparable(self) -> dict[str, np.ndarray]:
        """The columns of the runs that a law of size and data may take."""
        return {name: values[self.single] for name, values in self.columns.items()}

    @property
    def shown(self) -> Sequence[str]:
        """Names of the runs whose curves are drawn."""
        return spread([run.run for run in self.sweep.runs])

    @functools.cached_property
    def source(self) -> str:
        """SHA-256 of all the logs that were read."""
        read = f"{self.sweep.sha256} {self.evaluations.sha256} {self.metrics.sha256}"
        return hashlib.sha256(read.encode()).hexdigest()

    @functools.cached_property
    def table_csv(self) -> str:
        """The table as a file; empty where there is none."""
        if self.table is None:
            return ""
        values = [
            column.tolist() if name == "run" else [repr(float(value)) for value in column]
            for name, column in self.table.columns.items()
        ]
        return csv_text(list(self.table.columns), zip(*values, strict=True))

    @property
    def input(self) -> dict[str, object]:
        """What result files say that they were made from."""
        digest = hashlib.sha256(self.table_csv.encode()).hexdigest()
        return {"path": "table.csv", "sha256": digest, "rows": int(self.single.sum())}


def study_of(sweep: SweepLogs, bootstrap: int = 1000, seed: int = 0) -> Study:
    """Load and fit; a part that the logs cannot give is left out with the reason."""
    bare = Study(
        sweep=sweep,
        columns={},
        single=np.zeros(0, bool),
        evaluations=sweep.evaluations(),
        metrics=sweep.metrics(spread([run.run for run in sweep.runs])),
        groups=groups_of(sweep),
        bootstrap=bootstrap,
        seed=seed,
    )
    try:
        if bare.groups:
            raise BadInput(
                "runs of one size differ in learning rate, which a law of size and data does not know"
            )
        every = sweep.table(optional=(*OPTIONAL, "params_total", "params_non_embedding"))
    except BadInput as error:
        why = str(error).removeprefix(f"{sweep.path}: ")
        return dataclasses.replace(bare, why_no_fit=why, why_no_isoflop=why)
    single, why = _comparable(sweep, every)
    numbers = {name: values for name, values in every.columns.items() if name not in ("run", "seed")}
    study = dataclasses.replace(bare, columns=numbers, single=single)
    if single.sum() < 2:
        return dataclasses.replace(study, why_no_fit=why, why_no_isoflop=why)
    chosen = {name: values[single] for name, values in every.columns.items()}
    table = dataclasses.replace(every, columns=chosen, rows=int(single.sum()))
    return _fitted(dataclasses.replace(study, table=table))


def _fitted(study: Study) -> Study:
    columns, seed = study.comparable, study.seed
    why = _too_alike(columns)
    if why:
        return dataclasses.replace(study, why_no_fit=why, why_no_isoflop=why)
    fit, why_no_fit = attempt(fit_law, LAW, columns, bootstrap=study.bootstrap, seed=seed, level=LEVEL)
    resamples = max(study.bootstrap, LEAST_RESAMPLES)
    valleys, why_no_isoflop = attempt(find_valleys, columns, "parabola", bootstrap=resamples, seed=seed)
    envelope, _ = attempt(find_valleys, columns, "envelope", bootstrap=resamples, seed=seed)
    if envelope is None:
        fewer = min(study.bootstrap, HULL_RESAMPLES)
        envelope, _ = attempt(find_valleys, columns, "hull", bootstrap=fewer, seed=seed)
    return dataclasses.replace(
        study, fit=fit, isoflop=valleys, envelope=envelope, why_no_fit=why_no_fit, why_no_isoflop=why_no_isoflop
    )


def attempt(
    function: Callable[Arguments, Found], *arguments: Arguments.args, **options: Arguments.kwargs
) -> tuple[Found | None, str]:
    """The result and "", or None and the reason that the function refused with."""
    try:
        return function(*arguments, **options), ""
    except BadInput as error:
        return None, str(error)


def near(fit: Fit) -> np.ndarray | None:
    """Starts for a neighbouring fit: the optimum and some of its resamples, in place of thousands of a grid."""
    best = np.array([[fit.parameters[name] for name in fit.parameter_names]])
    if fit.draws is None:
        return None
    draws = fit.draws[np.isfinite(fit.draws).all(axis=1) & (fit.draws > 0).all(axis=1)]
    return np.concatenate([best, draws[:NEAR_STARTS]])


def tokenizers(sweep: SweepLogs) -> int:
    """How many of them the usable runs read with."""
    return len({str(at(run.spec, "data", "tokenizer")) for run in sweep.usable})


def _comparable(sweep: SweepLogs, table: Table) -> tuple[np.ndarray, str]:
    """Rows that a law of size and data may take, and why the others may not."""
    kinds = tokenizers(sweep)
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
