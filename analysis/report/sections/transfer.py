"""What later stages owe to the weights that they began with, in tokens."""

from analysis.figures.transfer import transfer_figure
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import LEVEL, Study
from analysis.transfer import sentences, to_json, transfers
from core.errors import BadInput
from core.numbers import short_count

ORDER = 15
ANSWERS = ("transfer",)
FIGURE = Picture(
    "transfer", "Tokens from scratch that the weights at the beginning stand for, by size and amount."
)
RESULT = File("transfer.json")
DRAWS = 400


def section(study: Study) -> Section | None:
    """A row a size and amount; None where no run began with other weights."""
    if study.of_table or not any(run.spec.get("start") for run in study.sweep.usable):
        return None
    try:
        found = transfers(study.sweep, level=LEVEL, draws=DRAWS)
    except BadInput as error:
        return Section(title="Transfer", said=(f"Transfer is not measured: {error}.",), blocks=())
    said = [sentence for one in found for sentence in sentences(one)]
    rows = [
        (
            one.base,
            short_count(cell.params),
            short_count(cell.tokens),
            _count(cell.effective),
            f"{_count(cell.transferred)} [{', '.join(map(_count, cell.interval))}]",
        )
        for one in found
        for cell in one.cells
    ]
    return Section(
        title="Transfer",
        said=tuple(said),
        answer=" ".join(sentences(found[0])),
        blocks=(
            Paragraph(
                "D_E is how many tokens a run from scratch of the same size needs for the same loss, and "
                "D_T = D_E - D_F what the weights at the beginning are worth (Hernandez et al. 2021, arXiv 2102.01293)."
            ),
            FIGURE.by(lambda: transfer_figure(found, LEVEL)),
            Rows(("began with", "N", "D_F", "D_E", f"D_T, {LEVEL:.0%} interval"), rows),
        ),
        results={RESULT: to_json(found, LEVEL)},
    )


def _count(tokens: float) -> str:
    if tokens != tokens:
        return "?"
    return ("-" if tokens < 0 else "") + (short_count(abs(tokens)) if abs(tokens) >= 1 else "0")
