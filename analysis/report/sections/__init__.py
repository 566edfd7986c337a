"""The sections of a report: every file of this folder is one. See analysis/report/section.py."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import cast

from analysis.report.section import File, Maker, Picture, Section
from analysis.report.study import Study


def sections_of(study: Study) -> dict[str, Section]:
    """Every section that the sweep asks for, by the name of its file, in the order of the page."""
    return {name: section for name, section in _made(study) if section is not None}


def _made(study: Study) -> Iterator[tuple[str, Section | None]]:
    for name, maker in makers().items():
        if not (study.parts and getattr(maker, "OF_EQUAL_SETTINGS", False)):
            yield name, maker.section(study)
            continue
        for part in study.parts:
            section = maker.section(part)
            yield f"{name}-{part.place}", section and section.of_part(part.label, part.place)


def makers() -> dict[str, Maker]:
    """The files of this folder by name, in their ORDER."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {name: cast(Maker, importlib.import_module(f"{__name__}.{name}")) for name in names}
    return dict(sorted(found.items(), key=lambda item: item[1].ORDER))


def declared() -> set[str]:
    """Names of all files that some section may write: `File` and `Picture` constants, alone or in a tuple."""
    return {name for maker in makers().values() for value in vars(maker).values() for name in _files(value)}


def _files(value: object) -> Iterator[str]:
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, File):
            yield one
        elif isinstance(one, Picture):
            yield from one.files
