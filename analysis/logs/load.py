"""From run directories to tables: what `training` wrote, read back without importing it.

A run is complete by the rule of `core.records.completion_of`. Every other run is listed with the reason and left
out of fits. Fits take one row a complete run, its final evaluation: under a schedule that cools down, the
loss along the way was measured at another learning rate and is not comparable. Curves are for figures only.
"""

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.logs.files import Logs, Read, folders_of, reader, sweep_payload
from analysis.logs.groups import SettingsGroup, groups_of, sentence
from analysis.logs.load_curves import EVALUATION_COLUMNS, METRIC_COLUMNS, Curves, read_curves
from analysis.logs.load_run import (
    DEFAULT_FLOPS,
    DEFAULT_PARAMS,
    Run,
    at,
    number,
    read_run,
)
from analysis.logs.lossy import lossy_warning
from analysis.logs.suspicions import suspicions
from analysis.logs.table import OPTIONAL, REQUIRED, TEXT, Table, check_values
from core.condition import values_at
from core.epochs import known_corpora
from core.errors import BadInput
from core.files import whole_rows
from core.identity import digest_of
from core.reading import Unreadable, printable
from core.records import BITS_PER_BYTE, LOSS
from core.rundir import EVALUATIONS, LEDGER, METRICS, RESULT, SPEC, SWEEP
from core.sweep_file import SweepRecord, sweep_record_of

CACHE = "cache"  # where commands keep token caches unless --cache says otherwise


