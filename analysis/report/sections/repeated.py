"""Repeated data: what epochs over limited text are worth, beside text that is read once."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.families import Family, Panel, family_panels
from analysis.figures.style import size_colours
from analysis.fit.fit import Fit, fit_law
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study, attempt
from core.numbers import number, percent, short_count, span

ORDER = 30
RESULT = File("repeated.json")
PICTURE = Picture(
    "repeated",
    "Loss against training tokens for each amount of distinct text (the largest size), and the loss above that of "
    "fresh text against epochs (every size).",
)

LAW = "data_constrained"
SHARED = ("E", "A", "B", "alpha", "beta")
PUBLISHED = {
    "R_D": 15.387756,
    "R_N": 5.309743,
}  # Muennighoff et al. 2023, arXiv 2305.16264, section 6 (their code)
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
    fits, why = _fits(study)
    fit = next(iter(fits.values()), None)
    return Section(
        title="Repeated data",
        said=(*_sentences(cells), *_law_sentence(fit)),
        blocks=(
            Paragraph(
                "Loss of runs that repeat a limited text, and how far it lies above the loss of the same model on as "
                "many tokens that are all different."
            ),
            _table(cells),
            _laws(fits) if fits else Paragraph(f"The data-constrained law is not fitted: {why}."),
            PICTURE.by(lambda: family_panels(_panels(columns, cells, fit))),
        ),
        results={
            RESULT: {
                "cells": [{**dataclasses.asdict(cell), "excess": _plain(cell.excess)} for cell in cells],
                "fits": {name: _without_draws(one) for name, one in fits.items()},
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


def _fits(study: Study) -> tuple[dict[str, Fit], str]:
    """The law in two steps, as in the paper; all of it at once where the first step is not there to build on.

    The first step is the law of the runs that repeat nothing (E, A, B, alpha and beta), the second R_D and R_N.
    """
    columns = {name: study.columns[name] for name in ("params", "tokens", "unique_tokens", "loss")}
    how, held = "all at once", None
    if study.fit is not None:
        how, held = "two steps", {name: study.fit.parameters[name] for name in SHARED}
    fit, why = attempt(fit_law, LAW, columns, fixed=held, seed=study.seed, bootstrap=study.bootstrap)
    return ({}, why) if fit is None else ({how: fit}, "")


def _table(cells: Sequence[Cell]) -> Rows:
    sizes = sorted({cell.params for cell in cells})
    by_place = {(cell.unique, cell.tokens, cell.params): cell for cell in cells}

    def shown(unique: float, tokens: float, params: float) -> str:
        cell = by_place.get((unique, tokens, params))
        if cell is None:
            return ""
        return f"{cell.loss:.4f}" + (f" ({100 * cell.excess:+.1f}%)" if np.isfinite(cell.excess) else "")

    places = sorted({(cell.unique, cell.tokens) for cell in cells})
    return Rows(
        ("distinct tokens", "tokens", "epochs", *(f"{short_count(size)} parameters" for size in sizes)),
        [
            (
                short_count(unique),
                short_count(tokens),
                f"{tokens / unique:.3g}",
                *(shown(unique, tokens, size) for size in sizes),
            )
            for unique, tokens in places
        ],
    )


def _laws(fits: Mapping[str, Fit]) -> Rows:
    names = next(iter(fits.values())).parameter_names
    return Rows(
        ("parameter", *(f"{how}, {one.n} runs" for how, one in fits.items()), "Muennighoff et al. 2023"),
        [
            (
                name,
                *(
                    f"{number(one.parameters[name], 4)} (held)"
                    if name in one.fixed
                    else f"{number(one.parameters[name], 4)} ({span(one.intervals[name])})"
                    for one in fits.values()
                ),
                number(PUBLISHED[name]) if name in PUBLISHED else "",
            )
            for name in names
        ],
        text=frozenset({"Muennighoff et al. 2023"}),
    )


def _sentences(cells: Sequence[Cell]) -> tuple[str, ...]:
    known = [cell for cell in cells if np.isfinite(cell.excess)]
    if not known:
        return (
            "Repeated text cannot be set beside fresh text: no run read as many tokens that are all different.",
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
    return (f"Repeated text beside as much fresh text, by distinct tokens: {'; '.join(said)}.{tail}",)


def _rising(cells: Sequence[Cell]) -> int:
    rises = 0
    for place in {(cell.params, cell.unique) for cell in cells}:
        own = sorted((c for c in cells if (c.params, c.unique) == place), key=lambda cell: cell.tokens)
        rises += sum(after.loss > before.loss for before, after in itertools.pairwise(own))
    return rises


def _law_sentence(fit: Fit | None) -> tuple[str, ...]:
    if fit is None:
        return ()
    unsure = "" if fit.identified["R_D"] else "; these runs do not identify it"
    return (
        f"The data-constrained law gives R_D = {number(fit.parameters['R_D'])} ({span(fit.intervals['R_D'])}){unsure}: "
        f"the number of repetitions after which a repeated token is worth 1/e of a fresh one (Muennighoff et al. 2023: "
        f"{PUBLISHED['R_D']:.1f}).",
    )


def _panels(columns: Mapping[str, np.ndarray], cells: Sequence[Cell], fit: Fit | None) -> list[Panel]:
    size = max(cell.params for cell in cells)
    rows = columns["params"] == size
    # Fresh text is one family, whatever limit it was read under.
    limits = sorted({cell.unique for cell in cells if cell.params == size})
    fresh = np.flatnonzero(rows & (columns["unique_tokens"] >= columns["tokens"]))
    families = [(short_count(limit), np.flatnonzero(rows & (columns["unique_tokens"] == limit) & (
        columns["tokens"] > limit)), limit) for limit in limits]  # fmt: skip
    families.append(("all", fresh, np.inf))
    tints = size_colours([*limits, max(limits) * 8])
    left = [
        _curve(label, columns, place, limit, size, tint, fit)
        for (label, place, limit), tint in zip(families, tints, strict=True)
        if place.size
    ]
    sizes = sorted({cell.params for cell in cells})
    marked = {limit: tint for limit, tint in zip(limits, tints, strict=False)}
    right = []
    for unique in limits:
        for place, params in enumerate(sizes):
            own = [c for c in cells if c.unique == unique and c.params == params and np.isfinite(c.excess)]
            if own:
                x = np.array([cell.epochs for cell in own])
                y = np.array([100 * cell.excess for cell in own])
                label = f"{short_count(params)}" if unique == limits[0] else ""
                right.append(Family(label, x, y, x, y, marked[unique], dashed=place < len(sizes) - 1))
    return [
        Panel(
            f"{short_count(size)} parameters",
            left,
            "training tokens D, repetitions counted",
            note="" if fit is None else "lines: the data-constrained law",
            key="distinct",
        ),
        Panel(
            "Cost of repetition",
            right,
            "epochs D / U",
            "loss above that of fresh text (%)",
            "colour: distinct tokens as on the left; solid: the largest size",
            key="parameters",
            linear=True,
        ),
    ]


def _curve(
    label: str,
    columns: Mapping[str, np.ndarray],
    place: np.ndarray,
    limit: float,
    size: float,
    tint: Any,
    fit: Fit | None,
) -> Family:
    order = place[np.argsort(columns["tokens"][place], kind="stable")]
    x, y = columns["tokens"][order], columns["loss"][order]
    if fit is None:
        return Family(label, x, y, x, y, tint)
    fine = np.geomspace(x[0], max(x[-1], x[0] * 1.01), 60)
    unique = np.minimum(fine, limit)
    return Family(
        label,
        x,
        y,
        fine,
        fit.predict({"params": np.full(60, size), "tokens": fine, "unique_tokens": unique}),
        tint,
    )


def _without_draws(fit: Fit) -> dict[str, object]:
    """A fit as fit.json has it, without the resamples that its intervals were read from."""
    return {name: value for name, value in fit.to_json().items() if name != "draws"}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
