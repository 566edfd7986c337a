"""One plain sentence per verdict."""

from collections.abc import Sequence
from typing import Any

from analysis.emergence.metric import MetricCheck
from analysis.emergence.settings import PRESENCE_GAIN, Settings

METRIC_NAMES = {"nll": "the loss per token", "brier": "the Brier score", "edit_distance": "the edit distance"}


def quantity(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def sentence(entry: dict[str, Any], checks: Sequence[MetricCheck], settings: Settings) -> str:
    """What the verdict means for this task, with its numbers."""
    task, axis, verdict, q = entry["task"], entry["axis"], entry["verdict"], entry["q"]
    unit = "nats of loss" if axis == "loss" else "decades"
    if verdict == "not enough scales":
        return (
            f"{task}: {'; '.join(entry['notes'][:1]) or 'too few scales'}; nothing can be said about emergence."
        )
    if entry["presence"] is None:
        check = checks[0]
        broken = "departs from" if verdict == "delayed onset" else "follows"
        return (
            f"{task}: {METRIC_NAMES[check.metric]} {broken} a smooth law in {axis} (p = {quantity(check.p)})."
        )
    seen = entry["presence"]
    could = _could(entry["power"], unit)
    if verdict == "inverse":
        return (
            f"{task}: accuracy falls with {axis}, beyond noise: from {quantity(seen['accuracy'] - seen['gain'])} at "
            f"the smallest scale to {quantity(seen['accuracy'])} at the largest (q = {quantity(q['inverse'])})."
        )
    if verdict == "none":
        if seen["p"] >= 0.01:
            why = f"accuracy {quantity(seen['accuracy'])} at the largest scale is not above chance"
        else:
            why = f"the gain over these scales, {seen['gain']:.3f}, is below {PRESENCE_GAIN}"
        return f"{task}: no ability appears with {axis}: {why}; {could}."
    if verdict == "smooth":
        return (
            f"{task}: accuracy rises by {seen['gain']:.2f} with {axis} as smoothly as a line or a wide S-curve "
            f"(q = {quantity(min(q['delayed_onset'], q['sharp']))}); {could}{_short_range(entry, settings, unit)}."
        )
    place = entry["onset"]
    where = (
        f"near {axis} = {quantity(place['scale'])} [{', '.join(quantity(end) for end in place['interval'])}]"
    )
    if verdict == "metric artefact":
        names = " and ".join(METRIC_NAMES[check.metric] for check in checks)
        verb = "do" if len(checks) > 1 else "does"
        best = max(check.p for check in checks)
        return (
            f"{task}: accuracy breaks {where}, but {names} {verb} not (p = {quantity(best)}): "
            "the break belongs to the metric."
        )
    tail = _metric_tail(entry, checks)
    width = quantity(entry["effect"]["sharp_within"])
    short = _short_range(entry, settings, unit)
    if verdict == "sharp":
        return (
            f"{task}: accuracy rises faster than any S-curve {width} {unit} wide, {where} "
            f"(q = {quantity(q['sharp'])}){tail}{short}."
        )
    return (
        f"{task}: accuracy rises later than the smooth law at smaller scales would have it, {where} "
        f"(q = {quantity(q['delayed_onset'])}){tail}{short}."
    )


def _short_range(entry: dict[str, Any], settings: Settings, unit: str) -> str:
    """What is said where the scales span too little for `w0`; empty otherwise."""
    effect, asked = entry["effect"], settings.w0 * settings.unit(entry["axis"])
    if effect is None or effect["sharp_within"] >= asked:
        return ""
    steep = "" if entry["verdict"] == "sharp" else "; a rise over this range is only steep"
    return (
        f"; the scales span {quantity(effect['span'])} {unit}, so sharp means within "
        f"{quantity(effect['sharp_within'])}, half of that, not {quantity(asked)}{steep}"
    )


def _metric_tail(entry: dict[str, Any], checks: Sequence[MetricCheck]) -> str:
    if not checks:
        return "; no continuous metric was given, so the metric may be the cause"
    broken = [METRIC_NAMES[m["metric"]] for m in entry["metric_check"]["metrics"] if m["breaks"]]
    whole = [METRIC_NAMES[m["metric"]] for m in entry["metric_check"]["metrics"] if not m["breaks"]]
    tail = f"; {' and '.join(broken)} break{'s' * (len(broken) == 1)} too"
    return tail + (f", {' and '.join(whole)} {'does' if len(whole) == 1 else 'do'} not" if whole else "")


def _could(power: dict[str, Any] | None, unit: str) -> str:
    if power is None:
        return "power was not computed"
    if power["smallest_break"] is None and power["widest_rise"] is None:
        return "this design would have missed even the largest break more often than one time in five"
    parts = []
    if power["smallest_break"] is not None:
        parts.append(f"a late break of {quantity(power['smallest_break'])}")
    if power["widest_rise"] is not None:
        parts.append(f"a full rise within {quantity(power['widest_rise'])} {unit}")
    return f"{' or '.join(parts)} would have been seen with {power['power']:.0%} power"
