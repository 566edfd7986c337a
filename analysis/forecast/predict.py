"""A prediction written before the run that it is about.

    python -m analysis.forecast fit.json --params 1e9 --tokens 2e10 --out forecast.json
    python -m analysis.forecast flops_fit.json --flops 1e22 --out forecast.json
    python -m analysis.forecast fit.json --params 1e9 --tokens 2e10 --misfit --out forecast.json

The file holds the prediction with its interval, the hashes of the fit and of the fit's input, the date, and a
digest of itself; `analysis.forecast.score` compares it with the run when it has landed.
"""

import dataclasses
import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import UseAppendAction, arg

from analysis.commands import digest_of, read_object, write_result
from analysis.fit.back_test import below_nominal, misfit_noise
from analysis.fit.fit import Fit
from analysis.laws.base import Law
from analysis.logs.flags import Flags, TableFlags
from analysis.logs.read import read_table, settings_of, source_of
from analysis.logs.table import TableReading
from core import cli
from core.errors import BadInput

MOST = 1e30  # of any input: products of several stay finite
COUNTED = ("params", "tokens", "flops")
UNIDENTIFIED = "from a law that its table does not identify"  # how the warning of such a forecast begins
FAR = 10.0  # a forecast further than this factor beyond the fitted runs is warned of


def forecast(
    fit: Mapping[str, Any],
    params: float | None = None,
    tokens: float | None = None,
    level: float = 0.9,
    others: Mapping[str, float] | None = None,
    flops: float | None = None,
    unidentified: bool = False,
    misfit: bool = False,
) -> dict[str, Any]:
    """What a fit says of one run.

    Args:
      fit: the contents of fit.json.
      params, tokens, flops: N, D and C of the run, in the units of the fit's table; those that the law reads, or that
        it follows from by C = 6 N D.
      level: of the interval, in which the run itself should land: parameters and noise are both in it.
      others: further inputs of the law, e.g. unique_tokens.
      unidentified: whether a law that its table does not identify may be asked; the forecast then says so.
      misfit: whether the interval includes the lack of fit that the fit's back-test found (analysis/fit/back_test.py).

    Returns:
      law, params, tokens, inputs, prediction, interval, level and warnings.

    Raises:
      BadInput: no fit, one that is not identified, an input that is missing or not positive, no interval, or a misfit
        that no back-test tells.
    """
    inputs = given_inputs(params, tokens, flops, others or {})
    if not 0 < level < 1:
        raise BadInput(f"--level {level:g}: must be between 0 and 1")
    fitted = Fit.from_json(fit)
    if fitted.law.target != "loss":
        raise BadInput(f"law {fitted.law.name} predicts {fitted.law.target}, not loss; forecasts are of loss")
    if not (fitted.known or unidentified):
        raise BadInput(fitted.no_forecast)
    known = inputs_of(fitted.law, inputs)
    row = {name: np.array([value]) for name, value in known.items()}
    value = float(fitted.predict(row)[0])
    added = _misfit(fitted, known) if misfit else None
    low, high = (float(end[0]) for end in fitted.predict_interval(row, level=level, misfit=added))
    if not np.isfinite([value, low, high]).all():
        raise BadInput(f"the fit gives no finite prediction with an interval at {told(inputs)}")
    warnings = [f"fit: {warning}" for warning in fitted.warnings]
    if fitted.back_test is not None:
        # said of the forecast itself, not as something of its fit; one with the misfit in it needs no such warning
        narrow = below_nominal(fitted.back_test)
        warnings = [
            *(() if misfit else narrow),
            *(line for line in warnings if line.removeprefix("fit: ") not in narrow),
        ]
    if not fitted.known:
        warnings.insert(0, f"{UNIDENTIFIED} ({fitted.why_unknown})")
    if not low <= value <= high:
        warnings.append("the prediction lies outside its own interval: the resamples are skewed")
    return {
        "law": fitted.law.name,
        "params": known.get("params"),
        "tokens": known.get("tokens"),
        "inputs": inputs,
        "prediction": value,
        "interval": [low, high],
        **({"signed": True} if fitted.law.shift else {}),
        "level": level,
        **({"back_test": dict(fitted.back_test)} if fitted.back_test is not None else {}),
        **({"misfit": float(np.std(added))} if added is not None else {}),
        "warnings": warnings,
    }


def _misfit(fit: Fit, known: Mapping[str, float]) -> np.ndarray:
    if fit.back_test is None:
        raise BadInput(
            "--misfit: the fit holds no back-test; python -m analysis.fit TABLE --back-test --out FIT makes one"
        )
    try:
        return misfit_noise(fit.back_test, known)
    except BadInput as error:
        raise BadInput(f"--misfit: {error}") from None


def given_inputs(
    params: float | None, tokens: float | None, flops: float | None, others: Mapping[str, float]
) -> dict[str, float]:
    """What was said of a run.

    Raises:
      BadInput: a value that is not positive and finite.
    """
    said = {"params": params, "tokens": tokens, "flops": flops, **others}
    inputs = {name: value for name, value in said.items() if value is not None}
    for name, value in inputs.items():
        if not 0 < value <= MOST:
            raise BadInput(
                f"--{name.replace('_', '-')} {value:g}: must be positive and finite, at most {MOST:g}"
            )
    return inputs


