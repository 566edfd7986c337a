"""What ran and what it cost, and what a reader must know of the logs: the top of a report."""

from collections.abc import Sequence

from analysis.report.section import Section
from analysis.report.study import Study
from core.numbers import number, short_count

ORDER = 0


def section(study: Study) -> Section:
    """Two sentences, and the warnings of the table and of the logs."""
    known = study.table or study.sweep
    return Section(
        title="Overview",
        said=(_what_ran(study), *_how_often_read(study), *_what_it_cost(study)),
        warnings=(
            *_repeated(study),
            *known.warnings,
            *study.evaluations.warnings,
            *study.metrics.warnings,
            *([study.sweep.epochs_unknown] if study.sweep.epochs_unknown else []),
        ),
    )


def _what_ran(study: Study) -> str:
    if study.of_table:
        columns = {name: values.tolist() for name, values in study.columns.items()}
        return (
            f"{study.rows} rows of a table: {_range(columns['params'])} parameters, {_range(columns['tokens'])} "
            f"training tokens, up to {max(columns['flops']):.3g} FLOPs a run."
        )
    usable, trunks = study.sweep.usable, len(study.sweep.trunks)
    total = len(study.sweep.runs) - trunks
    if not usable:
        return f"None of {total} runs has finished with a usable loss."
    params, tokens, flops = (
        [value or 0.0 for value in values]
        for values in zip(*((run.count(), run.tokens, run.flops()) for run in usable), strict=True)
    )
    return (
        f"{len(usable)} of {total} runs are finished and used: {_range(params)} parameters, {_range(tokens)} "
        f"training tokens, up to {max(flops):.3g} FLOPs a run."
        + (f" They branch off {trunks} trunks at constant learning rate." if trunks else "")
    )


def _how_often_read(study: Study) -> list[str]:
    """Epochs of the usable runs."""
    if study.of_table:
        return []
    readings = [run.reading for run in study.sweep.usable if run.reading is not None]
    if not readings or len(readings) < len(study.sweep.usable):
        return []
    most = max(readings, key=lambda reading: reading.epochs)
    if not most.repeats:
        most_said = f" (at most {number(most.epochs)} epochs)" if most.epochs >= 0.01 else ""
        return [f"No run reads its training text more than once{most_said}."]
    held = short_count(min(most.corpus_tokens or most.unique_tokens, most.unique_tokens))
    repeated = sum(reading.repeats for reading in readings)
    return [
        f"{repeated} of {len(readings)} runs read their training text more than once, up to {number(most.epochs)} "
        f"epochs of {held} distinct tokens."
    ]


def _repeated(study: Study) -> list[str]:
    """That a law of fresh text leaves runs out, and how many are left."""
    told = []
    for part in study.alone or (study,):
        left, rest = int((~part.single).sum()), int(part.single.sum())
        if left:
            told.append(
                (f"{part.label}: " if part.label else "")
                + f"{left} of {part.single.size} runs read their text more than once: laws of fresh text, isoFLOP "
                + "valleys and frontiers leave them out"
                + ("" if rest else ", and no run is left for them")
            )
    return told


def _what_it_cost(study: Study) -> list[str]:
    """FLOPs of all finished runs, with the tokens that branches share with their trunk counted once."""
    done = [run for run in study.sweep.runs if run.status == "complete"]
    if not any(run.shared_tokens for run in done):
        return []
    trained, alone = (
        sum(run.flops(trained=once) or 0.0 for run in done if once or not run.trunk) for once in (True, False)
    )
    return [
        f"The finished runs cost {trained:.3g} FLOPs: what branches share with their trunk is counted once. Trained "
        f"one by one, the same runs would have cost {alone:.3g}, so this is {trained / alone:.2f} of it."
    ]


def _range(values: Sequence[float]) -> str:
    low, high = short_count(min(values)), short_count(max(values))
    return low if low == high else f"{low} to {high}"