@dataclasses.dataclass(frozen=True)
class SweepLogs:
    """All runs of a sweep's directory, by name; `read` gives the files of a run by its name and theirs.

    Attributes:
      record: sweep.json; None where there is none, or it is damaged, as `damage` says.
    """

    path: Path
    runs: tuple[Run, ...]
    read: Read
    chosen: frozenset[str] | None = None  # of a part: the runs that its fits may take
    record: SweepRecord | None = None
    damage: str = ""

    @property
    def name(self) -> str:
        return self.path.name or self.path.resolve().name

    @property
    def question(self) -> str:
        """The setting that the sweep is about, by dotted key; "" where sweep.json does not say."""
        return self.record.get("question", "") if self.record else ""

    @property
    def listed(self) -> list[str]:
        """Names of the runs that the sweep is to have, in order; none where sweep.json does not say."""
        return self.record["runs"] if self.record else []

    @functools.cached_property
    def absent(self) -> list[str]:
        """Those of them that have no folder."""
        there = {run.run for run in self.runs}
        return [name for name in self.listed if name not in there]

    @functools.cached_property
    def sha256(self) -> str:
        """Over name and core files of every run (of a part, its runs): the same logs, the same hash anywhere."""
        taken = [run for run in self.runs if self.chosen is None or run.run in self.chosen]
        lines = "".join(f"{run.run} {run.digest}\n" for run in taken)
        return hashlib.sha256(lines.encode()).hexdigest()

    @functools.cached_property
    def usable(self) -> tuple[Run, ...]:
        """Runs that a fit may take: complete, counted, with a finite final loss, cooled down if any is."""
        good = [run for run in self.runs if not self._unusable(run) and not run.trunk]
        if any(run.cooled for run in good):
            good = [run for run in good if run.cooled]
        return tuple(run for run in good if self.chosen is None or run.run in self.chosen)

    @functools.cached_property
    def groups(self) -> tuple[SettingsGroup, ...]:
        """The usable runs by the settings that a law of size and data does not know: one group where none differ."""
        return groups_of(self.usable)

    def of(self, group: SettingsGroup) -> "SweepLogs":
        """The same sweep, of which fits take the runs of one group."""
        return dataclasses.replace(self, chosen=frozenset(run.run for run in group.runs))

    @staticmethod
    def _unusable(run: Run) -> str:
        if run.status != "complete":
            return run.cause
        loss = run.final()
        if loss is None or not loss > 0:
            return f"{RESULT} has no positive {LOSS}"
        if not (run.count() or 0) > 0 or not (run.tokens or 0) > 0:
            return f"{LEDGER} or {SPEC} has no positive count of parameters and tokens"
        return ""

    def left_out(self) -> dict[str, str]:
        """Runs that no fit takes, each with the reason; trunks are meant for branches only and not named."""
        kept = {run.run for run in self.usable}
        kept |= {run.run for run in self.trunks if run.status == "complete"}
        at_constant_rate = "trained at a constant learning rate, others were cooled down"
        return {run.run: self._unusable(run) or at_constant_rate for run in self.runs if run.run not in kept}

    @property
    def trunks(self) -> tuple[Run, ...]:
        """Runs that only carry branches."""
        return tuple(run for run in self.runs if run.trunk)

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """What differs between runs that a law treats as equal, and which runs are missing from it."""
        if self.chosen is not None:
            return tuple(_difference_warnings(self.usable))
        split = [sentence(self.groups)] if len(self.groups) > 1 else []
        return tuple(
            [
                *split,
                *_missing_warning(self),
                *_left_out_warning(self),
                *_note_warnings(self),
                *_difference_warnings(self.usable),
            ]
        )

    @property
    def epochs_unknown(self) -> str:
        """Which usable runs do not say how often they read their text, one line; empty where all do.

        Runs of an earlier version do not; a token cache may. They count as fresh text.
        """
        unknown = [run.run for run in self.usable if run.reading is None]
        if not unknown:
            return ""
        verb = "does" if len(unknown) == 1 else "do"
        return (
            f"{len(unknown)} of {len(self.usable)} runs {verb} not say how often they read their text, such as "
            f"{unknown[0]}, and no cache here holds their tokens: they count as fresh text"
        )

    def table(
        self,
        required: Sequence[str] = REQUIRED,
        optional: Sequence[str] = OPTIONAL,
        params: str = DEFAULT_PARAMS,
        flops: str = DEFAULT_FLOPS,
        group: int = 0,
        rename: Mapping[str, str] | None = None,
    ) -> Table:
        """One row a usable run, in the order of run names: the table that fits read.

        Of runs that differ in a setting that a law does not know only one group is taken, and a warning says so.

        Args:
          required, optional: column names; a sweep can give params, tokens, loss, flops, unique_tokens,
            run, seed, width, depth, bits_per_byte, params_total and params_non_embedding.
          params, flops: the ledger's conventions.
          group: which of `groups`, where there are several.
          rename: name in the table -> column of a sweep, e.g. {"params": "params_total"}.

        Raises:
          BadInput: fewer than two usable runs, a required column that a sweep does not have or lacks in a run.
        """
        if self.chosen is None and len(self.groups) > 1:
            table = self.of(self.groups[group]).table(required, optional, params, flops, rename=rename)
            own = [warning for warning in table.warnings if warning not in self.warnings]
            taken = f"of the groups, {self.groups[group].label} is taken here"
            return dataclasses.replace(table, warnings=(*self.warnings, taken, *own))
        runs = self.usable
        if len(runs) < 2:
            said = "; ".join(f"{run}: {cause}" for run, cause in list(self.left_out().items())[:3])
            raise BadInput(
                f"{self.path}: {len(runs)} of {len(self.runs)} runs can be used; at least 2 are needed"
                + (f" ({said})" if said else "")
            )
        readers: dict[str, Callable[[Run], Any]] = {
            "params": lambda run: run.count(params),
            "tokens": lambda run: run.tokens,
            "loss": lambda run: run.final(),
            "flops": lambda run: run.flops(flops),
            "params_total": lambda run: run.count("total"),
            "params_non_embedding": lambda run: run.count("non_embedding"),
            "run": lambda run: run.run,
            "seed": lambda run: number(run.spec.get("seed")),
            "width": lambda run: number(at(run.spec, "model", "width")),
            "depth": lambda run: number(at(run.spec, "model", "depth")),
            "bits_per_byte": lambda run: run.final(BITS_PER_BYTE),
        }
        if any(run.reading is not None and run.reading.repeats for run in runs):
            # A run of which it is not known counts as fresh text; `epochs_unknown` says so.
            readers["unique_tokens"] = lambda run: run.reading.unique_tokens if run.reading else run.tokens
        for header in (rename or {}).values():
            if header not in readers:
                raise BadInput(f"{self.path}: a sweep has no column {header}; it has {', '.join(readers)}")
        readers |= {name: readers[header] for name, header in dict(rename or {}).items()}
        columns: dict[str, np.ndarray] = {}
        for name in [*required, *(name for name in optional if name not in required)]:
            if name not in readers:
                if name in required:
                    raise BadInput(f"{self.path}: a sweep has no column {name}; it has {', '.join(readers)}")
                continue
            values = [readers[name](run) for run in runs]
            if any(value is None for value in values):
                if name in required:
                    lacking = runs[values.index(None)].run
                    raise BadInput(f"{self.path}: run {lacking} has no {name}")
                continue
            columns[name] = np.array(values, dtype=np.str_ if name in TEXT else np.float64)
            if name not in TEXT:
                check_values(str(self.path), name, columns[name])
        return Table(
            columns=columns,
            path=str(self.path),
            sha256=self.sha256,
            rows=len(runs),
            warnings=(*self.warnings, *suspicions(columns)),
        )

    def final(self, run: Run, name: str = LOSS) -> float | None:
        """An evaluation at the end of a complete run: of result.json, or added later by a backfill or the harness."""
        value = run.final(name)
        if value is not None or run.status != "complete" or run.has_doubtful(EVALUATIONS):
            return value
        rows, _ = whole_rows((self.read(run.run, EVALUATIONS) or b"").split(b"\n"))
        return values_at(rows, run.tokens).get(name, [None])[-1]

    def evaluations(self) -> Curves:
        """Rows of every evals.jsonl; for one (tokens, name) of a run the last attempt."""
        return read_curves(self.runs, EVALUATIONS, EVALUATION_COLUMNS, ("tokens", "name"), self.read)

    def metrics(self, runs: Iterable[str] | None = None) -> Curves:
        """Rows of the metrics.jsonl of the runs named (None: of all); for one step the last attempt."""
        wanted = None if runs is None else set(runs)
        chosen = [run for run in self.runs if wanted is None or run.run in wanted]
        return read_curves(chosen, METRICS, METRIC_COLUMNS, ("tokens",), self.read)


