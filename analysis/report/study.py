"""What all sections of a report may use: the table of a sweep's runs, and the fits of it or why there are none."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from analysis.fit.back_test import trust
from analysis.fit.checks import with_derived
from analysis.fit.clusters import INDEPENDENT, clusters_of
from analysis.fit.fit import Fit, fit_law
from analysis.fit.selection import RankedLaw, compare_laws
from analysis.fit.supported import WORSE, clearly_better
from analysis.isoflop.find import Isoflop, find_valleys
from analysis.laws import compared_laws
from analysis.learning_rate import RateGroup
from analysis.learning_rate import groups_of as rate_groups_of
from analysis.logs.files import spread
from analysis.logs.groups import SAME_SIZE, SettingsGroup
from analysis.logs.load import SweepLogs
from analysis.logs.load_curves import Curves
from analysis.logs.load_run import at
from analysis.logs.table import OPTIONAL, Table
from analysis.report.formats import csv_text
from analysis.settings.varied import columns_of
from core.errors import BadInput

LAW = "chinchilla"
LEVEL = 0.95
FEWEST_SIZES = 3  # that are not equal: from two, a floor and an exponent cannot both be told
LEAST_RESAMPLES = 200  # of the valleys' intervals
HULL_RESAMPLES = 300
MOST_PARTS = 6  # groups of settings that get sections of their own

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Study:
    """What is there before a section looks.

    Attributes:
      columns: every usable run, (R,) each, in the order of `sweep.usable`; empty where no table can be made.
      single: (R,) which of them a law of size and data may take: those that read no token twice.
      table: those runs, with their names; None where there are fewer than two.
      fit, isoflop, envelope: of those runs, or None: `why_no_fit` and `why_no_isoflop` say why. `fit` is of LAW, the
        form whose exponents others publish; `headline` is of the law that the runs support.
      evaluations, metrics: rows of all evals.jsonl, and of the metrics.jsonl of the runs `shown`.
      groups: runs of one shape at several learning rates, where there are any.
      settings: of the usable runs, by what a law does not know. Where they are several, this study has no table, and
        each of them is a study of its own; `parts` are those that have a fit or valleys.
      bootstrap: resamples behind intervals.
      label, place: of a part, what sets it apart, and its number from 1.
    """

    sweep: SweepLogs
    columns: Mapping[str, np.ndarray]
    single: np.ndarray
    evaluations: Curves
    metrics: Curves
    groups: tuple[RateGroup, ...] = ()
    settings: tuple[SettingsGroup, ...] = ()
    alone: "tuple[Study, ...]" = ()  # of every group of settings, where there are several
    table: Table | None = None
    fit: Fit | None = None
    isoflop: Isoflop | None = None
    envelope: Isoflop | None = None
    why_no_fit: str = ""
    why_no_isoflop: str = ""
    bootstrap: int = 0
    seed: int = 0
    label: str = ""
    place: int = 1

    @property
    def parts(self) -> "tuple[Study, ...]":
        """Of the groups of settings, those that say something of a law."""
        telling = [part for part in self.alone if part.fit is not None or part.isoflop is not None]
        return tuple(
            dataclasses.replace(part, place=place) for place, part in enumerate(telling[:MOST_PARTS], 1)
        )

    @functools.cached_property
    def rivals(self) -> tuple[RankedLaw, ...]:
        """The compared laws by least squares on log loss, best first by AICc; none where they cannot be fitted."""
        columns = self.comparable
        laws = compared_laws(columns)
        options: dict[str, Any] = {"robust": "l2", "seed": self.seed, "cluster": self.clusters}
        return tuple(attempt(compare_laws, laws, columns, **options)[0] or ())

    @functools.cached_property
    def headline(self) -> Fit | None:
        """The law that the runs support: `fit`, unless another one is identified, clearly better by AICc and not worse
        at predicting the largest runs."""
        best = clearly_better(self.rivals, LAW) if self.fit is not None else None
        if self.fit is None or best is None:
            return self.fit
        other, _ = attempt(fit_law, best, self.comparable, **self.options)
        if other is None or not other.known:
            return self.fit
        ours, usual = (
            trust(one.law, self.comparable, whole_fit=one, seed=self.seed, cluster=self.clusters).error
            for one in (other, self.fit)
        )
        return self.fit if ours > WORSE * usual else other

    @functools.cached_property
    def clusters(self) -> np.ndarray | str:
        """Labels of the rows that share a run, or that rows are independent."""
        if self.table is None or "run" not in self.table.columns:
            return INDEPENDENT
        labels, _ = clusters_of(self.table.columns, None)
        return INDEPENDENT if labels is None else labels

    @property
    def options(self) -> dict[str, Any]:
        """How laws are fitted to the runs."""
        return {"bootstrap": self.bootstrap, "seed": self.seed, "level": LEVEL, "cluster": self.clusters}

    @property
    def comparable(self) -> dict[str, np.ndarray]:
        """The columns of the runs that a law of size and data may take."""
        return {name: values[self.single] for name, values in self.columns.items()}

    @property
    def of_table(self) -> bool:
        """Whether this is a table of one's own, without logs."""
        return self.table is not None and not self.sweep.runs

    @property
    def rows(self) -> int:
        """How many runs there are."""
        return self.single.size if self.of_table else len(self.sweep.runs)

    @property
    def shown(self) -> Sequence[str]:
        """Names of the runs whose curves are drawn."""
        names = [run.run for run in self.sweep.runs]
        return spread([name for name in names if not self.label or name in (self.sweep.chosen or ())])

    @functools.cached_property
    def source(self) -> str:
        """SHA-256 of all the logs that were read."""
        read = f"{self.sweep.sha256} {self.evaluations.sha256} {self.metrics.sha256}"
        if self.of_table and self.table is not None:
            read = f"{read} {self.table.sha256}"
        return hashlib.sha256(read.encode()).hexdigest()

    @property
    def table_name(self) -> str:
        """Of the table's file."""
        return "table.csv" if self.place == 1 else f"table-{self.place}.csv"

    @functools.cached_property
    def table_csv(self) -> str:
        """The table as a file; empty where there is none."""
        if self.table is None:
            return ""
        values = {
            name: column.tolist() if name == "run" else [repr(float(value)) for value in column]
            for name, column in self.table.columns.items()
        }
        runs = {run.run: run for run in self.sweep.usable}
        if not self.of_table:
            values |= columns_of(self.varied_keys, [runs[name] for name in values["run"]])
        return csv_text(list(values), zip(*values.values(), strict=True))

    @property
    def varied_keys(self) -> tuple[str, ...]:
        """Settings in which runs of the sweep differ, by dotted key."""
        return tuple(dict.fromkeys(key for group in self.settings for key in group.settings))

    @property
    def input(self) -> dict[str, object]:
        """What result files say that they were made from."""
        digest = hashlib.sha256(self.table_csv.encode()).hexdigest()
        return {"path": self.table_name, "sha256": digest, "rows": int(self.single.sum())}


