"""Depth against width: losses of different shapes at the same number of parameters."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis.figures.families import Family, Panel, family_panels
from analysis.figures.style import size_colours
from analysis.logs.groups import OF_SIZE, SAME_SIZE, groups_of
from analysis.logs.load_run import Run, at, number
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.numbers import percent, short_count

ORDER = 40
ANSWERS = ("depth_width",)
RESULT = File("shapes.json")
PICTURE = Picture(
    "shapes", "Loss above that of the best shape of the same size and tokens, against width over depth."
)

FEWEST_SHAPES = 3


@dataclasses.dataclass(frozen=True)
class ShapeLoss:
    """One shape on one number of tokens; loss is the mean over seeds."""

    params: float
    tokens: float
    width: float
    depth: float
    loss: float
    runs: int

    @property
    def aspect(self) -> float:
        return self.width / self.depth


def section(study: Study) -> Section | None:
    """Loss by aspect ratio, where at least 3 shapes share a size and a number of tokens."""
    apart = groups_of(study.sweep.usable, known=OF_SIZE)
    groups = [family for one in apart for family in families(one.runs)]
    if not groups:
        return None
    return Section(
        title="Depth against width",
        said=tuple(_sentence(group) for group in _longest(groups)),
        answer=_sentence(_longest(groups)[-1]),
        blocks=(
            Paragraph(
                f"Shapes whose parameters agree within {SAME_SIZE - 1:.0%}, each group on the same number of tokens. "
                "The learning rate is the same for all shapes of a size, so a shape that wants another one is at a "
                "disadvantage; FLOPs a token differ a little, as attention costs more in deep networks."
            ),
            _table(groups),
            PICTURE.by(lambda: family_panels(_panels(groups))),
        ),
        results={
            RESULT: {
                "same_size_within": SAME_SIZE - 1,
                "groups": [[dataclasses.asdict(shape) for shape in group] for group in groups],
            }
        },
    )


def _table(groups: Sequence[list[ShapeLoss]]) -> Rows:
    return Rows.of(
        [(shape, min(one.loss for one in group)) for group in groups for shape in group],
        {
            "parameters": lambda one: short_count(one[0].params),
            "tokens": lambda one: short_count(one[0].tokens),
            "depth": lambda one: f"{one[0].depth:g}",
            "width": lambda one: f"{one[0].width:g}",
            "width / depth": lambda one: f"{one[0].aspect:.3g}",
            "runs": lambda one: str(one[0].runs),
            "loss": lambda one: f"{one[0].loss:.4f}",
            "above the best": lambda one: percent(one[0].loss / one[1] - 1),
        },
    )


def families(runs: Sequence[Run]) -> list[list[ShapeLoss]]:
    """Groups of shapes of about equal size on equal tokens, by size and tokens; each from shallow to deep."""
    measured: dict[tuple[float, float, float, float], list[float]] = {}
    for run in runs:
        width, depth = (number(at(run.spec, "model", name)) for name in ("width", "depth"))
        params, loss = run.count(), run.final()
        if width and depth and params and loss and run.tokens:
            measured.setdefault((run.tokens, params, width, depth), []).append(loss)
    groups: list[list[ShapeLoss]] = []
    for (tokens, params, width, depth), losses in sorted(measured.items()):
        shape = ShapeLoss(params, tokens, width, depth, float(np.mean(losses)), len(losses))
        last = groups[-1][0] if groups else None
        if last and last.tokens == tokens and params <= last.params * SAME_SIZE:
            groups[-1].append(shape)
        else:
            groups.append([shape])
    wanted = [group for group in groups if len({(one.width, one.depth) for one in group}) >= FEWEST_SHAPES]
    ordered = [sorted(group, key=lambda one: (one.depth, one.width)) for group in wanted]
    return sorted(ordered, key=lambda group: (group[0].params, group[0].tokens))


def _longest(groups: Sequence[list[ShapeLoss]]) -> list[list[ShapeLoss]]:
    """Of each size, the group on the most tokens."""
    chosen: list[list[ShapeLoss]] = []
    for group in groups:
        if chosen and chosen[-1][0].params * SAME_SIZE >= group[0].params >= chosen[-1][0].params / SAME_SIZE:
            chosen[-1] = group
        else:
            chosen.append(group)
    return chosen


def _sentence(group: Sequence[ShapeLoss]) -> str:
    best, worst = min(group, key=lambda one: one.loss), max(group, key=lambda one: one.loss)
    aspects = [one.aspect for one in group]
    return (
        f"At {short_count(best.params)} parameters on {short_count(best.tokens)} tokens the best of {len(group)} "
        f"shapes is {best.depth:g} deep and {best.width:g} wide (width / depth {best.aspect:.3g}); from "
        f"{min(aspects):.3g} to {max(aspects):.3g} in width / depth no shape is worse by more than "
        f"{percent(worst.loss / best.loss - 1)}."
    )


def _panels(groups: Sequence[list[ShapeLoss]]) -> list[Panel]:
    panels = []
    for longest in _longest(groups):
        size = longest[0].params
        same = [group for group in groups if 1 / SAME_SIZE <= group[0].params / size <= SAME_SIZE]
        tints = size_colours([group[0].tokens for group in same])
        drawn = []
        for group, tint in zip(same, tints, strict=True):
            best = min(one.loss for one in group)
            points = [
                (one.aspect, 100 * (one.loss / best - 1)) for one in sorted(group, key=lambda one: one.aspect)
            ]
            drawn.append(Family.joined(short_count(group[0].tokens), points, tint))
        panels.append(
            Panel(
                f"{short_count(size)} parameters",
                drawn,
                "width / depth",
                "loss above the best shape (%)",
                key="tokens",
                linear=True,
            )
        )
    return panels
