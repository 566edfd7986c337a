"""Short names of things that differ in settings: the fewest settings, and of their keys the fewest last parts."""

import itertools
from collections.abc import Mapping, Sequence

LONGEST_VALUE = 32
MOST_KEYS = 8  # whose subsets are tried: beyond, all are named
LEFT_OUT = "…"


def short_names(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """One name for each {dotted key: value}: "mup" and "standard", or "qk_norm=false" where the value is no name.

    No two that differ have one name.
    """
    keys = _telling(settings, list(dict.fromkeys(key for one in settings for key in one)))
    words, values = last_parts(keys), {key: [one.get(key, "") for one in settings] for key in keys}
    shown = {key: dict(zip(values[key], short_values(values[key]), strict=True)) for key in keys}
    owners: dict[str, set[str]] = {}
    for key in keys:
        for value in values[key]:
            owners.setdefault(value, set()).add(key)
    return [
        ", ".join(
            shown[key][value] if _is_name(value) and owners[value] == {key} else f"{words[key]}={shown[key][value]}"
            for key in keys
            if (value := one.get(key, ""))
        )
        for one in settings
    ]  # fmt: skip


def last_parts(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted key the fewest of its last parts that no other key ends in."""
    shortest = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        shortest[key] = next((end for end in ends if not any(one.endswith(f".{end}") for one in others)), key)
    return shortest


def short_values(values: Sequence[str]) -> list[str]:
    """Each value in at most LONGEST_VALUE characters; those that differ differ still. Paths differ at their end."""
    cuts = [value if len(value) <= LONGEST_VALUE else LEFT_OUT + value[1 - LONGEST_VALUE :] for value in values]
    if len(set(cuts)) == len(set(values)):
        return cuts
    starts = [
        value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + LEFT_OUT for value in values
    ]
    return starts if len(set(starts)) == len(set(values)) else list(values)


def _telling(settings: Sequence[Mapping[str, str]], keys: list[str]) -> list[str]:
    """The fewest keys whose values tell apart what all of them tell apart; of equally many the first ones."""
    distinct = len({tuple(one.get(key, "") for key in keys) for one in settings})
    for count in range(1, len(keys) if len(keys) <= MOST_KEYS else 1):
        for chosen in itertools.combinations(keys, count):
            found = {tuple(one.get(key, "") for key in chosen) for one in settings}
            if len(found) == distinct and all(map(any, found)):  # nothing goes by no name
                return list(chosen)
    return keys


def _is_name(value: str) -> bool:
    """Whether a value says by itself what it is of: a word, not a number, a switch or a rule."""
    return value[:1].isalpha() and " " not in value and value not in ("true", "false", "none")
