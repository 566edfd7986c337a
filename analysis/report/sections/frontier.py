"""The compute-optimal frontier of the fitted law: the best split of a budget, and the loss that it buys."""

from collections.abc import Mapping

import numpy as np

from analysis.figures.frontier import Band, frontier_figure
from analysis.fit.fit import Fit
from analysis.fit.frontier import frontier
from analysis.fit.frontier_search import frontier_of
from analysis.fit.identified import known_to_within_itself
from analysis.isoflop.slices import FLOPS_PER_PARAM_TOKEN
from analysis.quantiles import finite_quantiles
from analysis.report.section import Paragraph, Picture, Section
from analysis.report.study import LAW, Study
from core.numbers import number, short_count, span

ORDER = 70
OF_EQUAL_SETTINGS = True
FRONTIER = Picture(
    "frontier", "Compute-optimal parameters and tokens of the fitted law, and its loss, beside the runs."
)

BAND_POINTS = 60
BESIDE = 1e3  # how far beside the sizes of the runs a best size is looked for
NUMERICAL_DRAWS = 200
BEYOND = 10.0  # the frontier is drawn to so many times the largest budget


def section(study: Study) -> Section | None:
    """The frontier, where there is a law; a law that is not identified has none."""
    fit = study.headline
    if fit is None:
        return None
    if not fit.known:
        why = (
            f"No best split of a budget is stated: these runs do not identify the law ({fit.why_unknown}). Sizes and "
            "data sizes over a wider range would."
        )
        return Section("Compute-optimal frontier", (Paragraph(why),))
    columns = study.comparable
    flops = six_n_d(columns)
    band = _band(fit, flops, columns["params"])
    figure = FRONTIER.by(lambda: frontier_figure(band, columns["params"], columns["loss"], flops, fit.level))
    return Section(
        title="Compute-optimal frontier",
        said=(_best_split(fit, band),),
        blocks=(figure,) if np.isfinite(band.loss).all() else (),
    )


def six_n_d(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """C = 6 N D, the convention of the closed-form frontier (Hoffmann et al. 2022, section 3.3)."""
    return FLOPS_PER_PARAM_TOKEN * columns["params"] * columns["tokens"]


def _band(fit: Fit, flops: np.ndarray, sizes: np.ndarray) -> Band:
    """The frontier from the smallest budget of the runs to `BEYOND` times the largest."""
    budgets = np.geomspace(flops.min(), flops.max() * BEYOND, BAND_POINTS)
    if fit.law.name != LAW:
        return _numerical_band(fit, budgets, sizes)
    best = frontier(fit.parameters, budgets)
    if fit.draws is None:
        return Band(budgets, best.params, best.tokens, best.loss, None, None, None)
    drawn = frontier({name: fit.draws[:, [place]] for place, name in enumerate(fit.parameter_names)}, budgets)
    tails = [(1 - fit.level) / 2, (1 + fit.level) / 2]

    def ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):
            low, high = np.nanquantile(np.where(np.isfinite(values), values, np.nan), tails, axis=0)
        return low, high

    return Band(
        budgets, best.params, best.tokens, best.loss, ends(drawn.params), ends(drawn.tokens), ends(drawn.loss)
    )


def _numerical_band(fit: Fit, budgets: np.ndarray, sizes: np.ndarray) -> Band:
    """The same for a law without a closed form, by search over sizes."""
    span = (float(sizes.min()) / BESIDE, float(sizes.max()) * BESIDE)
    best = frontier_of(fit.law, np.array([[fit.parameters[name] for name in fit.law.names]]), budgets, span)
    optimum = (budgets, best.params[0], best.tokens[0], best.loss[0])
    if fit.draws is None:
        return Band(*optimum, None, None, None)
    drawn = frontier_of(fit.law, fit.draws[:NUMERICAL_DRAWS], budgets, span)
    tails = [(1 - fit.level) / 2, (1 + fit.level) / 2]
    ends = [tuple(finite_quantiles(values, tails)) for values in (drawn.params, drawn.tokens, drawn.loss)]
    return Band(*optimum, *ends)


def _best_split(fit: Fit, band: Band) -> str:
    here = int(np.argmin(np.abs(np.log(band.flops * BEYOND / band.flops[-1]))))

    def at(place: int) -> str:
        loss_ends = "" if band.loss_ends is None else f", {span([ends[place] for ends in band.loss_ends], 4)}"
        return (
            f"{short_count(float(band.params[place]))} parameters on {short_count(float(band.tokens[place]))} tokens "
            f"(predicted loss {band.loss[place]:.3f}{loss_ends})"
        )

    a = fit.derived.get("a_opt")
    ends = fit.derived_intervals.get("a_opt")
    if fit.law.name != LAW and a is None:
        slope = np.polyfit(np.log(band.flops), np.log(band.params), 1)[0]
        grows = f" Along it the best size grows about as C^{number(float(slope))}."
    elif a is None or ends is None or not known_to_within_itself(a, ends):
        grows = " How the best size grows with compute is not identified" + (
            f" (C^{span(ends)})." if ends else "."
        )
    else:
        grows = f" The best size grows as C^{number(a)} ({span(ends)})."
    return (
        f"With C = 6 N D FLOPs, the law's best split of {band.flops[here]:.2g} FLOPs, about the largest budget "
        f"tried, is {at(here)}; at {BEYOND:g} times the largest budget, beyond all runs, it is {at(-1)}.{grows}"
    )
