"""What `analysis.isoflop` finds, and how it stands in isoflop.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from analysis.isoflop.apart import HeldApart
from analysis.isoflop.bias import Bias
from analysis.isoflop.growth import AtTarget, Valley
from analysis.isoflop.slices import Slice

Method = Literal["parabola", "cubic", "akima", "hull", "envelope"]


@dataclasses.dataclass(frozen=True)
class Isoflop:
    """Valleys and the power laws through them.

    Attributes:
      method: parabola, cubic, akima, hull or envelope.
      valleys: by increasing budget.
      slices: the losses behind each valley (empty for hull and envelope).
      derived: a_opt and b_opt of N = k C^a, D = l C^b, with params_coefficient k and tokens_coefficient l; None
        where there are too few valleys.
      intervals: of a_opt and b_opt, by resampling; None where there are too few, or the exponent was given.
      noise: standard deviation of one run's loss behind the verdicts, over the loss or in nats; None where unknown.
      warnings: one line each.
      held_apart: rows that do not belong to the curve of their budget, by the numbers that the warnings call them.
      noise_source: where the noise is from, in words.
      at_targets: the best size at the budgets that were asked for.
      bias: what the method misses on a surface like this one; None where that is not known.
    """

    method: str
    valleys: tuple[Valley, ...]
    slices: tuple[Slice, ...]
    derived: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    noise: float | None
    warnings: tuple[str, ...]
    held_apart: tuple[HeldApart, ...] = ()
    noise_source: str = ""
    at_targets: tuple[AtTarget, ...] = ()
    bias: Bias | None = None

    def to_json(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The contents of isoflop.json; `source` is `Table.source()`."""
        return {
            "method": self.method,
            "valleys": [dataclasses.asdict(valley) for valley in self.valleys],
            "derived": dict(self.derived),
            "intervals": dict(self.intervals),
            "noise": self.noise,
            "noise_source": self.noise_source,
            "at_target": [dataclasses.asdict(target) for target in self.at_targets],
            "bias": None if self.bias is None else self.bias.to_json(),
            "held_apart": [dataclasses.asdict(row) for row in self.held_apart],
            "warnings": list(self.warnings),
            "input": dict(source),
        }
