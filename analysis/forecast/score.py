"""Forecast and run side by side, once the run has landed; every score is kept.

    python -m analysis.score forecast.json RUN_OR_TABLE --out score.json

A forecast counts only if it was written before its run started. The tally, forecasts.jsonl beside score.json, is
only ever appended to; scoring the same forecast against the same loss again adds nothing.
"""

import dataclasses
import datetime
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from analysis.commands import digest_of, read_object, write_result
from analysis.forecast.predict import told
from analysis.logs.cells import read_cells
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.load import load_sweep
from analysis.logs.load_run import Run, read_run
from analysis.logs.read import read_table
from analysis.logs.table import TableReading
from core import cli
from core.errors import BadInput, writes
from core.files import JsonLines, read_json_lines
from core.records import BITS_PER_BYTE

TALLY = "forecasts.jsonl"
TOLERANCE = 0.02  # relative difference in params and tokens up to which a run is the one that was forecast
Row = TypeVar("Row")
NEEDED = ("params", "tokens", "prediction", "interval", "level", "date", "fit")


def score(forecast: Mapping[str, Any], landed: Mapping[str, Any]) -> dict[str, Any]:
    """Compare one forecast with one landed run.

    Args:
      forecast: the contents of forecast.json.
      landed: {"run", "params", "tokens", "loss", "started"}; `started` an ISO time or "".

    Returns:
      predicted, interval, level, observed, inside, error_percent (observed over predicted, less 1), run, started,
      date and made_before: true, false, or None where the start is not recorded.
    """
    low, high = forecast["interval"]
    observed, predicted = float(landed["loss"]), float(forecast["prediction"])
    made, started = _time(forecast["date"]), _time(landed["started"])
    return {
        "run": landed["run"],
        "params": landed["params"],
        "tokens": landed["tokens"],
        "predicted": predicted,
        "interval": [low, high],
        "level": forecast["level"],
        "observed": observed,
        "inside": bool(low <= observed <= high),
        "error_percent": 100 * (observed - predicted) / abs(predicted),
        "date": forecast["date"],
        "started": landed["started"] or None,
        "made_before": None if made is None or started is None else made < started,
    }


