"""What a report says of a registered forecast: whether it came before its runs, whether its files are those it names,
and where the runs landed."""

import csv
import dataclasses
import datetime
import hashlib
import io
from collections.abc import Mapping
from typing import Any

from analysis.figures.predictions import Prediction, prediction_figure
from analysis.forecast.predict import UNIDENTIFIED
from analysis.forecast.score import fit_unchanged, read_forecast
from analysis.logs.load import SweepLogs
from analysis.logs.load_run import Run, at
from analysis.report.section import Block, Paragraph, Picture, Section
from analysis.report.study import Study
from core.errors import BadInput
from core.numbers import short_count
from core.reading import path_exists
from core.rundir import FORECAST, FORECAST_TABLE, SweepDirectory

ORDER = 10
ANSWERS = ("forecast",)
FIGURE = Picture("forecast", "The held-back runs beside what was written about them before they started.")


@dataclasses.dataclass(frozen=True)
class Registered:
    """A forecast of a sweep's held-back runs.

    Attributes:
      honest: written before every run that it is about started, with table and fit as they were.
      sentence: for the summary. faults: why it is not honest, or not complete.
      predictions: of the runs that have landed, in the order of their tokens. level: of their intervals.
      registered: what forecast.json says of itself, for the page.
    """

    honest: bool
    sentence: str
    faults: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    level: float
    registered: str


def section(study: Study) -> Section | None:
    """The forecast beside what came, where one was registered."""
    found = registered_forecast(study.sweep)
    if found is None:
        return None
    blocks: list[Block] = [Paragraph(found.sentence)]
    if found.predictions:
        title = "Forecast" if found.honest else "Not a valid forecast"
        blocks.append(FIGURE.by(lambda: prediction_figure(found.predictions, title, found.level)))
    if found.registered:
        blocks.append(Paragraph(found.registered))
    return Section(
        title="Forecast",
        said=(found.sentence,),
        answer=found.sentence if found.predictions and found.honest else "",
        warnings=tuple(f"forecast: {fault}" for fault in found.faults),
        blocks=tuple(blocks),
    )


def registered_forecast(sweep: SweepLogs) -> Registered | None:
    """Read and check runs/<sweep>/forecast/; None where there is none."""
    files = SweepDirectory(sweep.path)
    if not path_exists(files.forecast):
        return None
    try:
        value, _ = read_forecast(files.forecast)
        if not (isinstance(value.get("runs"), list) and value["runs"]):
            raise BadInput(f"{files.forecast}: names no runs")
        return _judged(sweep, value, files)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        fault = f"the forecast cannot be used: {str(error).removeprefix(f'{sweep.path}/')}"
        return Registered(False, "Forecast: it cannot be used (see the warnings).", (fault,), (), 0.9, "")


def _judged(sweep: SweepLogs, value: Mapping[str, Any], files: SweepDirectory) -> Registered:
    runs = {run.run: run for run in sweep.runs}
    faults = [*_file_faults(value, sweep, files, runs)]
    made = _moment(value["date"])
    landed: list[tuple[float, Prediction]] = []
    missing = []
    for one in value["runs"]:
        run = runs.get(one["run"])
        if run is None or run.status != "complete" or run.final() is None:
            missing.append(one["run"])
            continue
        began = [_moment(start) for start in _starts(run, runs)]
        if made is None or None in began:
            faults.append(f"it is not recorded when the forecast was written or {run.run} started")
        elif min(moment for moment in began if moment is not None) <= made:
            faults.append(f"the forecast was written AFTER {run.run} had started: it is not a forecast")
        label = f"{short_count(run.count() or 0)} parameters, {short_count(run.tokens or 0)} tokens"
        low, high = one["interval"]
        loss = run.final()
        assert loss is not None
        landed.append((one["tokens"], Prediction(label, one["prediction"], low, high, loss)))
    predictions = tuple(one for _, one in sorted(landed, key=lambda item: item[0]))
    level = float(value["level"])
    honest = not faults
    faults += [str(warning) for warning in value.get("warnings", ()) if str(warning).startswith(UNIDENTIFIED)]
    if missing:
        faults.append(f"{len(missing)} of {len(value['runs'])} forecast runs have not landed ({missing[0]})")
    noted = (
        f"Law {value['law']}, fitted to {value['input']['rows']} runs; written {value['date']}"
        + (f" by commit {value['commit']}" if value.get("commit") else "")
        + f"; table.csv SHA-256 {value['input']['sha256']}, fit.json SHA-256 {value['fit']['sha256']}."
    )
    sentence = _sentence(predictions, level, honest) + _best_share(value, runs)
    return Registered(honest, sentence, tuple(dict.fromkeys(faults)), predictions, level, noted)


def _sentence(predictions: tuple[Prediction, ...], level: float, honest: bool) -> str:
    if not predictions:
        return "Forecast: written; none of its runs has landed yet."
    last, hits = predictions[-1], sum(one.inside for one in predictions)
    where = "inside" if last.inside else "OUTSIDE"
    return (
        (
            "Forecast, written before its runs started: "
            if honest
            else "Not a valid forecast (see the warnings): "
        )
        + f"{last.label}: predicted loss {last.predicted:.4f}, measured {last.measured:.4f} "
        f"({100 * (last.measured / last.predicted - 1):+.2g}%), {where} its {level:.0%} interval {last.low:.4f} to "
        f"{last.high:.4f}; {hits} of {len(predictions)} forecast runs inside."
    )


def _best_share(value: Mapping[str, Any], runs: Mapping[str, Run]) -> str:
    """Of held-back mixtures: the best share that was forecast, and the one of those tried that came out best."""
    if "best_share" not in value:
        return ""
    low, high = value["best_share_interval"]
    said = f" Best share of {value['corpora'][0]} forecast: {value['best_share']:.2f} [{low:.2f}, {high:.2f}]"
    by_share: dict[float, list[float]] = {}
    for one in value["runs"]:
        run = runs.get(one["run"])
        loss = run.final() if run is not None and run.status == "complete" else None
        if loss is None:
            return f"{said}."
        by_share.setdefault(one["share"], []).append(loss)
    means = {share: sum(losses) / len(losses) for share, losses in by_share.items()}
    best = min(means, key=lambda share: means[share])
    return f"{said}; of the shares tried there, {best:.2f} has the lowest mean loss, {means[best]:.4f}."


def _file_faults(
    value: Mapping[str, Any], sweep: SweepLogs, files: SweepDirectory, runs: Mapping[str, Run]
) -> list[str]:
    """What of the table and the fit is no longer what the forecast names."""
    faults = []
    table = sweep.read(FORECAST, FORECAST_TABLE)
    if table is None or hashlib.sha256(table).hexdigest() != value["input"]["sha256"]:
        faults.append("the table that was forecast from does not match the hash in forecast.json")
    else:
        for row in csv.DictReader(io.StringIO(table.decode())):
            run = runs.get(row["run"])
            if run is None or run.final() != float(row["loss"]):
                faults.append(f"the logs of {row['run']} are not those that the forecast was made from")
                break
    fit = {**value["fit"], "path": str(files.forecast_fit)}
    if fit_unchanged({**value, "fit": fit}, files.forecast_folder) is not True:
        faults.append("the fit that was forecast from does not match the hash in forecast.json")
    return faults


def _starts(run: Run, runs: Mapping[str, Run]) -> list[str]:
    """When a run began, and when its trunk did."""
    parent = at(run.spec, "parent")
    trunk = runs.get(parent) if isinstance(parent, str) else None
    return [run.started] + ([trunk.started] if trunk is not None else [])


def _moment(text: Any) -> datetime.datetime | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