def load_sweep(path: str | os.PathLike, logs: Logs | None = None) -> SweepLogs:
    """Read the specs, ledgers, environments and results of all run directories under `path`, or of its `logs`.

    Raises:
      BadInput: no such directory, or no run directory (one with a spec.json) in it.
    """
    path = Path(path)
    try:
        names, read = (folders_of(path), reader(path)) if logs is None else (logs.folders, logs.read)
        skip = {name: () if logs is not None and logs.drawn(name) else (METRICS,) for name in names}
        found = [run for name in names if (run := read_run(path / name, read, skip[name])) is not None]
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not found:
        raise BadInput(f"{path}: no runs in it (no folder with a {SPEC})")
    record, damage = _record(path, sweep_payload(path) if logs is None else logs.sweep)
    runs = _with_train_tokens(path, tuple(_copies_named(found)))
    return SweepLogs(path, runs, read, record=record, damage=damage)


def _record(path: Path, payload: bytes | Unreadable | None) -> tuple[SweepRecord | None, str]:
    if isinstance(payload, Unreadable):
        return None, printable(str(payload))
    try:
        return (None if payload is None else sweep_record_of(payload, path / SWEEP)), ""
    except BadInput as error:
        return None, printable(str(error))


def _with_train_tokens(path: Path, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """What runs of an earlier version do not say, from token caches beside the folder of sweeps or in this one."""
    if all(run.reading is not None or not run.provenance.corpus for run in runs):
        return runs
    known = known_corpora({path.absolute().parent.parent / CACHE, Path(CACHE).absolute()})
    return tuple(
        dataclasses.replace(run, train_tokens=known.get(run.provenance.corpus)) if run.reading is None else run
        for run in runs
    )


def _copies_named(runs: Sequence[Run]) -> list[Run]:
    """The runs; a folder whose spec is that of another run among them says so, and is counted in no fit."""
    names = {run.run[-8:]: run.run for run in runs if run.status != "unreadable"}
    named = []
    for run in runs:
        original = names.get(digest_of(run.spec) or "")
        if original not in (None, run.run) and run.status == "unreadable":
            run = dataclasses.replace(run, cause=f"a copy of {original}, which is counted once")
        named.append(run)
    return named


def _missing_warning(sweep: SweepLogs) -> list[str]:
    """Runs that sweep.json names and that are not on the disk."""
    if sweep.record is None:
        return [sweep.damage] if sweep.damage else []
    missing = sorted(set(sweep.absent))
    if not missing:
        return []
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    verb = "run that has" if len(missing) == 1 else "runs that have"
    command = printable(sweep.record.get("command", ""))
    return [
        f"{SWEEP} names {len(missing)} {verb} no folder: {', '.join(missing[:5])}{more}"
        + (f"; to train what is missing: {command}" if command else "")
    ]


def _left_out_warning(sweep: SweepLogs) -> list[str]:
    reasons = sweep.left_out()
    if not reasons:
        return []
    named = "; ".join(f"{run}: {cause}" for run, cause in list(reasons.items())[:5])
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    verb = "is" if len(reasons) == 1 else "are"
    return [f"{len(reasons)} of {len(sweep.runs)} runs {verb} missing from the fits ({named}{more})"]


def _note_warnings(sweep: SweepLogs) -> list[str]:
    """What is wrong with files of runs whose final numbers are used all the same."""
    noted = [f"{run.run}/{note}" for run in sweep.runs for note in run.notes if run.status == "complete"]
    if not noted:
        return []
    more = f"; and {len(noted) - 5} more" if len(noted) > 5 else ""
    return [
        f"{len(noted)} files of complete runs are damaged: the final numbers in {RESULT} are used, rows that were "
        f"changed are not ({'; '.join(noted[:5])}{more})"
    ]


def _difference_warnings(runs: Sequence[Run]) -> list[str]:
    settings: dict[str, tuple[str, Callable[[Run], Any]]] = {
        "the recorded code": ("commits", lambda run: run.provenance.commit),
        "the set of package versions": ("sets", lambda run: run.provenance.versions),
        "what matrix products are computed in": ("precisions", lambda run: run.provenance.products),
    }
    found = []
    for what, (kinds, setting) in settings.items():
        # The default `str` keys sort; the count says which runs are the odd ones out.
        values = Counter(str(value) for run in runs if (value := setting(run)) not in (None, ""))
        if len(values) > 1:
            ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
            shown = ", ".join(f"{_short(value)} in {count}" for value, count in ranked[:3])
            found.append(f"{what} differs between runs: {len(values)} {kinds} ({shown} runs)")
    return found + lossy_warning(runs)


def _short(value: str) -> str:
    return value if len(value) <= 32 else value[:12] + "..."