def tally_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the forecasts that were made before their runs have done; the others are only counted."""
    honest = [row for row in rows if row.get("made_before") is True]
    return {
        "scored": len(rows),
        "made_before": len(honest),
        "inside": sum(bool(row.get("inside")) for row in honest),
        "expected_inside": sum(float(row.get("level", 0.0)) for row in honest),
        "mean_absolute_error_percent": (
            float(np.mean([abs(float(row["error_percent"])) for row in honest])) if honest else None
        ),
    }


def read_forecast(path: str | Path) -> tuple[dict[str, Any], str]:
    """A forecast and its file's SHA-256.

    Raises:
      BadInput: not a forecast.json, or one that was changed after it was written.
    """
    value, sha256 = read_object(path, "a forecast.json")
    missing = [key for key in NEEDED if key not in value]
    if missing:
        raise BadInput(f"{path}: not a forecast.json; it has no {', '.join(missing)}")
    if value.get("digest") != digest_of(value):
        raise BadInput(f"{path}: changed after it was written (its digest does not match)")
    interval, source = value["interval"], value["fit"]
    about = [entry for entry in wanted_of(value).values() if entry is not None]
    if not about or not all(
        isinstance(entry, float | int) and 0 < entry < 1e300 for entry in (*about, value["level"])
    ):
        raise BadInput(f"{path}: not a forecast.json; its numbers must be positive")
    losses = [value["prediction"], *(interval if isinstance(interval, list) and len(interval) == 2 else [None])]
    # a loss of either sign was fitted in linear space, and most are positive
    if (
        not all(isinstance(entry, float | int) and abs(entry) < 1e300 for entry in losses)
        or value["prediction"] == 0
    ):
        raise BadInput(f"{path}: not a forecast.json; its prediction and interval must be numbers")
    if not (isinstance(source, dict) and isinstance(source.get("path"), str)):
        raise BadInput(f"{path}: not a forecast.json; it does not name its fit")
    return value, sha256


def wanted_of(forecast: Mapping[str, Any]) -> dict[str, float | None]:
    """What a forecast says of its run: params and tokens, or FLOPs where it says neither."""
    wanted = {name: forecast.get(name) for name in ("params", "tokens")}
    if any(value is None for value in wanted.values()):
        inputs = forecast.get("inputs")
        wanted["flops"] = inputs.get("flops") if isinstance(inputs, Mapping) else None
    return wanted


def fit_unchanged(forecast: Mapping[str, Any], folder: Path) -> bool | None:
    """Whether the fit that the forecast names is still the same file; None where it is not there any more."""
    source = forecast["fit"]
    candidates = [path for path in (Path(source["path"]), folder / Path(source["path"]).name) if path.is_file()]
    if not candidates:
        return None
    return any(hashlib.sha256(path.read_bytes()).hexdigest() == source.get("sha256") for path in candidates)


def _only(rows: Sequence[Row], path: Path, known: Mapping[str, float], tolerance: float) -> Row:
    """The one row of the size that was forecast."""
    if not rows:
        raise BadInput(f"{path}: no row within {tolerance:.0%} of the forecast's {told(known)}")
    if len(rows) > 1:
        raise BadInput(
            f"{path}: {len(rows)} rows are within {tolerance:.0%} of the forecast; give one run's directory"
        )
    return rows[0]


def landed_of(
    path: str | Path,
    wanted: Mapping[str, float | None],
    tolerance: float,
    reading: TableReading = TableReading(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """The run that a forecast is about: a run directory, or the one row of a table or sweep that fits.

    Args:
      wanted: params, tokens, flops of the run, those that are known.
      reading: how a table is read.

    Raises:
      BadInput: it has not finished, or no row, or more than one size, lies within `tolerance`.
    """
    path = Path(path)
    if path.is_dir():
        run = read_run(path)
        if run is not None:
            return _checked(_of_run(run), wanted, tolerance)
    known = {name: value for name, value in wanted.items() if value is not None}
    if path.is_dir():
        # of any group of settings: a forecast is about one run
        runs = load_sweep(path).usable
        has = [{"params": run.count(), "tokens": run.tokens, "flops": run.flops()} for run in runs]
        near = [
            run
            for run, own in zip(runs, has, strict=True)
            if all(abs((own[name] or 0.0) / value - 1) <= tolerance for name, value in known.items())
        ]
        return _of_run(_only(near, path, known, tolerance))
    others = [name for name in ("run", "params", "tokens") if name not in known]
    reading = dataclasses.replace(reading, spare=frozenset(others))
    table = read_table(path, (*known, "loss"), others, reading=reading)
    close = [np.abs(table.columns[name] / value - 1) <= tolerance for name, value in known.items()]
    row = _only(np.flatnonzero(np.all(close, axis=0)).tolist(), path, known, tolerance)
    name = str(table.columns["run"][row]) if "run" in table.columns else f"row {table.row_number(row)}"
    return {
        "run": name,
        "params": float(table.columns["params"][row]) if "params" in table.columns else None,
        "tokens": float(table.columns["tokens"][row]) if "tokens" in table.columns else None,
        "loss": float(table.columns["loss"][row]),
        "started": "",
    }


def _of_run(run: Run) -> dict[str, Any]:
    loss, params, tokens = run.final(), run.count(), run.tokens
    if run.status != "complete":
        raise BadInput(f"{run.path}: the run has not landed ({run.status}: {run.cause})")
    if loss is None or not loss > 0 or params is None or tokens is None:
        raise BadInput(f"{run.path}: the run has no final loss, or no count of parameters and tokens")
    return {
        "run": run.run,
        "params": params,
        "tokens": tokens,
        "flops": run.flops(),
        "loss": loss,
        "started": run.started,
        "bits_per_byte": run.final(BITS_PER_BYTE),
    }


def _checked(landed: dict[str, Any], wanted: Mapping[str, float | None], tolerance: float) -> dict[str, Any]:
    for name, value in wanted.items():
        if value is None:
            continue
        if landed[name] is None or abs(landed[name] / value - 1) > tolerance:
            has = "an unknown number of" if landed[name] is None else f"{landed[name]:g}"
            raise BadInput(
                f"{landed['run']}: has {has} {name}, the forecast is about {value:g} (more than {tolerance:.0%} apart)"
            )
    return landed


def _time(text: Any) -> datetime.datetime | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.score")


def command(
    forecast: Path,
    landed: Path,
    /,
    *,
    reading: RunFlags = RunTableFlags(),  # noqa: B008 (frozen)
    tolerance: float = TOLERANCE,
    tally: Path | None = None,
    out: Path,
) -> None:
    """Compare a forecast with the run that it is about.

    Args:
      forecast: forecast.json of analysis.forecast
      landed: the run's directory, its sweep, or a table with its row
      tolerance: relative, on params and tokens
      tally: JSON lines of all scores; forecasts.jsonl beside --out if not given
      out: the JSON file to write
    """
    sys.stdout.write(score_run(forecast, landed, out, tolerance, tally, reading.reading()))


def score_run(
    forecast: Path,
    landed: Path,
    out: Path,
    tolerance: float = TOLERANCE,
    tally: Path | None = None,
    reading: TableReading | None = None,
) -> str:
    """Score a forecast against what has landed, write the score to `out` and keep it in the tally.

    Args:
      forecast: a forecast.json.
      landed: the run's directory, its sweep, or a table with its row.
      tolerance: relative, on params and tokens.
      tally: JSON lines of all scores; TALLY beside `out` if not given.
      reading: how a table is read; where it says nothing, as the table of the fit was.

    Returns:
      The score and the tally in words.

    Raises:
      BadInput: one of the files cannot be read or written, the run has not finished, or a tolerance out of range.
    """
    if not 0 < tolerance < 1:
        raise BadInput(f"--tolerance {tolerance:g}: must be between 0 and 1")
    made, sha256 = read_forecast(forecast)
    how = read_alike(
        landed, reading or TableReading(), TableReading.from_json(made), signed=made.get("signed") is True
    )
    result = score(made, landed_of(landed, wanted_of(made), tolerance, how))
    result["forecast"] = {"path": str(forecast), "sha256": sha256}
    result["fit_unchanged"] = fit_unchanged(made, forecast.parent)
    tally = tally or out.parent / TALLY
    write_result(out, result)
    return sentences(result, tally_of(_keep(tally, result)), tally)


def read_alike(path: Path, asked: TableReading, before: TableReading, signed: bool) -> TableReading:
    """How a table is read: as asked, and else as the table of the fit was, where it has the same headers."""
    if path.is_dir():
        if asked.rename:
            raise BadInput(
                f"{path}: the loss of a run is the one in its result.json; its columns cannot be renamed"
            )
        return asked
    header = read_cells(path).columns
    rename = {name: there for name, there in before.rename.items() if there in header} | dict(asked.rename)
    best_of = asked.best_of or tuple(name for name in before.best_of if name in header or name in rename)
    drop_missing = asked.drop_missing or before.drop_missing
    positive = frozenset({"loss"} if signed else ())
    return TableReading(rename=rename, drop_missing=drop_missing, best_of=best_of, signed=positive)


def _keep(tally: Path, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Append the score to the tally unless it is there already, and return all rows."""

    def mark(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        source = row.get("forecast")
        return (
            source.get("sha256") if isinstance(source, Mapping) else None,
            row.get("run"),
            row.get("observed"),
        )

    with writes(tally):
        rows = list(read_json_lines(tally))
        if mark(result) not in {mark(row) for row in rows}:
            with JsonLines(tally) as file:
                file.append(dict(result))
            rows.append(dict(result))
    return rows


def sentences(result: Mapping[str, Any], tally: Mapping[str, Any], path: Path) -> str:
    low, high = result["interval"]
    when = {
        True: "made before the run started",
        False: "made AFTER the run started: not counted",
        None: "the run's start is not recorded: not counted",
    }[result["made_before"]]
    lines = [
        f"{result['run']}: loss {result['observed']:.4f}, predicted {result['predicted']:.4f} "
        f"({result['error_percent']:+.2f}%), {'inside' if result['inside'] else 'OUTSIDE'} the "
        f"{result['level']:.0%} interval {low:.4f} to {high:.4f}; {when}",
        f"tally of {tally['made_before']} counted forecasts ({tally['scored']} scored): {tally['inside']} inside, "
        f"{tally['expected_inside']:.1f} expected; {path}",
    ]
    return "\n".join(lines) + "\n"
