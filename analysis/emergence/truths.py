"""Known truths that the tests are held to: curves of accuracy, where they are measured, and what must come out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from analysis.emergence.noise import Design
from analysis.emergence.shapes import TEN_TO_NINETY

CHANCE = 0.25
ITEMS = 200
MIRAGE_TOKENS = 10
MIRAGE_NOISE = 0.02  # standard deviation of log loss between runs

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Truth:
    """One row of the simulation table.

    Attributes:
      curve: accuracy as a function of x, in decades above the smallest scale, with the span as x[-1].
      targets: test -> (">=" or "<=", share of rejections).
    """

    name: str
    curve: Curve
    scales: int = 12
    decades: float = 4.0
    seeds: int = 1
    overdispersion: float = 1.0
    targets: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def design(self) -> Design:
        return design(self.scales, self.decades, self.seeds)


def design(scales: int, decades: float, seeds: int) -> Design:
    """Evenly spaced scales from 1e6 on, ITEMS items a run."""
    rows = np.repeat(np.arange(scales), seeds)
    return Design(6.0 + np.linspace(0.0, decades, scales), rows, np.full(len(rows), float(ITEMS)), CHANCE)


def line(x: np.ndarray) -> np.ndarray:
    return 0.25 + 0.4 * (x - x[0]) / (x[-1] - x[0])


def rise(decades: float, chance: float = CHANCE) -> Curve:
    """A full S-curve from chance to 1, its 10%-90% rise over so many decades, its middle at the middle scale."""

    def curve(x: np.ndarray) -> np.ndarray:
        share = 1.0 / (1.0 + np.exp(-TEN_TO_NINETY * (x - 0.5 * (x[0] + x[-1])) / decades))
        return chance + (1.0 - chance) * share

    return curve


def hinge(x: np.ndarray) -> np.ndarray:
    """Chance up to two thirds of the scales, then a straight rise by 0.3."""
    return CHANCE + 0.3 * np.maximum((x - x[0]) / (x[-1] - x[0]) - 2.0 / 3.0, 0.0) * 3.0


def step(place: float) -> Curve:
    """A jump by 0.2 at a share of the way from the smallest to the largest scale."""
    return lambda x: CHANCE + 0.2 * ((x - x[0]) / (x[-1] - x[0]) > place)


def mirage_loss(x: np.ndarray) -> np.ndarray:
    """A power law of the loss per token: 1 nat at the smallest scale, exponent 0.4."""
    return 10.0 ** (-0.4 * (x - x[0]))


SIZE = {"delayed_onset": ("<=", 0.06), "sharp": ("<=", 0.06)}

TRUTHS = (
    Truth("line, 0.25 to 0.65", line, targets=SIZE),
    Truth("line, 0.25 to 0.65, 3 seeds", line, seeds=3, targets=SIZE),
    Truth("line, over-dispersion 3", line, overdispersion=3.0, targets=SIZE),
    Truth("line, over-dispersion 3, 3 seeds", line, seeds=3, overdispersion=3.0, targets=SIZE),
    Truth("logistic over 4 decades", rise(4.0), targets=SIZE),
    Truth("logistic over 4 decades, 3 seeds", rise(4.0), seeds=3, targets=SIZE),
    Truth("logistic over 3 decades, 6 scales", rise(3.0), scales=6, targets=SIZE),
    Truth("logistic over 3 decades, 7 scales", rise(3.0), scales=7, decades=5.0, targets=SIZE),
    Truth("logistic over 3 decades, 8 scales", rise(3.0), scales=8, decades=3.0, targets=SIZE),
    Truth("late hinge, gain 0.3", hinge, targets={"delayed_onset": (">=", 0.95)}),
    Truth(
        "step of 0.2 at 2/3", step(2.0 / 3.0), targets={"delayed_onset": (">=", 0.95), "sharp": (">=", 0.80)}
    ),
    Truth(
        "step of 0.2 at 1/2, 3 seeds",
        step(0.5),
        seeds=3,
        targets={"delayed_onset": (">=", 0.95), "sharp": (">=", 0.80)},
    ),
    Truth("step of 0.2 at 1/2, one seed", step(0.5), targets={"sharp": (">=", 0.80)}),
    Truth("S-curve within 1 decade, 5 scales", rise(1.0), scales=5, targets={"sharp": (">=", 0.95)}),
    Truth("S-curve within 1 decade, 6 scales", rise(1.0), scales=6, targets={"sharp": (">=", 0.95)}),
    Truth("S-curve within 1 decade, 12 scales", rise(1.0), targets={"sharp": (">=", 0.95)}),
)

FAMILY_SHARP = (rise(1.0), rise(0.7))
FAMILY_SMOOTH = (line, rise(4.0), rise(3.0), lambda x: np.full(len(x), CHANCE))
FAMILY_TASKS, FAMILY_TRUE = 40, 10
