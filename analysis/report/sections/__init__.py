"""Sections of a report that appear when a sweep's runs call for them. A new one is a new file and a line below."""

from analysis.report.sections import approaches, powers, repeated, shapes, tokenizers
from analysis.report.sections.base import Drawing, Known, Section

__all__ = ["Drawing", "Known", "Section", "sections"]

MAKERS = (tokenizers.section, repeated.section, shapes.section, approaches.section, powers.section)


def sections(known: Known) -> tuple[Section, ...]:
    """Every section that the runs have the data for, in the order of the page."""
    return tuple(section for make in MAKERS if (section := make(known)) is not None)
