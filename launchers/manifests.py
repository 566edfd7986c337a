"""Manifests for engines that are not run here: how a value becomes YAML, and what every manifest shares."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.codec import canonical_json
from training.spec import RunSpec

PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z_]{2,}")

# All but what YAML lets stand in a text as it is; \U and 8 hex digits says any of it.
NOT_PRINTABLE = re.compile(
    "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def to_yaml(value: Any, indent: int = 0) -> str:
    """Plain data as YAML. Every text is a double-quoted JSON string, which YAML reads as the same text, so that no
    value can end its line or become a number; a text of several lines is one too.

    Args:
      value: mappings, lists, texts, numbers, booleans, None.
      indent: spaces before every line.
    """
    space = " " * indent
    if isinstance(value, Mapping) and value:
        return "".join(f"{space}{_key(key)}:{_after(item, indent)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        lines = []
        for item in value:
            text = to_yaml(item, indent + 2)
            is_block = isinstance(item, Mapping | list | tuple) and bool(item)
            lines.append(f"{space}- {text.lstrip(' ')}" if is_block else f"{space}- {_scalar(item)}\n")
        return "".join(lines)
    return f"{space}{_scalar(value)}\n"


def _key(key: str) -> str:
    # YAML 1.1 reads some bare words as truth values, null or numbers; those are quoted.
    plain = PLAIN_KEY.fullmatch(key) and key.lower() not in ("true", "false", "yes", "off", "null")
    return key if plain else _scalar(key)


def _after(item: Any, indent: int) -> str:
    if isinstance(item, Mapping | list | tuple) and item:
        return "\n" + to_yaml(item, indent + 2)
    return f" {_scalar(item)}\n"


def _scalar(item: Any) -> str:
    if isinstance(item, Mapping | list | tuple):
        return "{}" if isinstance(item, Mapping) else "[]"
    text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    if isinstance(item, float) and "." not in text:
        return text.replace("e", ".0e")  # YAML 1.1 wants a point in a number with an exponent
    return NOT_PRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08X}", text)


# One run, or the runs of one pack, in one job.
Pack = Sequence[RunSpec]


def run_command(python: str, sweep: str, cache: str, pack: Pack) -> list[str]:
    """The command that trains one run or a pack on a machine that has no sweep's folder yet: specs travel with it."""
    program = "training.run" if len(pack) == 1 else "training.pack"
    directories = [f"{sweep}/{spec.run_id}" for spec in pack]
    specs = [word for spec in pack for word in ("--spec", canonical_json(spec))]
    return [python, "-m", program, *directories, "--cache", cache, *specs]


def job_name(pack: Pack) -> str:
    """The run_id of a run alone; of a pack the first one's with the number of its runs."""
    return pack[0].run_id if len(pack) == 1 else f"{pack[0].run_id}-pack{len(pack)}"


def families(packs: Iterable[Pack]) -> list[list[Pack]]:
    """Packs that share a trunk, those of trunks and then of branches; in the order of the sweep.

    A pack of branches belongs to the family of each of its trunks, and so do the packs of these.
    """
    family_of: dict[str, list[Pack]] = {}  # by the name of a trunk, or of a run that has none
    for pack in packs:
        names = {spec.parent or spec.run_id: None for spec in pack}
        first, *others = {id(family): family for name in names if (family := family_of.get(name))}.values() or (
            [],
        )
        for family in others:
            first += family
            names |= {spec.parent or spec.run_id: None for other in family for spec in other}
        first.append(pack)
        family_of |= dict.fromkeys(names, first)
    distinct = {id(family): family for family in family_of.values()}
    return [sorted(family, key=lambda pack: pack[0].parent is not None) for family in distinct.values()]
