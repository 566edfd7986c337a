"""What a report says where runs of one shape differ in learning rate: the best peak of each, and how far it moves."""

import json
from collections.abc import Sequence

from analysis.figures.learning_rates import learning_rate_figure
from analysis.figures.style import count_text, render
from analysis.learning_rate import Group, families, sentences, to_json
from analysis.logs.load import Sweep
from analysis.report.document import Block, Heading, Paragraph, Picture, Rows

NAME = "learning_rate"


def learning_rate_part(
    sweep: Sweep, groups: Sequence[Group]
) -> tuple[list[Block], dict[str, str | bytes], list[str]]:
    """The section, its files and its sentences for the summary; all empty where no shape has three peaks."""
    if not groups:
        return [], {}, []
    source = {"path": sweep.name, "sha256": sweep.sha256, "rows": len(sweep.runs)}
    svg, png = render(learning_rate_figure(_panels(groups)), NAME, sweep.sha256)
    picture = Picture(NAME, "Final loss against peak learning rate, one line a width.", svg, png)
    result = json.dumps(to_json(groups, source), indent=1, allow_nan=False) + "\n"
    files: dict[str, str | bytes] = {f"{NAME}.json": result, f"{NAME}.svg": svg, f"{NAME}.png": png}
    blocks: list[Block] = [
        Heading("Learning rate"),
        Paragraph(
            "The best peak is the vertex of the parabola in log rate through the lowest loss and its two neighbours; "
            "losses are means over seeds."
        ),
        *(_rows(members) for members in families(groups).values()),
        picture,
    ]
    return blocks, files, sentences(groups)


def _panels(groups: Sequence[Group]) -> dict[str, list[Group]]:
    panels: dict[str, list[Group]] = {}
    for members in families(groups).values():
        name = members[0].parametrization
        panels[name if name not in panels else f"{name} ({len(panels) + 1})"] = members
    return panels


def _rows(members: Sequence[Group]) -> Rows:
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
            (f"{group.parametrization} {group.width}x{group.depth}", count_text(group.params), *losses, best)
        )
    return Rows(("shape", "parameters", *(f"{rate:g}" for rate in rates), "best peak"), rows)
