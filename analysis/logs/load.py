"""From run directories to tables: what `training` wrote, read back without importing it.

A run is complete by the rule of `core.records.completion_of`. Every other run is listed with the reason and left
out of fits. Fits take one row a complete run, its final evaluation: under a schedule that cools down, the
loss along the way was measured at another learning rate and is not comparable. Curves are for figures only.
"""

import dataclasses
import functools
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.logs.files import Logs, Read, folders_of, reader
from analysis.logs.load_curves import EVALUATION_COLUMNS, METRIC_COLUMNS, Curves, read_curves
from analysis.logs.load_run import (
    DEFAULT_FLOPS,
    DEFAULT_PARAMS,
    Run,
    at,
    number,
    read_run,
)
from analysis.logs.suspicions import suspicions
from analysis.logs.table import OPTIONAL, REQUIRED, TEXT, Table, check_values
from core.errors import BadInput
from core.records import BITS_PER_BYTE, LOSS
from core.rundir import EVALUATIONS, LEDGER, METRICS, RESULT, SPEC

# Settings in which equal runs may differ: distinct tokens have a column of their own, and a trunk's name follows them.
TOLD_APART = {"data.unique_tokens", "parent"}


@dataclasses.dataclass(frozen=True)
class SweepLogs:
    """All runs of a sweep's directory, by name; `read` gives the files of a run by its name and theirs."""

    path: Path
    runs: tuple[Run, ...]
    read: Read

    @property
    def name(self) -> str:
        return self.path.name or self.path.resolve().name

    @functools.cached_property
    def sha256(self) -> str:
        """Over every run's name and core files: the same logs give the same hash wherever they lie."""
        lines = "".join(f"{run.run} {run.digest}\n" for run in self.runs)
        return hashlib.sha256(lines.encode()).hexdigest()

    @functools.cached_property
    def usable(self) -> tuple[Run, ...]:
        """Runs that a fit may take: complete, counted, with a finite final loss, cooled down if any is."""
        good = [run for run in self.runs if not self._unusable(run) and not run.trunk]
        if any(run.cooled for run in good):
            good = [run for run in good if run.cooled]
        return tuple(good)

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
        return tuple([*_left_out_warning(self), *_difference_warnings(self.usable)])

    def table(
        self,
        required: Sequence[str] = REQUIRED,
        optional: Sequence[str] = OPTIONAL,
        params: str = DEFAULT_PARAMS,
        flops: str = DEFAULT_FLOPS,
        rename: Mapping[str, str] | None = None,
    ) -> Table:
        """One row a usable run, in the order of run names: the table that fits read.

        Args:
          required, optional: column names; a sweep can give params, tokens, loss, flops, unique_tokens,
            run, seed, width, depth, bits_per_byte, params_total and params_non_embedding.
          params, flops: the ledger's conventions.
          rename: name in the table -> column of a sweep, e.g. {"params": "params_total"}.

        Raises:
          BadInput: fewer than two usable runs, a required column that a sweep does not have or lacks in a run.
        """
        runs = self.usable
        if len(runs) < 2:
            said = "; ".join(f"{run}: {cause}" for run, cause in list(self.left_out().items())[:3])
            raise BadInput(
                f"{self.path}: {len(runs)} of {len(self.runs)} runs can be used; at least 2 are needed"
                + (f" ({said})" if said else "")
            )
        repeated = any(at(run.spec, "data", "unique_tokens") for run in runs)
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
        if repeated:
            # 0 stands for the whole split, of which a run has seen as many distinct tokens as it trained on.
            readers["unique_tokens"] = lambda run: min(
                run.tokens or 0.0, number(at(run.spec, "data", "unique_tokens")) or math.inf
            )
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
        runs = tuple(run for name in names if (run := read_run(path / name, read)) is not None)
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not runs:
        raise BadInput(f"{path}: no runs in it (no folder with a {SPEC})")
    return SweepLogs(path, runs, read)


def _left_out_warning(sweep: SweepLogs) -> list[str]:
    reasons = sweep.left_out()
    if not reasons:
        return []
    named = "; ".join(f"{run}: {cause}" for run, cause in list(reasons.items())[:5])
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    verb = "is" if len(reasons) == 1 else "are"
    return [f"{len(reasons)} of {len(sweep.runs)} runs {verb} missing from the fits ({named}{more})"]


def _difference_warnings(runs: Sequence[Run]) -> list[str]:
    settings: dict[str, tuple[str, Callable[[Run], Any]]] = {
        "the recorded code": ("commits", lambda run: run.provenance.commit),
        "the recorded corpus": ("fingerprints", lambda run: run.provenance.corpus),
        "the set of package versions": ("sets", lambda run: run.provenance.versions),
        "the tokenizer": ("tokenizers, and nats per token cannot be compared", _setting("data", "tokenizer")),
        "the corpus": ("corpora", _setting("data", "corpus")),
        "the domain": ("domains", _setting("data", "domain")),
        "the held-out slice": ("lengths", _setting("data", "validation_tokens")),
        "the sequence length": ("lengths", _setting("data", "sequence_length")),
        "the schedule": ("schedules", _setting("optim", "schedule")),
    }
    found = []
    for what, (kinds, setting) in settings.items():
        # The default `str` keys sort; the count says which runs are the odd ones out.
        values = Counter(str(value) for run in runs if (value := setting(run)) not in (None, ""))
        if len(values) > 1:
            ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
            shown = ", ".join(f"{_short(value)} in {count}" for value, count in ranked[:3])
            found.append(f"{what} differs between runs: {len(values)} {kinds} ({shown} runs)")
    return found + _rival_warning(runs)


def _rival_warning(runs: Sequence[Run]) -> list[str]:
    """Runs of one size, token count and seed that differ in some setting: a law would take them for repeats."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        mark = (run.count(), run.tokens, str(run.spec.get("seed")))  # of any type where the file is damaged
        groups.setdefault(mark, []).append(run)
    together = [[_flat(run.spec) for run in rivals] for rivals in groups.values() if len(rivals) > 1]
    settings = sorted(
        {
            key
            for rivals in together
            for other in rivals[1:]
            for key in {*rivals[0], *other}
            if rivals[0].get(key) != other.get(key)
        }
        - TOLD_APART
    )
    if not settings:
        return []
    count = sum(map(len, together))
    return [
        f"{count} runs share size, tokens and seed with another and differ in {', '.join(settings[:4])}: a law takes "
        "them for repeats of one run"
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _setting(*keys: str) -> Callable[[Run], Any]:
    return lambda run: at(run.spec, *keys)


def _short(value: str) -> str:
    return value if len(value) <= 24 else value[:12] + "..."