def inputs_of(law: Law, inputs: Mapping[str, float]) -> dict[str, float]:
    """What was said of a run, and what follows from it by C = 6 N D.

    Raises:
      BadInput: an input of the law is missing, or three of N, D and C are given of which the law reads two.
    """
    known = dict(inputs)
    n, d, c = (known.get(name) for name in ("params", "tokens", "flops"))
    if c is None and n is not None and d is not None:
        known["flops"] = 6.0 * n * d
    elif c is not None and d is not None and n is None:
        known["params"] = c / (6.0 * d)
    elif c is not None and n is not None and d is None:
        known["tokens"] = c / (6.0 * n)
    elif c is not None and n is not None and d is not None and "flops" not in law.inputs:
        raise BadInput(
            f"--flops {c:g}: law {law.name} does not read it; two of --params, --tokens, --flops are enough"
        )
    if "params" in known and "tokens" in known:
        known.setdefault("tokens_per_param", known["tokens"] / known["params"])
    missing = [name for name in law.inputs if name not in known]
    if missing:
        ratio = {"tokens_per_param": ["params", "tokens"]}
        wanted = dict.fromkeys(name for entry in missing for name in ratio.get(entry, [entry]))
        flags = [
            f"--{name}" if name in COUNTED else f"--input {name}=VALUE" for name in wanted if name not in inputs
        ]
        given = f"given is {told(inputs)}" if inputs else "nothing is given"
        hint = (
            "; FLOPs alone do not say how they are split" if c is not None and n is None and d is None else ""
        )
        raise BadInput(
            f"law {law.name} reads {', '.join(law.inputs)}: {' and '.join(flags)} missing ({given}){hint}"
        )
    return known


def told(inputs: Mapping[str, float]) -> str:
    """The run in words: 1e+09 params and 2e+10 tokens."""
    return " and ".join(f"{value:g} {name}" for name, value in inputs.items())


def beyond(
    fit: Mapping[str, Any], folder: Path, known: Mapping[str, float | None]
) -> tuple[dict[str, float] | None, str]:
    """How far the run lies beyond the largest fitted one, as factors, read from the fit's input where it still is.

    Args:
      known: params, tokens and flops of the run, those that are known.

    Returns:
      {"params", "tokens", "flops"}, of what the table has, or None, and a warning or "".
    """
    source = fit.get("input") if isinstance(fit.get("input"), Mapping) else {}
    assert isinstance(source, Mapping)
    path = source.get("path")
    candidates = [Path(path), folder / path] if isinstance(path, str) and path else []
    there = [candidate for candidate in candidates if candidate.exists()]
    reading = dataclasses.replace(
        TableReading.from_json(fit), signed=frozenset({"loss"}), spare=frozenset(COUNTED)
    )
    inputs = [source_of(candidate) for candidate in there]
    for candidate, group in [(table, group) for table in inputs for group in range(len(settings_of(table)))]:
        try:
            # what the fit was of is read along: rows without it were dropped
            table = read_table(candidate, ("loss",), COUNTED, reading=reading, group=group)
        except BadInput:
            continue
        if table.sha256 != source.get("sha256"):
            continue
        columns = dict(table.columns)
        if {"params", "tokens"} <= columns.keys() and known.get("params") and known.get("tokens"):
            # FLOPs by one convention on both sides
            columns["flops"] = 6.0 * columns["params"] * columns["tokens"]
            known = {**known, "flops": 6.0 * (known["params"] or 0.0) * (known["tokens"] or 0.0)}
        factors = {
            name: value / float(columns[name].max())
            for name in COUNTED
            if (value := known.get(name)) is not None and name in columns
        }
        far = [f"{factor:.3g} times the most {name}" for name, factor in factors.items() if factor > FAR]
        return factors, f"far beyond the fitted runs: {', '.join(far)}" if far else ""
    what = "has changed since the fit" if there else "is not there any more"
    return None, f"the fit's input {what}: how far the run lies beyond it is not known"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.forecast")


def command(
    fit: Path,
    /,
    *,
    params: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    input: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    level: float = 0.9,
    misfit: bool = False,
    reading: Flags = TableFlags(),  # noqa: B008 (frozen)
    out: Path,
) -> None:
    """A prediction written before the run that it is about.

    Args:
      fit: fit.json of analysis.fit
      params: N of the run to come
      tokens: D of the run to come
      flops: C of the run to come, for a law of FLOPs, or in place of one of the two
      input: another input of the law, such as unique_tokens=1e9
      level: of the interval
      misfit: widen the interval by the lack of fit that the fit's back-test found
      reading: of the table that was fitted, from which the run's distance is taken; as it was read then if not given
      out: the JSON file to write
    """
    others = cli.numbers(input, "--input")
    stored, sha256 = read_object(fit, "a fit.json")
    asked = reading.reading()
    if asked.rename:
        before = stored.get("columns")
        stored = {**stored, "columns": {**(before if isinstance(before, dict) else {}), **asked.rename}}
    stored |= {"drop_missing": True} if asked.drop_missing else {}
    try:
        value = forecast(stored, params, tokens, level, others, flops, misfit=misfit)
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith("--") else f"{fit}: {error}") from None
    known = {"params": value["params"], "tokens": value["tokens"], "flops": flops}
    factors, warning = beyond(stored, fit.parent, known)
    value["warnings"] += [warning] if warning else []
    value["extrapolation"] = factors
    value["fit"] = {"path": str(fit), "sha256": sha256}
    value["input"] = stored.get("input")
    value |= {name: stored[name] for name in ("columns", "drop_missing", "best_of") if name in stored}
    value["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    value["digest"] = digest_of(value)
    write_result(out, value)
    low, high = value["interval"]
    sys.stdout.write(
        f"loss {value['prediction']:.4f}, {level:.0%} interval {low:.4f} to {high:.4f}, at {told(value['inputs'])}\n"
        + "".join(f"  warning: {line}\n" for line in value["warnings"])
    )
