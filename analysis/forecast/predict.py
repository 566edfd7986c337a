"""A prediction written before the run that it is about.

    python -m analysis.forecast fit.json --params 1e9 --tokens 2e10 --out forecast.json

The file holds the prediction with its interval, the hashes of the fit and of the fit's input, the date, and a
digest of itself; `analysis.forecast.score` compares it with the run when it has landed.
"""

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import UseAppendAction, arg

from analysis.commands import digest_of, read_object, write_result
from analysis.fit.fit import Fit
from core import cli
from core.errors import BadInput

MOST = 1e30  # of any input: products of several stay finite
UNIDENTIFIED = "from a law that its table does not identify"  # how the warning of such a forecast begins
FAR = 10.0  # a forecast further than this factor beyond the fitted runs is warned of


def forecast(
    fit: Mapping[str, Any],
    params: float,
    tokens: float,
    level: float = 0.9,
    others: Mapping[str, float] | None = None,
    unidentified: bool = False,
) -> dict[str, Any]:
    """What a fit says of one run.

    Args:
      fit: the contents of fit.json.
      params, tokens: N and D of the run, in the units of the fit's table.
      level: of the interval, in which the run itself should land: parameters and noise are both in it.
      others: further inputs of the law, e.g. unique_tokens.
      unidentified: whether a law that its table does not identify may be asked; the forecast then says so.

    Returns:
      law, params, tokens, inputs, prediction, interval, level and warnings.

    Raises:
      BadInput: no fit, one that is not identified, an input that is missing or not positive, or no interval.
    """
    inputs = {"params": params, "tokens": tokens, **(others or {})}
    for name, value in inputs.items():
        if not 0 < value <= MOST:
            raise BadInput(
                f"--{name.replace('_', '-')} {value:g}: must be positive and finite, at most {MOST:g}"
            )
    if not 0 < level < 1:
        raise BadInput(f"--level {level:g}: must be between 0 and 1")
    fitted = Fit.from_json(fit)
    if fitted.law.target != "loss":
        raise BadInput(f"law {fitted.law.name} predicts {fitted.law.target}, not loss; forecasts are of loss")
    if not (fitted.known or unidentified):
        raise BadInput(fitted.no_forecast)
    row = {name: np.array([value]) for name, value in {"flops": 6.0 * params * tokens, **inputs}.items()}
    value = float(fitted.predict(row)[0])
    low, high = (float(end[0]) for end in fitted.predict_interval(row, level=level))
    if not np.isfinite([value, low, high]).all():
        raise BadInput(
            f"the fit gives no finite prediction with an interval at {params:g} params, {tokens:g} tokens"
        )
    warnings = [f"fit: {warning}" for warning in fitted.warnings]
    if not fitted.known:
        warnings.insert(0, f"{UNIDENTIFIED} ({fitted.why_unknown})")
    if not low <= value <= high:
        warnings.append("the prediction lies outside its own interval: the resamples are skewed")
    return {
        "law": fitted.law.name,
        "params": params,
        "tokens": tokens,
        "inputs": inputs,
        "prediction": value,
        "interval": [low, high],
        "level": level,
        "warnings": warnings,
    }


def beyond(
    fit: Mapping[str, Any], folder: Path, params: float, tokens: float
) -> tuple[dict[str, float] | None, str]:
    """How far the run lies beyond the largest fitted one, as factors, read from the fit's input where it still is.

    Returns:
      {"params", "tokens", "flops"} or None, and a warning or "".
    """
    # polars: only where the table of the fit is at hand
    from analysis.logs.read import read_table, settings_of

    source = fit.get("input") if isinstance(fit.get("input"), Mapping) else {}
    assert isinstance(source, Mapping)
    path = source.get("path")
    candidates = [Path(path), folder / path] if isinstance(path, str) and path else []
    there = [candidate for candidate in candidates if candidate.exists()]
    for candidate, group in [(path, group) for path in there for group in range(len(settings_of(path)))]:
        table = read_table(candidate, optional=(), group=group)
        if table.sha256 != source.get("sha256"):
            continue
        n, d = table.columns["params"], table.columns["tokens"]
        factors = {
            "params": params / float(n.max()),
            "tokens": tokens / float(d.max()),
            "flops": params * tokens / float((n * d).max()),
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
    params: float,
    tokens: float,
    input: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    level: float = 0.9,
    out: Path,
) -> None:
    """A prediction written before the run that it is about.

    Args:
      fit: fit.json of analysis.fit
      params: N of the run to come
      tokens: D of the run to come
      input: another input of the law, such as unique_tokens=1e9
      level: of the interval
      out: the JSON file to write
    """
    others = cli.numbers(input, "--input")
    stored, sha256 = read_object(fit, "a fit.json")
    try:
        value = forecast(stored, params, tokens, level, others)
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith("--") else f"{fit}: {error}") from None
    factors, warning = beyond(stored, fit.parent, params, tokens)
    value["warnings"] += [warning] if warning else []
    value["extrapolation"] = factors
    value["fit"] = {"path": str(fit), "sha256": sha256}
    value["input"] = stored.get("input")
    value["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    value["digest"] = digest_of(value)
    write_result(out, value)
    low, high = value["interval"]
    sys.stdout.write(
        f"loss {value['prediction']:.4f}, {level:.0%} interval {low:.4f} to {high:.4f}, at {params:g} params and "
        f"{tokens:g} tokens\n" + "".join(f"  warning: {line}\n" for line in value["warnings"])
    )
