"""What a section of a report is: a question that only some sweeps ask, answered from their logs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.fit.fit import Fit
from analysis.isoflop.find import Isoflop
from analysis.logs.load import Sweep
from analysis.logs.load_curves import Curves
from analysis.report.document import Block


@dataclasses.dataclass(frozen=True)
class Known:
    """What is there before a section looks.

    Attributes:
      columns: every usable run, in the order of `sweep.usable`; empty where no table can be made.
      single: the rows of it that a law of size and data may take: all that read no token twice.
      fit, isoflop, envelope: of these rows.
      evaluations: rows of all evals.jsonl.
    """

    sweep: Sweep
    columns: Mapping[str, np.ndarray]
    single: np.ndarray
    fit: Fit | None
    isoflop: Isoflop | None
    envelope: Isoflop | None
    evaluations: Curves
    bootstrap: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure that is yet to be drawn; `name` is its file's stem."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclasses.dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
      said: its findings, a sentence or two each, for the top of the report.
      blocks: words and tables.
      drawings: figures, after them.
      results: JSON files, by name.
      front: whether it is what the sweep is about, and so comes before the law.
    """

    title: str
    said: tuple[str, ...]
    blocks: tuple[Block, ...]
    drawings: tuple[Drawing, ...] = ()
    results: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    front: bool = False


def without_draws(fit: Fit) -> dict[str, Any]:
    """A fit as fit.json has it, without the resamples that its intervals were read from."""
    return {name: value for name, value in fit.to_json().items() if name != "draws"}
