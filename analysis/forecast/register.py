"""Fit the small runs of a sweep and put down what the held-back runs will give, before those start.

    python -m analysis.register runs/<sweep>

reads runs/<sweep>/held_back.json ({"runs": [{"run", "params", "tokens"}], "trunks": [...]}, written by the launcher)
and writes runs/<sweep>/forecast/: table.csv (what is fitted), fit.json, and forecast.json with the time, the SHA-256 of
both and the commit. It refuses once a held-back run has started. `launch.py run` of an experiment with held-back runs
calls it between the two; `analysis.report` checks it.
"""

import csv
import dataclasses
import datetime
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands import digest_of, read_object, write_result
from analysis.fit.fit import Fit, fit_law
from analysis.fit.selection import RankedLaw, compare_laws, least_rows
from analysis.forecast.of_mixtures import LAW as MIXTURE
from analysis.forecast.of_mixtures import differ_in_mixture, forecast_of_mixtures, lines_of
from analysis.forecast.predict import UNIDENTIFIED, forecast
from analysis.laws import compared_laws, get_law
from analysis.laws.base import Law
from analysis.logs.groups import sentence
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.read import fresh_rows
from analysis.logs.table import Table
from core import cli
from core.errors import BadInput, writes
from core.files import write_atomic
from core.records import HeldBackRun, held_back_of
from core.rundir import SweepDirectory

BEST = "best"  # the law with the lowest AICc on the small runs
COLUMNS = ("params", "tokens", "loss")


def register(
    path: Path, law: str = BEST, level: float = 0.9, bootstrap: int = 1000, seed: int = 0, commit: str = ""
) -> dict[str, Any]:
    """Fit, forecast and write.

    Args:
      path: the sweep's directory. law: name of a law of parameters and tokens, or best.
      level: of the intervals. bootstrap: resamples behind them. commit: of the code, as the launcher knows it.

    Returns:
      The contents of forecast.json: those of `analysis.forecast` for the run with most tokens, and `runs` with all.
      Where held-back runs differ in their mixture: those of analysis/forecast/of_mixtures.py.

    Raises:
      BadInput: nothing is held back, a held-back run has started, or the small runs cannot be fitted.
    """
    sweep = SweepDirectory(path)
    listed, _ = read_object(sweep.held_back, "the launcher's list of held-back runs")
    held = held_back_of(listed, sweep.held_back)
    runs = held["runs"]
    for name in [*(run["run"] for run in runs), *held["trunks"]]:
        if sweep.run(name).environment.exists():
            raise BadInput(f"{path / name}: has started already; a forecast must be written before its run")
    logs = load_sweep(path)
    if differ_in_mixture(runs):
        found, text, content = forecast_of_mixtures(logs, runs, level)
        source = _source(sweep, text)
        fit_text = _fit_text(content, source)
    else:
        found, text, fit_text, source = _by_a_law(sweep, logs, runs, law, level, bootstrap, seed)
    value: dict[str, Any] = {
        **found,
        "fit": {"path": sweep.forecast_fit.name, "sha256": _sha256(fit_text)},
        "input": source,
        "commit": commit,
        "date": datetime.datetime.now(datetime.UTC).isoformat(),
    }
    value["digest"] = digest_of(value)
    with writes(sweep.forecast_folder):
        write_atomic(sweep.forecast_table, text)
        write_atomic(sweep.forecast_fit, fit_text)
    write_result(sweep.forecast, value)
    return value


