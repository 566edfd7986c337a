"""isoFLOP valleys and the envelope: the best size at each budget, read off the runs without a law."""

from analysis.figures.isoflop import isoflop_slices
from analysis.fit.identified import known_to_within_itself
from analysis.isoflop.find import Isoflop
from analysis.isoflop.growth import Valley
from analysis.report.section import Block, File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.numbers import number, short_count, span

ORDER = 90
OF_EQUAL_SETTINGS = True
ANSWERS = ("isoflop",)
RESULT = File("isoflop.json")
ISOFLOP = Picture(
    "isoflop", "Loss against size at equal compute, with the valleys, and the best size they give."
)
ENVELOPE = Picture(
    "envelope", "Loss against compute with the lower envelope of the runs, and the best size along it."
)

MOST_ROWS = 200


def section(study: Study) -> Section:
    """The valleys, or why there are none."""
    found, columns = study.isoflop, study.comparable
    pairs = ((ISOFLOP, study.isoflop), (ENVELOPE, study.envelope))
    return Section(
        title="isoFLOP valleys",
        said=(_sentence(study),),
        answer=_sentence(study) if study.isoflop is not None else "",
        warnings=() if found is None else tuple(f"isoFLOP: {warning}" for warning in found.warnings),
        blocks=(
            _valleys(study),
            *(
                picture.by(lambda result=result: isoflop_slices(result, columns))  # type: ignore[misc]
                for picture, result in pairs
                if result is not None
            ),
        ),
        results={} if found is None else {RESULT: found.to_json(study.input)},
    )


def _sentence(study: Study) -> str:
    found = study.isoflop
    if found is None:
        return f"isoFLOP valleys: none; {study.why_no_isoflop}."
    good = sum(valley.ok for valley in found.valleys)
    a, ends = found.derived["a_opt"], found.intervals["a_opt"]
    head = f"isoFLOP slices: {good} of {len(_judged(found))} budgets {'has' if good == 1 else 'have'} a valley"
    if a is None:
        return f"{head}, too few for a power law: more budgets, or sizes on both sides of the best."
    if ends is None or not known_to_within_itself(a, ends):
        return f"{head}; how the best size grows is not identified" + (
            f" (as C^{span(ends)})." if ends else "."
        )
    return f"{head}; the best size grows as C^{number(a)} ({span(ends)})."


def _valleys(study: Study) -> Block:
    if study.isoflop is None:
        return Paragraph(f"None: {study.why_no_isoflop}.")
    judged = _judged(study.isoflop)
    if not judged:
        return Paragraph("No budget has enough sizes.")
    return Rows.of(
        judged[:MOST_ROWS],
        {
            "FLOPs": lambda one: f"{one.flops:.3g}",
            "sizes": lambda one: str(one.sizes),
            "best size": lambda one: short_count(one.params_opt) if one.params_opt else "",
            "its tokens": lambda one: short_count(one.tokens_opt) if one.tokens_opt else "",
            "its loss": lambda one: f"{one.loss_opt:.4f}" if one.loss_opt else "",
            "interval of the size": lambda one: (
                " to ".join(map(short_count, one.params_interval)) if one.params_interval else ""
            ),
            "why not": lambda one: one.why,
        },
        text=("why not",),
    )


def _judged(found: Isoflop) -> list[Valley]:
    """The budgets with enough sizes to look for a valley."""
    return [valley for valley in found.valleys if valley.ok or "too few sizes" not in valley.why]
