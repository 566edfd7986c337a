"""Recipes side by side at the largest size that several of them reach: who is better on the same held-out sequences."""

from analysis.compare.metric import Metric
from analysis.leaderboard.board import MOST_RANKED, board
from analysis.leaderboard.contestants import Contestant, field_of
from analysis.leaderboard.result import HEADER, RULE, rows_of, to_json, warnings_of
from analysis.logs.load_run import Run
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.errors import BadInput
from core.records import LOSS

ORDER = 57
RESULT = File("leaderboard.json")
FOREST = Picture(
    "leaderboard", "Strength and loss of each recipe at one size, with intervals over held-out sequences."
)


def section(study: Study) -> Section | None:
    """One board; None where no size was trained with two recipes, or no items were kept."""
    if study.of_table:
        return None
    contestants, size = _largest(study)
    if not 2 <= len(contestants) <= MOST_RANKED:
        return None
    try:
        field = field_of(contestants, Metric.of(LOSS))
        found = board(
            LOSS, field.labels, field.scores_MI, field.weights_I, field.values,
            rises=False, draws=max(100, study.bootstrap), level=0.95, seed=study.seed,
        )  # fmt: skip
    except BadInput:
        return None
    first, *others = found.standings
    shared = [one.label for one in others if one.rank == first.rank]
    said = (
        f"{first.label} shares the first rank with {', '.join(shared)}" if shared else f"{first.label} is first"
    )
    # matplotlib, as other sections have it
    from analysis.figures.forest import forest_figure, panel_of

    return Section(
        title="Recipes on the same held-out text",
        said=(f"At {size}, {said} of {len(found.standings)} by wins on {found.items} held-out sequences.",),
        warnings=tuple(warnings_of(found)),
        blocks=(
            Paragraph(
                f"Runs of {size}; seeds of a recipe are averaged sequence by sequence. {RULE.capitalize()}. Intervals "
                "are of held-out text; the luck of a seed is not in them."
            ),
            Rows(HEADER[-1:] + HEADER[:-1], [row[-1:] + row[:-1] for row in rows_of(found)]),
            FOREST.by(lambda: forest_figure(panel_of(found))),
        ),
        results={RESULT: to_json([found], size, (), field.left_out, max(100, study.bootstrap), study.seed)},
    )


def _largest(study: Study) -> tuple[list[Contestant], str]:
    """The recipes at the size and data size of most compute that two of them have."""
    cells: dict[tuple[float, float], dict[str, list[Run]]] = {}
    for group in study.sweep.groups:
        for run in group.runs:
            key = (run.spec.get("model", {}).get("width", 0), run.tokens or 0.0)
            cells.setdefault(key, {}).setdefault(group.name, []).append(run)
    several = {key: recipes for key, recipes in cells.items() if len(recipes) > 1}
    if not several:
        return [], ""
    key = max(
        several, key=lambda key: max(run.flops() or 0.0 for runs in several[key].values() for run in runs)
    )
    found = [Contestant(name, study.sweep, tuple(runs)) for name, runs in several[key].items()]
    return found, f"width {key[0]} and {key[1]:,.0f} tokens"
