"""Which choices of a sweep are not the usual ones, though no column of a plan shows them."""

import collections
from collections.abc import Sequence
from typing import Any

from training.spec import RunSpec

KEYS = ("optim.name", "data.near_duplicates", "objective", "model.architecture")


def unusual(specs: Sequence[RunSpec]) -> dict[str, dict[str, int]]:
    """How many runs have each value, by dotted key: of KEYS in which any run differs from the default."""
    usual, found = RunSpec(), {}
    for key in KEYS:
        counts = collections.Counter(str(_at(spec, key)) for spec in specs)
        if set(counts) != {str(_at(usual, key))}:
            found[key] = dict(sorted(counts.items()))
    return found


def sentence(found: dict[str, dict[str, int]]) -> str:
    """`not the default: optim.name lion; data.near_duplicates 0.0 in 6, 0.5 in 6 runs`; empty where all is usual."""
    if not found:
        return ""
    parts = []
    for key, counts in found.items():
        values = [value if len(counts) == 1 else f"{value} in {count}" for value, count in counts.items()]
        parts.append(f"{key} {', '.join(values)}{' runs' if len(counts) > 1 else ''}")
    return f"not the default: {'; '.join(parts)}"


def _at(spec: RunSpec, key: str) -> Any:
    value: Any = spec
    for name in key.split("."):
        value = getattr(value, name)
    return value
