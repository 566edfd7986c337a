"""The best peak learning rate of each shape, and how far it moves, where runs of one shape differ in it."""

from collections.abc import Sequence

from analysis.figures.learning_rates import learning_rate_figure
from analysis.learning_rate import RateGroup, families, family_name, sentences, to_json
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.numbers import short_count

ORDER = 120
ANSWERS = ("lr_transfer", "learning_rate", "tune")
RESULT = File("learning_rate.json")
PICTURE = Picture("learning_rate", "Final loss against peak learning rate, one line a width.")


def section(study: Study) -> Section | None:
    """A table and a panel a family of shapes, where any shape has three peaks."""
    groups, sweep = study.groups, study.sweep
    if not groups:
        return None
    words = (
        "The best peak is the vertex of the parabola in log rate through the lowest loss and its two neighbours; "
        "losses are means over seeds."
    )
    return Section(
        title="Learning rate",
        said=tuple(sentences(groups)),
        answer=" ".join(sentences(groups)),
        blocks=(
            Paragraph(words),
            *(_rows(members, groups) for members in families(groups).values()),
            PICTURE.by(lambda: learning_rate_figure(_panels(groups)), sweep.sha256),
        ),
        results={
            RESULT: to_json(groups, {"path": sweep.name, "sha256": sweep.sha256, "rows": len(sweep.runs)})
        },
    )


def _panels(groups: Sequence[RateGroup]) -> dict[str, list[RateGroup]]:
    panels: dict[str, list[RateGroup]] = {}
    for members in families(groups).values():
        name = family_name(members[0], groups)
        panels[name if name not in panels else f"{name} ({len(panels) + 1})"] = members
    return panels


def _rows(members: Sequence[RateGroup], groups: Sequence[RateGroup]) -> Rows:
    rates = sorted({rate for group in members for rate in group.rates.tolist()})
    rows = []
    for group in members:
        known = dict(zip(group.rates.tolist(), group.losses.tolist(), strict=True))
        losses = [
            "" if rate not in known else "failed" if known[rate] == float("inf") else f"{known[rate]:.4f}"
            for rate in rates
        ]
        best = f"{group.best:.3g}" + ("" if group.bracketed else " (edge of the grid)")
        rows.append(
            (
                f"{family_name(group, groups)} {group.width}x{group.depth}",
                short_count(group.params),
                *losses,
                best,
            )
        )
    return Rows(("shape", "parameters", *(f"{rate:g}" for rate in rates), "best peak"), rows)
