"""The laws by name. A new law is one new file here, which makes a `Law` (analysis/laws/base.py) at its top level."""

import importlib
import pkgutil
from collections.abc import Container

from analysis.laws.base import Law
from core.errors import BadInput


def _laws_of_this_folder() -> dict[str, Law]:
    laws: dict[str, Law] = {}
    for module in pkgutil.iter_modules(__path__):
        for law in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(law, Law) and laws.setdefault(law.name, law) is not law:
                raise ValueError(f"analysis/laws/{module.name}.py: another law is named {law.name!r} already")
    return laws


LAWS = _laws_of_this_folder()


def get_law(name: str) -> Law:
    """The law of that name.

    Raises:
      BadInput: there is none; the message lists the names.
    """
    if name not in LAWS:
        raise BadInput(f"law {name!r} is unknown; the laws are {', '.join(sorted(LAWS))}")
    return LAWS[name]


def compared_laws(columns: Container[str], target: str = "loss") -> tuple[Law, ...]:
    """The laws of `target` that are compared wherever a table has their inputs."""
    return tuple(
        law
        for law in LAWS.values()
        if law.compare and law.target == target and all(name in columns for name in law.inputs)
    )