def study_of(sweep: SweepLogs, bootstrap: int = 1000, seed: int = 0) -> Study:
    """Load and fit; a part that the logs cannot give is left out with the reason."""
    bare = Study(
        sweep=sweep,
        columns={},
        single=np.zeros(0, bool),
        evaluations=sweep.evaluations(),
        metrics=sweep.metrics(spread([run.run for run in sweep.runs])),
        groups=rate_groups_of(sweep),
        settings=sweep.groups,
        bootstrap=bootstrap,
        seed=seed,
    )
    if len(sweep.groups) < 2:
        return _tabulated(bare)
    alone = [
        _tabulated(
            dataclasses.replace(bare, sweep=sweep.of(group), groups=(), settings=(group,), label=group.name)
        )
        for group in sweep.groups
    ]
    differ, kinds = f"the runs differ in {', '.join(sweep.groups[0].settings)}", tokenizers(sweep)
    if bare.groups:
        differ = "runs of one size differ in learning rate, which a law of size and data does not know"
    if kinds > 1:
        differ = f"the runs use {kinds} tokenizers, and nats per token cannot be compared between them"
    why = f"{differ}, and no group of equal settings is enough by itself (the largest: {alone[0].why_no_fit})"
    return dataclasses.replace(bare, alone=tuple(alone), why_no_fit=why, why_no_isoflop=differ)


