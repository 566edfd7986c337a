"""The three approaches of Hoffmann et al. 2022 (arXiv 2203.15556) side by side, under one count of FLOPs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.families import Family, Panel, colours, family_panels
from analysis.fit.fit import Fit
from analysis.fit.identified import known_to_within_itself
from analysis.isoflop.find import Isoflop
from analysis.isoflop.slices import flops_of
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study
from core.numbers import number, short_count, span

ORDER = 100
OF_EQUAL_SETTINGS = True
ANSWERS = ("chinchilla",)
RESULT = File("approaches.json")
PICTURE = Picture(
    "approaches",
    "Best size against compute by each approach; points are what approaches 1 and 2 read off the runs.",
)

LEVEL = 0.95
# Hoffmann et al. 2022, table 2: exponents of N_opt by approach; their intervals of approach 3 are known to be too
# narrow (Besiroglu et al. 2024, arXiv 2404.10102).
PUBLISHED = {"1, envelope": "0.50 (0.488 to 0.502)", "2, isoFLOP": "0.49 (0.462 to 0.534)",
             "3, law": "0.46 (0.454 to 0.455)"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Approach:
    """Best size and tokens as powers of compute: N = params_coefficient C^a, D = tokens_coefficient C^b.

    `points` are (FLOPs, best size) that the power law goes through; empty for the parametric law.
    """

    name: str
    a: float
    b: float
    a_interval: tuple[float, float] | None
    b_interval: tuple[float, float] | None
    params_coefficient: float
    tokens_coefficient: float
    points: tuple[tuple[float, float], ...]

    def params(self, flops: Any) -> Any:
        """The best size at `flops`."""
        return self.params_coefficient * flops**self.a


def section(study: Study) -> Section | None:
    """N_opt by envelope, by isoFLOP valleys and by the law, where at least two of the three say something."""
    found, silent = approaches(study)
    unsure = [f"{name}: {why}" for name, why in silent.items() if "identif" in why]
    if len(found) < 2 <= len(found) + len(unsure):
        words = f"The approaches are not compared, since {'; '.join(unsure)}."
        return Section("Three approaches to the best size", (Paragraph(words),))
    if len(found) < 2:
        return None
    flops = flops_of(study.comparable)
    target = float(flops.max())
    words = "; ".join(f"{name}: {why}" for name, why in silent.items())
    return Section(
        title="Three approaches to the best size",
        said=(_sentence(found, target),),
        answer=_sentence(found, target),
        blocks=(
            Paragraph(
                "Approach 1 is the lower envelope of the sizes' loss curves, 2 the valleys of loss against size at "
                "equal compute, 3 the minimum of the fitted law (Hoffmann et al. 2022, arXiv 2203.15556). All three "
                "count FLOPs as the runs' own column does; for approach 3 the FLOPs of a token are a power of size "
                f"fitted to the runs. Intervals: {LEVEL:.0%}; 1 and 2 under the noise of a run, 3 by the resamples of "
                "the fit." + (f" Silent: {words}." if words else "")
            ),
            _table(found, target),
            PICTURE.by(lambda: family_panels([_panel(found, flops)])),
        ),
        results={
            RESULT: {"level": LEVEL, "approaches": [dataclasses.asdict(one) for one in found], "silent": silent}
        },
    )


def _table(found: Sequence[Approach], target: float) -> Rows:
    return Rows.of(
        found,
        {
            "approach": lambda one: one.name,
            "a in N ~ C^a": lambda one: number(one.a),
            "interval": lambda one: _interval(one.a_interval),
            "b in D ~ C^b": lambda one: number(one.b),
            "interval ": lambda one: _interval(one.b_interval),
            f"best size at {target:.2g} FLOPs": lambda one: short_count(one.params(target)),
            "its tokens": lambda one: short_count(one.tokens_coefficient * target**one.b),
            "published a": lambda one: PUBLISHED[one.name],
        },
    )


def approaches(study: Study) -> tuple[list[Approach], dict[str, str]]:
    """Those that give an exponent, and why the others do not."""
    found, silent = [], {}
    for name, result in (("1, envelope", study.envelope), ("2, isoFLOP", study.isoflop)):
        one = None if result is None else _of_valleys(name, result)
        if one is not None and known_to_within_itself(one.a, one.a_interval):
            found.append(one)
        elif one is not None:
            ends = "" if one.a_interval is None else f" ({_interval(one.a_interval)})"
            silent[name] = f"how the best size grows is not identified{ends}"
        else:
            why = "too few budgets with a best size inside the sizes"
            silent[name] = "too few sizes" if result is None else why
    if study.fit is None:
        silent["3, law"] = "no law is fitted"
    elif not study.fit.known:
        silent["3, law"] = f"these runs do not identify the law ({', '.join(study.fit.unknown)})"
    else:
        found.append(_of_law("3, law", study.fit, study.comparable))
    return found, silent


def _of_valleys(name: str, result: Isoflop) -> Approach | None:
    a, b, *fronts = (
        result.derived[key] for key in ("a_opt", "b_opt", "params_coefficient", "tokens_coefficient")
    )
    if a is None or b is None or fronts[0] is None or fronts[1] is None:
        return None
    good = [valley for valley in result.valleys if valley.ok and valley.params_opt]
    points = tuple((valley.flops, float(valley.params_opt or 0.0)) for valley in good)
    ends = (result.intervals["a_opt"], result.intervals["b_opt"])
    return Approach(name, a, b, *ends, fronts[0], fronts[1], points)


def cost_of_token(columns: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """(c, p) of FLOPs per token = c N^p, by least squares of logs over the runs; (6, 1) would be C = 6 N D."""
    log_params = np.log(columns["params"])
    power, front = np.polyfit(log_params, np.log(flops_of(columns) / columns["tokens"]), 1)
    return float(np.exp(front)), float(power)


def best_of_law(
    parameters: Mapping[str, np.ndarray | float], cost: float, power: float
) -> dict[str, np.ndarray]:
    """Exponents and coefficients of the minimum of E + A / N^alpha + B / D^beta under C = cost N^power D.

    The derivative in N is zero at N^(alpha + power beta) = alpha A / (power beta B) (C / cost)^beta; with cost 6 and
    power 1 this is Hoffmann et al. 2022, eq. 4.
    """
    e = {name: np.asarray(value, dtype=float) for name, value in parameters.items()}
    total = e["alpha"] + power * e["beta"]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_front = (np.log(e["alpha"] * e["A"]) - np.log(power * e["beta"] * e["B"])) / total
        a = e["beta"] / total
        log_params = log_front - a * np.log(cost)
        return {
            "a": a,
            "b": 1 - power * a,
            "params_coefficient": np.exp(log_params),
            "tokens_coefficient": np.exp(-np.log(cost) - power * log_params),
        }


def _of_law(name: str, fit: Fit, columns: Mapping[str, np.ndarray]) -> Approach:
    cost, power = cost_of_token(columns)
    best = {key: float(value) for key, value in best_of_law(fit.parameters, cost, power).items()}
    a_interval, b_interval = None, None
    if fit.draws is not None:
        draws = {key: fit.draws[:, place] for place, key in enumerate(fit.parameter_names)}
        drawn, tails = best_of_law(draws, cost, power), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        a_interval, b_interval = (tuple(np.nanquantile(drawn[key], tails).tolist()) for key in ("a", "b"))
    return Approach(name, **best, a_interval=a_interval, b_interval=b_interval, points=())


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else span(ends)


def _sentence(found: Sequence[Approach], target: float) -> str:
    said = ", ".join(f"{number(one.a)} by approach {one.name}" for one in found)
    ends = [one.a_interval for one in found if one.a_interval is not None]
    verdict = ""
    if len(ends) == len(found):
        low, high = max(low for low, _ in ends), min(high for _, high in ends)
        verdict = (
            f" All intervals hold {number(low)} to {number(high)}."
            if low <= high
            else " Their intervals have no value in common: the approaches disagree here."
        )
    sizes = [one.params(target) for one in found]
    return (
        f"The best size grows with compute with exponent {said}.{verdict} At {target:.2g} FLOPs they put it between "
        f"{short_count(min(sizes))} and {short_count(max(sizes))} parameters."
    )


def _panel(found: Sequence[Approach], flops: np.ndarray) -> Panel:
    line = np.geomspace(flops.min(), flops.max(), 50)
    families = []
    for one, tint in zip(found, colours(len(found)), strict=True):
        x, y = np.array(one.points, dtype=float).reshape(-1, 2).T
        families.append(Family(one.name, x, y, line, one.params(line), tint))
    return Panel(
        "Best size against compute",
        families,
        "training FLOPs C",
        "best size, parameters",
        note=", ".join(f"{one.name}: C^{number(one.a)}" for one in found),
        key="approach",
        flops=True,
        counts=True,
    )
