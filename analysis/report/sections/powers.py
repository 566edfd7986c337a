"""Power laws in one variable at a time: size, data, compute (Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.1 to 1.3)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from analysis.figures.curves import PARAMS_LABEL, TOKENS_LABEL
from analysis.figures.families import Family, Panel, family_panels
from analysis.figures.style import BLUE, GREEN, PALE, VERMILION
from analysis.fit.fit import Fit, fit_law
from analysis.fit.identified import known_to_within_itself, said_interval
from analysis.isoflop.slices import flops_of
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study, attempt
from core.numbers import number, percent, short_count, span

ORDER = 110
OF_EQUAL_SETTINGS = True
ANSWERS = ("kaplan",)
RESULT = File("powers.json")
PICTURE = Picture(
    "powers",
    "Loss against size at the most tokens, against tokens at the largest size, and against compute along the best "
    "runs, with the power law in one variable (solid) and the one with a floor (dashed).",
)

FEWEST = 4  # points of a law with two parameters
FEWEST_WITH_FLOOR = 5
LEVEL = 0.95
# Kaplan et al. 2020, eqs. 1.1 to 1.3; for compute the exponent of the compute-efficient frontier, C_min.
PUBLISHED = {"N": "0.076", "N without embedding and head": "0.076", "D": "0.095", "C": "0.050"}


@dataclasses.dataclass(frozen=True)
class Power:
    """L = A / x^alpha by least squares on logs: a straight line, so its interval is Student's.

    `residual_sd` is the standard deviation of log loss about the line.
    """

    alpha: float
    coefficient: float
    interval: tuple[float, float]
    residual_sd: float

    @property
    def known(self) -> bool:
        """Whether the exponent is identified (analysis/fit/identified.py)."""
        return known_to_within_itself(self.alpha, self.interval)

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.coefficient * x**-self.alpha


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable: its name, over which runs (places in the table), and x of them."""

    name: str
    runs: str
    place: np.ndarray
    x: np.ndarray


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """The law of one variable: loss of its runs, and its fits without and with a floor."""

    of: Variable
    loss: np.ndarray
    power: Power
    floored: Fit | None


def section(study: Study) -> Section | None:
    """N, D and C laws, where at least 4 sizes share the largest data size and 4 data sizes the largest model."""
    if not study.single.any():
        return None
    columns = study.comparable
    asked = variables(columns)
    if not {"N", "D", "C"} <= {one.name for one in asked}:
        return None
    found = [_fitted(one, columns["loss"], study.seed) for one in asked]
    return Section(
        title="Power laws in one variable",
        said=(_sentence(found),),
        answer=_sentence(found),
        blocks=(
            Paragraph(
                "L = A / x^alpha by least squares on log loss, and with a floor E where there are 5 points or more "
                "(Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.1 to 1.3, whose exponents stand at the right; they "
                "counted N without embeddings). N: the runs on the most tokens that enough sizes share. D: those of "
                "the largest size with enough data sizes. C: the runs that no run of at most their compute beats. 95% "
                "intervals. Where a pure power law leaves more unexplained than one with a floor, its exponent "
                "holds in this range only."
            ),
            _table(found),
            PICTURE.by(lambda: family_panels(_panels(found, columns), 3.7)),
        ),
        results={RESULT: {"laws": [_json(one) for one in found]}},
    )


def variables(columns: Mapping[str, np.ndarray]) -> list[Variable]:
    """Of which laws the table has enough runs."""
    params, tokens, flops = columns["params"], columns["tokens"], flops_of(columns)
    found: list[Variable] = []
    most = _largest_with_enough(tokens, params)
    if most is not None:
        place, runs = np.flatnonzero(tokens == most), f"{short_count(most)} tokens"
        found.append(Variable("N", runs, place, params[place]))
        if "params_non_embedding" in columns and (columns["params_non_embedding"][place] > 0).all():
            bare = columns["params_non_embedding"]
            found.append(Variable("N without embedding and head", runs, place, bare[place]))
    largest = _largest_with_enough(params, tokens)
    if largest is not None:
        place, runs = np.flatnonzero(params == largest), f"{short_count(largest)} parameters"
        found.append(Variable("D", runs, place, tokens[place]))
    best = unbeaten(flops, columns["loss"])
    if best.size >= FEWEST:
        found.append(Variable("C", "unbeaten at their compute", best, flops[best]))
    return found