def _tabulated(bare: Study) -> Study:
    """With the table of its runs, and its fits."""
    sweep = bare.sweep
    try:
        every = sweep.table(optional=(*OPTIONAL, "params_total", "params_non_embedding"))
    except BadInput as error:
        why = str(error).removeprefix(f"{sweep.path}: ")
        return dataclasses.replace(bare, why_no_fit=why, why_no_isoflop=why)
    return _of_table(bare, every)


def study_of_table(table: Table, bootstrap: int = 1000, seed: int = 0) -> Study:
    """Of a table of one's own, with the columns params, tokens and loss: there are no logs beside it."""
    path = Path(table.path)
    sweep = SweepLogs(path.with_name(path.name.partition(".")[0]), (), lambda run, name: None)
    columns, derived = with_derived(("flops",), table.columns)
    _, clustered = clusters_of(table.columns, None)
    warnings = (*table.warnings, *derived, *clustered)
    bare = Study(
        sweep=sweep,
        columns={},
        single=np.zeros(0, bool),
        evaluations=sweep.evaluations(),
        metrics=sweep.metrics(()),
        bootstrap=bootstrap,
        seed=seed,
    )
    return _of_table(bare, dataclasses.replace(table, columns=columns, warnings=warnings))


def _of_table(bare: Study, every: Table) -> Study:
    single, why = _fresh(every)
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
    why_no_fit, fit = _too_few(columns), None
    if not why_no_fit:
        fit, why_no_fit = attempt(fit_law, LAW, columns, **study.options)
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


def tokenizers(sweep: SweepLogs) -> int:
    """How many of them the usable runs read with."""
    return len({str(at(run.spec, "data", "tokenizer")) for run in sweep.usable})


def _fresh(table: Table) -> tuple[np.ndarray, str]:
    """Rows that read no token twice, and why a law of fresh text takes no others."""
    if "unique_tokens" not in table.columns:
        return np.ones(table.rows, bool), ""
    fresh = table.columns["unique_tokens"] >= table.columns["tokens"]
    return fresh, (
        f"{int((~fresh).sum())} of {table.rows} runs read their text more than once, and a law of fresh text takes at "
        "most one epoch: fewer tokens, or more text, would give one"
    )


def _too_alike(columns: Mapping[str, np.ndarray]) -> str:
    """Why sizes that are all but equal carry no law of size; empty where they differ."""
    sizes, apart = _apart(columns["params"])
    if apart == sizes or apart >= FEWEST_SIZES:
        return ""
    return f"{sizes} sizes of which only {apart} differ by more than {SAME_SIZE - 1:.0%}"


def _too_few(columns: Mapping[str, np.ndarray]) -> str:
    """Which of sizes and data sizes are too few for a law with a floor; empty where both are enough."""
    lacking = []
    for name, what in (("params", "model size"), ("tokens", "data size")):
        there = _apart(columns[name])[1]
        if there < FEWEST_SIZES:
            lacking.append(f"{there} {what}{'s' if there > 1 else ''}")
    if not lacking:
        return ""
    return (
        f"the {columns['loss'].size} runs have {' and '.join(lacking)}, and a floor and an exponent take at least "
        f"{FEWEST_SIZES} model sizes and {FEWEST_SIZES} data sizes"
    )


def _apart(values: np.ndarray) -> tuple[int, int]:
    """How many distinct values there are, and how many that are not about equal."""
    distinct = np.unique(values)
    return distinct.size, 1 + int((np.diff(np.log(distinct)) > np.log(SAME_SIZE)).sum())