def _by_a_law(
    sweep: SweepDirectory,
    logs: SweepLogs,
    runs: Sequence[HeldBackRun],
    law: str,
    level: float,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, Any], str, str, dict[str, Any]]:
    """Entries of forecast.json about law and runs, the texts of table.csv and fit.json, and what names the table."""
    table = fresh_rows(small_table(logs, {run["run"] for run in runs}))
    columns = {name: table.columns[name] for name in COLUMNS}
    ranked = _ranked(sweep.path, columns, seed) if law == BEST else []
    fit = _best_fit([rank.fit.law for rank in ranked] or [get_law(law)], columns, bootstrap, seed)
    text = table_text(table)
    source = _source(sweep, text)
    fit_text = _fit_text(fit.to_json(), source)
    predictions = [
        {
            "run": run["run"],
            **forecast(json.loads(fit_text), run["params"], run["tokens"], level, unidentified=True),
        }
        for run in runs
    ]
    largest = max(predictions, key=lambda prediction: (prediction["tokens"], prediction["params"]))
    found = {
        **{key: entry for key, entry in largest.items() if key != "run"},
        "run": largest["run"],
        "runs": predictions,
        "laws": [{"law": rank.fit.law.name, "aicc_above_best": rank.delta_aicc} for rank in ranked],
    }
    return found, text, fit_text, source


def _source(sweep: SweepDirectory, text: str) -> dict[str, Any]:
    """What names the table that was fitted."""
    return {
        "path": sweep.forecast_table.name,
        "sha256": _sha256(text),
        "rows": len(text.splitlines()) - 1,
    }


def _best_fit(laws: Sequence[Law], columns: Mapping[str, np.ndarray], bootstrap: int, seed: int) -> Fit:
    """The first of these laws that the rows identify; the first of all where they identify none, which it then says."""
    fits = []
    for law in laws:
        fits.append(fit_law(law, columns, bootstrap=bootstrap, seed=seed))
        if fits[-1].known:
            return fits[-1]
    return fits[0]


def _ranked(path: Path, columns: Mapping[str, np.ndarray], seed: int) -> list[RankedLaw]:
    """The compared laws that these rows can tell apart, best first."""
    rows = columns["loss"].size
    laws = compared_laws(columns)
    if sum(least_rows(law) <= rows for law in laws) < 2:
        needed = sorted(map(least_rows, laws))[1]
        raise BadInput(
            f"{path}: {rows} small runs are too few to choose a law by AICc; at least {needed}, or --law"
        )
    return compare_laws([law for law in laws if least_rows(law) <= rows], columns, robust="l2", seed=seed)


def small_table(sweep: SweepLogs, held: set[str]) -> Table:
    """The rows of all usable runs that are not held back.

    Raises:
      BadInput: they differ in a setting that a law does not know, so that a forecast would pool them.
    """
    others = dataclasses.replace(sweep, runs=tuple(run for run in sweep.runs if run.run not in held))
    if len(others.groups) > 1:
        raise BadInput(
            f"{sweep.path}: {sentence(others.groups)}; train each under a --name of its own to forecast it"
        )
    return others.table(optional=("run", "unique_tokens"))


def table_text(table: Table) -> str:
    """The CSV that was fitted, with every number as it is."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("run", *COLUMNS))
    for row in range(table.rows):
        writer.writerow(
            (table.columns["run"][row], *(repr(float(table.columns[name][row])) for name in COLUMNS))
        )
    return out.getvalue()


def _fit_text(content: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    return json.dumps({**content, "input": dict(source)}, indent=1, allow_nan=False) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.register")


def command(
    sweep: Path,
    /,
    *,
    law: str = BEST,
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
    commit: str = "",
) -> None:
    """Forecast the held-back runs of a sweep before they start.

    Args:
      sweep: runs/<sweep>
      law: a law of `python -m analysis.fit --help`, or best: the lowest AICc of those that are compared. Runs that
        differ in their mixture have a parabola in the share instead
      level: of the intervals
      bootstrap: resamples; 0 for asymptotic intervals
      seed: of starts and resamples
      commit: of the code, recorded in forecast.json
    """
    value = register(sweep, law, level, bootstrap, seed, commit)
    where = SweepDirectory(sweep).forecast
    lines = [f"{where}: law {value['law']}, fitted to {value['input']['rows']} runs"]
    lines += lines_of(value) if value["law"] == MIXTURE else []
    lines += [f"  warning: {warning}" for warning in value["warnings"] if warning.startswith(UNIDENTIFIED)]
    for run in value["runs"]:
        low, high = run["interval"]
        lines.append(
            f"  {run['run']}: loss {run['prediction']:.4f}, {run['level']:.0%} interval {low:.4f} to {high:.4f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