def unbeaten(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Places of the runs that no other run of at most their compute beats, by increasing compute."""
    order = np.lexsort((loss, flops))
    lowest = np.minimum.accumulate(loss[order])
    first = np.concatenate([[True], loss[order][1:] < lowest[:-1]])
    return order[first]


def _largest_with_enough(fixed: np.ndarray, varied: np.ndarray) -> float | None:
    """The largest value of `fixed` at which `varied` takes enough values; None where there is none."""
    for value in np.unique(fixed)[::-1]:
        if np.unique(varied[fixed == value]).size >= FEWEST:
            return float(value)
    return None


def _fitted(one: Variable, every_loss: np.ndarray, seed: int) -> PowerLaw:
    floored, loss = None, every_loss[one.place]
    if np.unique(one.x).size >= FEWEST_WITH_FLOOR:
        # One law for every variable: x stands in its column `params`, so that it is compiled once for all.
        # Where it cannot be fitted, the pure power stands alone, and its row in the report has empty cells.
        table = {"params": one.x, "loss": loss}
        floored, _ = attempt(fit_law, "power_params_floor", table, robust="l2", seed=seed)
    return PowerLaw(one, loss, pure_power(one.x, loss), floored)


def pure_power(x: np.ndarray, loss: np.ndarray) -> Power:
    """The straight line through log loss over log x, three points or more."""
    log_x, log_loss = np.log(x), np.log(loss)
    slope, front = np.polyfit(log_x, log_loss, 1)
    freedom = x.size - 2
    residual_sd = float(np.sqrt(((log_loss - front - slope * log_x) ** 2).sum() / freedom))
    error = residual_sd / float(np.sqrt(((log_x - log_x.mean()) ** 2).sum()))
    reach = stdtrit(freedom, 0.5 + LEVEL / 2) * error
    return Power(
        float(-slope), float(np.exp(front)), (float(-slope - reach), float(-slope + reach)), residual_sd
    )


def _table(found: Sequence[PowerLaw]) -> Rows:
    def with_floor(read: Callable[[Fit], str]) -> Callable[[PowerLaw], str]:
        return lambda one: "" if one.floored is None else read(one.floored)

    return Rows.of(
        found,
        {
            "law": lambda one: one.of.name,
            "runs": lambda one: one.of.runs,
            "points": lambda one: str(one.of.place.size),
            "alpha": lambda one: number(one.power.alpha) if one.power.known else "not identified",
            "interval": lambda one: span(one.power.interval),
            "unexplained": lambda one: percent(one.power.residual_sd),
            "alpha with a floor": with_floor(lambda fit: _said(fit, "alpha")),
            "its interval": with_floor(lambda fit: said_interval(fit.law, "alpha", fit.intervals["alpha"])),
            "floor": with_floor(lambda fit: _said(fit, "E")),
            "unexplained ": with_floor(lambda fit: percent(fit.residual_sd)),
            "Kaplan et al.": lambda one: PUBLISHED[one.of.name],
        },
        text=("runs",),
    )


def _sentence(found: Sequence[PowerLaw]) -> str:
    laws = {one.of.name: one for one in found}
    where = {
        "N": f"in size at {laws['N'].of.runs}", "D": f"in data at {laws['D'].of.runs}",
        "C": "in compute along the best runs",
    }  # fmt: skip
    powers = {name: laws[name].power for name in where}
    falls = [
        f"as {name}^-{number(power.alpha)} ({span(power.interval)}) {where[name]}"
        for name, power in powers.items()
        if power.known
    ]
    unsure = [
        f"the exponent {where[name]} is not identified ({span(power.interval)})"
        for name, power in powers.items()
        if not power.known
    ]
    said = [*([f"loss falls {', '.join(falls)}"] if falls else []), *unsure]
    return f"One variable at a time, as pure powers: {'; '.join(said)}."


def _said(fit: Fit, name: str) -> str:
    return fit.said(name) if fit.identified[name] else "not identified"


def _panels(found: Sequence[PowerLaw], columns: Mapping[str, np.ndarray]) -> list[Panel]:
    by_name, flops = {one.of.name: one for one in found}, flops_of(columns)
    others = np.setdiff1d(np.arange(flops.size), by_name["C"].of.place)
    panels = []
    for name, label, tint in (
        ("N", PARAMS_LABEL.replace(" (", "\n("), BLUE),
        ("D", TOKENS_LABEL, GREEN),
        ("C", "training FLOPs C", VERMILION),
    ):
        law, x = by_name[name], by_name[name].of.x
        fine = np.geomspace(x.min(), x.max(), 60)
        drawn = [Family("", x, law.loss, fine, law.power.at(fine), tint)]
        if law.floored is not None:
            curve = law.floored.predict({"params": fine})
            drawn.append(Family("", np.zeros(0), np.zeros(0), fine, curve, tint, dashed=True))
        if name == "C" and others.size:
            drawn.insert(0, Family("", flops[others], columns["loss"][others], colour=PALE))
        title = f"{name}: exponent {number(law.power.alpha) if law.power.known else 'not identified'}"
        panels.append(Panel(title, drawn, label, note=law.of.runs, flops=name == "C"))
    return panels


def _json(one: PowerLaw) -> dict[str, object]:
    with_floor = one.floored and {
        "parameters": one.floored.parameters,
        "intervals": one.floored.intervals,
        "residual_sd": one.floored.residual_sd,
    }
    return {
        "law": one.of.name,
        "runs": one.of.runs,
        "x": one.of.x.tolist(),
        "loss": one.loss.tolist(),
        "alpha": one.power.alpha,
        "interval": one.power.interval,
        "coefficient": one.power.coefficient,
        "residual_sd": one.power.residual_sd,
        "with_floor": with_floor,
        "published_alpha": float(PUBLISHED[one.of.name]),
    }
