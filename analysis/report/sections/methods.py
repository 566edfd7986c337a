"""How the runs were trained, as a paragraph for a paper, and the command that trains them."""

from analysis.logs.load_run import Run
from analysis.report.section import Block, Command, Paragraph, Section
from analysis.report.study import Study
from core.methods import MethodsOfRun, methods

ORDER = 900


def section(study: Study) -> Section | None:
    """The paragraph and the command, where any run is complete."""
    runs = [run for run in study.sweep.runs if run.status == "complete"]
    if not runs:
        return None
    said = methods([_methods_of(run) for run in runs], [_methods_of(run) for run in study.sweep.usable])
    blocks: list[Block] = [Paragraph(said)]
    record = study.sweep.record
    if record is not None and record.get("command"):
        blocks += [Paragraph("The command that trains these runs:"), Command(record["command"])]
    return Section("Methods", tuple(blocks))


def _methods_of(run: Run) -> MethodsOfRun:
    return MethodsOfRun(
        spec=run.spec,
        env=run.env,
        params=run.count(),
        tokens=run.tokens,
        corpus_tokens=run.reading.corpus_tokens if run.reading else None,
        epochs=run.reading.epochs if run.reading else None,
        trunk=run.trunk,
    )
