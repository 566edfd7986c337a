"""Runs that differ in a setting that a law does not know: which groups they make, and what each says by itself."""

from analysis.report.section import Paragraph, Rows, Section
from analysis.report.study import Study
from core.numbers import number, short_count

ORDER = 5
MOST_ROWS = 40


def section(study: Study) -> Section | None:
    """One row a group, where there are several."""
    if not study.alone:
        return None
    hidden = len(study.alone) - len(study.parts)
    words = (
        "Each group is looked at by itself; sections below name the group that they are about. To keep runs of other "
        "settings apart from the start, train them under a --name of their own."
    )
    return Section(
        title="Groups of equal settings",
        blocks=(
            Paragraph(words),
            Rows.of(
                study.alone[:MOST_ROWS],
                {
                    "group": lambda one: one.label,
                    "settings": lambda one: one.settings[0].label,
                    "runs": lambda one: str(len(one.sweep.usable)),
                    "parameters": lambda one: _range([run.count() or 0.0 for run in one.sweep.usable]),
                    "tokens": lambda one: _range([run.tokens or 0.0 for run in one.sweep.usable]),
                    "law": _law,
                },
                text=("settings", "law"),
            ),
            *(
                [Paragraph(f"{hidden} of the groups have no section of their own.")]
                if hidden and study.parts
                else []
            ),
        ),
    )


def _law(part: Study) -> str:
    if part.fit is None:
        return f"none: {part.why_no_fit}"
    if not part.fit.known:
        return "fitted, not identified"
    exponents = (f"{name} {number(part.fit.parameters[name])}" for name in ("alpha", "beta"))
    return ", ".join(exponents)


def _range(values: list[float]) -> str:
    low, high = short_count(min(values)), short_count(max(values))
    return low if low == high else f"{low} to {high}"
