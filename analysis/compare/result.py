"""compare.json: what a comparison found, for other programs."""

from collections.abc import Sequence
from typing import Any

from analysis.compare.compare import RecipeComparison
from analysis.compare.sentences import sentence

HOW = {"shared": "shared, fitted", "own": "one a side, fitted"}


def to_json(found: Sequence[RecipeComparison]) -> dict[str, Any]:
    """Of two sides one object; of several an object with one comparison for each side but the baseline."""
    first = found[0]
    same = {"axis": first.choices.axis, "metric": first.choices.metric, "baseline": first.sides[0].label}
    inputs = [_input(first, 0), *(_input(one, 1) for one in found)]
    if len(found) == 1:
        return {**same, **_one(first), "inputs": inputs}
    warnings = list(dict.fromkeys(warning for one in found for warning in one.warnings))
    return {**same, "comparisons": [_one(one) for one in found], "warnings": warnings, "inputs": inputs}


def _one(found: RecipeComparison) -> dict[str, Any]:
    crossing = None
    if found.crossing is not None:
        crossing = {"loss": found.crossing[0], **_renamed(found.crossing[1].to_json(), "cost")}
    return {
        "against": found.sides[1].label,
        "sentence": sentence(found),
        "level": found.choices.level,
        "overall": found.overall.to_json(),
        "multiplier": [
            {"loss": float(loss), "cost": float(cost), **value.to_json()}
            for loss, cost, value in zip(found.losses, found.costs, found.multipliers, strict=True)
        ],
        "trend": _renamed(found.slope.to_json(), "slope"),
        "crossing": crossing,
        "asymptote": _asymptote(found),
        "at_target": found.target,
        "frontier": {"how": found.how, **found.parameters},
        "draws": found.choices.draws,
        "seed": found.choices.seed,
        "warnings": list(found.warnings),
    }


def _renamed(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: value["value"], "interval": value["interval"]}


def _asymptote(found: RecipeComparison) -> dict[str, Any]:
    if not found.floors:
        return {"how": "none", "value": None, "interval": None}
    if found.choices.floor == "given":
        return {"how": f"pinned, from {found.choices.source}", "value": found.choices.given, "interval": None}
    how = {"how": HOW[found.choices.floor]}
    if "both" in found.floors:
        return how | found.floors["both"].to_json()
    sides = [found.floors[name].to_json() for name in ("A", "B")]
    return how | {name: [side[name] for side in sides] for name in ("value", "interval")}


def _input(found: RecipeComparison, place: int) -> dict[str, Any]:
    side = found.sides[place]
    return {"label": side.label, **side.source, "costs": [float(side.cost.min()), float(side.cost.max())]}
