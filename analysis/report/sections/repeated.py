"""Repeated data: what epochs over limited text are worth, beside text that is read once."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.families import Family, Panel, family_panels
from analysis.figures.style import size_colours
from analysis.fit.fit import Fit, fit_law
from analysis.fit.identified import said_interval
from analysis.report.section import Block, File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study, attempt
from core.numbers import finite, number, percent, short_count, span

ORDER = 30
OF_EQUAL_SETTINGS = True
ANSWERS = ("data_constrained",)
RESULT = File("repeated.json")
PICTURE = Picture(
    "repeated",
    "Loss against training tokens for each amount of distinct text (the largest size), and the loss above that of "
    "fresh text against epochs (every size).",
)

LAW = "data_constrained"
SHARED = ("E", "A", "B", "alpha", "beta")
PAPER = "Muennighoff et al. 2023"
PUBLISHED = {"R_D": 15.387756, "R_N": 5.309743}  # arXiv 2305.16264, section 6 (their code)
SMALL = 0.01  # a loss this far above that of fresh text counts as nearly as good


@dataclasses.dataclass(frozen=True)
class Cell:
    """One size on `tokens` of which `unique` are distinct; `excess` is its loss over that of as many fresh tokens, less
    1, NaN where no run read as many fresh ones."""

    params: float
    unique: float
    tokens: float
    loss: float
    excess: float

    @property
    def epochs(self) -> float:
        return self.tokens / self.unique


def section(study: Study) -> Section | None:
    """The data-constrained law and the excess loss, where some runs read their text more than once."""
    columns = study.columns
    if "unique_tokens" not in columns or not (columns["unique_tokens"] < columns["tokens"]).any():
        return None
    cells = cells_of(columns)
    how, fit, why = _fitted(study)
    return Section(
        title="Repeated data",
        said=(_sentence(cells), *([] if fit is None else [_law_sentence(fit)])),
        answer=_sentence(cells),
        blocks=(
            Paragraph(
                "Loss of runs that repeat a limited text, and how far it lies above the loss of the same model on as "
                "many tokens that are all different."
            ),
            _table(cells),
            Paragraph(f"The data-constrained law is not fitted: {why}.") if fit is None else _law(how, fit),
            *_drawn(columns, cells, fit),
        ),
        results={
            RESULT: {
                "cells": [{**dataclasses.asdict(cell), "excess": finite(cell.excess)} for cell in cells],
                "fits": {} if fit is None else {how: _without_draws(fit)},
            }
        },
    )


def cells_of(columns: Mapping[str, np.ndarray]) -> list[Cell]:
    """Every repeated (size, distinct tokens, tokens), mean over seeds, beside the unrepeated run of the same size."""
    log_loss: dict[tuple[float, float, float], list[float]] = {}
    names = ("params", "unique_tokens", "tokens", "loss")
    for params, unique, tokens, loss in zip(*(columns[name] for name in names), strict=True):
        key = (float(params), float(min(unique, tokens)), float(tokens))
        log_loss.setdefault(key, []).append(float(np.log(loss)))
    mean = {key: float(np.exp(np.mean(values))) for key, values in log_loss.items()}
    return [
        Cell(params, unique, tokens, loss, loss / mean.get((params, tokens, tokens), np.nan) - 1)
        for (params, unique, tokens), loss in sorted(mean.items())
        if unique < tokens
    ]


def _fitted(study: Study) -> tuple[str, Fit | None, str]:
    """How the law was fitted, and the fit, or why there is none.

    In two steps, as in the paper: first the law of the runs that repeat nothing (E, A, B, alpha and beta), then R_D and
    R_N. All of it at once where there is no first step to build on.
    """
    columns = {name: study.columns[name] for name in ("params", "tokens", "unique_tokens", "loss")}
    how, held = "all at once", None
    if study.fit is not None:
        how, held = "two steps", {name: study.fit.parameters[name] for name in SHARED}
    return how, *attempt(fit_law, LAW, columns, fixed=held, seed=study.seed, bootstrap=study.bootstrap)


def _table(cells: Sequence[Cell]) -> Rows:
    by_place = {(cell.unique, cell.tokens, cell.params): cell for cell in cells}

    def of_size(size: float) -> Callable[[tuple[float, float]], str]:
        return lambda place: _cell(by_place.get((*place, size)))

    sizes = sorted({cell.params for cell in cells})
    return Rows.of(
        sorted({(cell.unique, cell.tokens) for cell in cells}),
        {
            "distinct tokens": lambda place: short_count(place[0]),
            "tokens": lambda place: short_count(place[1]),
            "epochs": lambda place: f"{place[1] / place[0]:.3g}",
            **{f"{short_count(size)} parameters": of_size(size) for size in sizes},
        },
    )


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{cell.loss:.4f}" + (f" ({100 * cell.excess:+.1f}%)" if np.isfinite(cell.excess) else "")


def _drawn(columns: Mapping[str, np.ndarray], cells: Sequence[Cell], fit: Fit | None) -> Sequence[Block]:
    """Both panels; of the second only where a run of as many fresh tokens is there to compare with."""
    if any(np.isfinite(cell.excess) for cell in cells):
        return (
            PICTURE.by(lambda: family_panels([_against_tokens(columns, cells, fit), _against_epochs(cells)])),
        )
    words = (
        "What repetition costs is not drawn: no run of the same size has read as many tokens that are all different. "
        "Runs without data.unique_tokens on the same numbers of tokens, in the same sweep, would give it."
    )
    return Paragraph(words), PICTURE.by(lambda: family_panels([_against_tokens(columns, cells, fit)]))


def _law(how: str, fit: Fit) -> Rows:
    def found(name: str) -> str:
        of = "held" if name in fit.fixed else said_interval(fit.law, name, fit.intervals[name])
        return f"{fit.said(name, 4) if fit.identified[name] else 'not identified'} ({of})"

    return Rows.of(
        fit.parameter_names,
        {
            "parameter": str,
            f"{how}, {fit.n} runs": found,
            PAPER: lambda name: number(PUBLISHED[name]) if name in PUBLISHED else "",
        },
        text=(PAPER,),
    )


def _sentence(cells: Sequence[Cell]) -> str:
    known = [cell for cell in cells if np.isfinite(cell.excess)]
    if not known:
        return (
            "Repeated text cannot be set beside fresh text: no run read as many tokens that are all different."
        )
    said = []
    for unique in sorted({cell.unique for cell in known}):
        own = [cell for cell in known if cell.unique == unique]
        worst = min((cell.epochs for cell in own if cell.excess > SMALL), default=np.inf)
        good = [cell.epochs for cell in own if cell.epochs < worst]
        bad = max(own, key=lambda cell: (cell.epochs, cell.excess))
        start = f"up to {max(good):.3g} epochs" if good else "no number of epochs tried"
        said.append(
            f"{short_count(unique)}: {start} within {SMALL:.0%} at every size, {percent(bad.excess)} above at "
            f"{bad.epochs:.3g} epochs ({short_count(bad.params)} parameters)"
        )
    rising = _rising(cells)
    tail = f" At {rising} places more epochs gave a higher loss, which the law cannot follow." if rising else ""
    return f"Repeated text beside as much fresh text, by distinct tokens: {'; '.join(said)}.{tail}"


def _rising(cells: Sequence[Cell]) -> int:
    rises = 0
    for place in {(cell.params, cell.unique) for cell in cells}:
        own = sorted((c for c in cells if (c.params, c.unique) == place), key=lambda cell: cell.tokens)
        rises += sum(after.loss > before.loss for before, after in itertools.pairwise(own))
    return rises


def _law_sentence(fit: Fit) -> str:
    found = (
        f"gives R_D = {number(fit.parameters['R_D'])} ({span(fit.intervals['R_D'])}),"
        if fit.identified["R_D"]
        else f"is fitted, but these runs do not identify R_D ({said_interval(fit.law, 'R_D', fit.intervals['R_D'])}),"
    )
    return (
        f"The data-constrained law {found} the number of repetitions after which a repeated token is worth 1/e of a "
        f"fresh one ({PAPER}: {PUBLISHED['R_D']:.1f})."
    )


def _limits(cells: Sequence[Cell]) -> list[float]:
    """Distinct tokens that the largest size was trained on, the fewest first."""
    largest = max(cell.params for cell in cells)
    return sorted({cell.unique for cell in cells if cell.params == largest})


def _tints(limits: Sequence[float]) -> list[Any]:
    """A colour for each limit, and the last one for text without."""
    return size_colours([*limits, max(limits) * 8])


def _against_tokens(columns: Mapping[str, np.ndarray], cells: Sequence[Cell], fit: Fit | None) -> Panel:
    """Loss of the largest size, one curve a limit; fresh text is one curve, whatever limit it was read under."""
    size, limits = max(cell.params for cell in cells), _limits(cells)
    tokens, unique = columns["tokens"], columns["unique_tokens"]
    rows = [(unique == limit) & (tokens > limit) for limit in limits]
    families = []
    for limit, chosen, tint in zip([*limits, np.inf], [*rows, unique >= tokens], _tints(limits), strict=True):
        place = np.flatnonzero((columns["params"] == size) & chosen)
        if not place.size:
            continue
        place = place[np.argsort(tokens[place], kind="stable")]
        x, y = tokens[place], columns["loss"][place]
        fine, line = x, y
        if fit is not None:
            fine = np.geomspace(x[0], max(x[-1], x[0] * 1.01), 60)
            read = {"params": np.full(60, size), "tokens": fine, "unique_tokens": np.minimum(fine, limit)}
            line = fit.predict(read)
        families.append(Family("all" if limit == np.inf else short_count(limit), x, y, fine, line, tint))
    return Panel(
        f"{short_count(size)} parameters",
        families,
        "training tokens D, repetitions counted",
        note="" if fit is None else "lines: the data-constrained law",
        key="distinct",
    )


def _against_epochs(cells: Sequence[Cell]) -> Panel:
    sizes, limits = sorted({cell.params for cell in cells}), _limits(cells)
    families = []
    for limit, tint in zip(limits, _tints(limits), strict=False):
        for size in sizes:
            own = [c for c in cells if (c.unique, c.params) == (limit, size) and np.isfinite(c.excess)]
            if own:
                label = short_count(size) if limit == limits[0] else ""
                points = [(cell.epochs, 100 * cell.excess) for cell in own]
                families.append(Family.joined(label, points, tint, dashed=size < sizes[-1]))
    return Panel(
        "Cost of repetition",
        families,
        "epochs D / U",
        "loss above that of fresh text (%)",
        "colour: distinct tokens as on the left; solid: the largest size",
        key="parameters",
        linear=True,
    )


def _without_draws(fit: Fit) -> dict[str, object]:
    """A fit as fit.json has it, without the resamples that its intervals were read from."""
    return {name: value for name, value in fit.to_json().items() if name != "draws"}
