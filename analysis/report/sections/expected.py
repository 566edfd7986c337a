"""What plan expected of the sweep before its first run, and what came."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fit.fit import Fit
from analysis.report.section import Paragraph, Rows, Section
from analysis.report.study import Study
from core.numbers import finite, number, percent
from core.rundir import EXPECTED, PLAN

ORDER = 85
OF_EQUAL_SETTINGS = True
LEVEL = 0.9  # of plan's intervals
NAMES = ("alpha", "beta")
NOT_DETERMINED = "not determined"


def section(study: Study) -> Section | None:
    """Expected half-widths and noise beside those found, where plan's expectation lies beside the runs."""
    planned = _planned(study)
    if not planned:
        return None
    fit = study.fit
    table = Rows(
        ("half-width of the 90% interval", "expected", "found"),
        [
            *((name, _expected(planned, name), _found(fit, name)) for name in NAMES),
            ("noise of a run", _noise(planned), "no law" if fit is None else percent(fit.residual_sd)),
        ],
    )
    words = (
        f"Before the first run, plan expected these intervals if the law holds and all runs finish. The noise it took: "
        f"{planned.get('noise_from')}."
    )
    return Section("Expected and found", (Paragraph(words), table), said=(_sentence(planned, fit),))


def _planned(study: Study) -> Mapping[str, Any]:
    try:
        value = json.loads(study.sweep.read(PLAN, EXPECTED) or b"{}")
    except (ValueError, RecursionError):
        return {}
    widths = ("half_width_90", "half_width_90_high")
    known = isinstance(value, dict) and all(isinstance(value.get(key), dict) for key in widths)
    return value if known and finite(value.get("noise")) else {}


def _expected(planned: Mapping[str, Any], name: str) -> str:
    ends = [finite(planned.get(key, {}).get(name)) for key in ("half_width_90", "half_width_90_high")]
    return _span([end for end in ends if end is not None], number) if ends[0] is not None else NOT_DETERMINED


def _noise(planned: Mapping[str, Any]) -> str:
    ends = [finite(planned.get(key)) for key in ("noise", "noise_high")]
    return _span([end for end in ends if end is not None], percent)


def _span(ends: list[float], said: Any) -> str:
    shown = list(dict.fromkeys(said(end) for end in ends))
    return " to ".join(shown)


def _found(fit: Fit | None, name: str) -> str:
    width = None if fit is None else half_width(fit, name)
    if fit is None or width is None:
        return "no law" if fit is None else "no interval"
    return number(width) + ("" if fit.identified[name] else " (not identified)")


def half_width(fit: Fit, name: str) -> float | None:
    """Of the 90% interval of a parameter, from the draws; None where there are none."""
    if fit.draws is None:
        return None
    drawn = fit.draws[:, fit.parameter_names.index(name)]
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size or name in fit.starts.get("at_bound", ()):
        return None
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(high - low) / 2


def _sentence(planned: Mapping[str, Any], fit: Fit | None) -> str:
    widths = {name: _expected(planned, name) for name in NAMES}
    if NOT_DETERMINED in widths.values():
        return "Plan expected no law from these runs: too few sizes or data sizes."
    expected = ", ".join(f"{name} within {width}" for name, width in widths.items())
    if fit is None:
        return f"Plan expected {expected} (noise of a run {_noise(planned)}); there is no law to hold it against yet."
    came = ", ".join(f"{name} within {_found(fit, name)}" for name in NAMES)
    return (
        f"Plan expected {expected} at a noise of {_noise(planned)}; these runs give {came}, and land within "
        f"{percent(fit.residual_sd)} of the law (one standard deviation)."
    )
