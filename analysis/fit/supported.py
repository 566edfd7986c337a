"""Which law does a table support? Several are fitted to the same rows, held to an information criterion and to a
back-test, and the answer is a sentence that also says where the table cannot tell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as Grid

from analysis.fit.back_test import Trust, trust
from analysis.fit.fit import Fit, fit_law
from analysis.fit.selection import RankedLaw, check_one_target, ranked
from analysis.laws import get_law
from analysis.laws.base import Law
from core.errors import BadInput
from core.numbers import percent

CLEARLY = 10.0  # Burnham and Anderson 2002, section 2.6: no support for a model this far in AIC
SUBSTANTIALLY = 2.0  # up to here, substantial support
WORSE = 1.5  # factor of back-test errors beyond which the criterion and the back-test disagree


def clearly_better(ranks: Sequence[RankedLaw], usual: str) -> Law | None:
    """The law that a table clearly prefers to the usual one and identifies; None where there is none."""
    reported = next((one for one in ranks if one.fit.law.name == usual), None)
    if reported is None or not CLEARLY < reported.delta_aicc < math.inf:
        return None
    best = ranks[0].fit
    return best.law if best.known and best.residual_sd < reported.fit.residual_sd else None


@dataclass(frozen=True)
class LawComparison:
    """Laws of one table, best first by AICc.

    Attributes:
      ranked: fits with their criteria. trusts: a back-test of each, in the same order; None where none was made.
      refused: laws that the table cannot be fitted with, and why.
      usual: the law that is taken where the table does not tell.
    """

    ranked: tuple[RankedLaw, ...]
    trusts: tuple[Trust | None, ...]
    refused: tuple[tuple[str, str], ...] = ()
    usual: str = "chinchilla"

    @property
    def supported(self) -> Fit:
        """The law that the table supports: the best one where it is told clearly, the usual one where it is not."""
        best = self.ranked[0]
        usual = next((one for one in self.ranked if one.fit.law.name == self.usual), best)
        told = math.isfinite(best.aicc) and usual.delta_aicc > CLEARLY
        if not told or not best.fit.known or self._contradicted(best, usual):
            return usual.fit
        return best.fit

    def _contradicted(self, best: RankedLaw, other: RankedLaw) -> bool:
        """Whether left-out rows are predicted much worse by the law of the better criterion."""
        ours, theirs = self._error(best), self._error(other)
        return math.isfinite(ours) and math.isfinite(theirs) and ours > WORSE * theirs

    def trust_of(self, name: str) -> Trust | None:
        """The back-test of a law."""
        return next(
            (kept for one, kept in zip(self.ranked, self.trusts, strict=True) if one.fit.law.name == name), None
        )

    def _error(self, one: RankedLaw) -> float:
        kept = self.trust_of(one.fit.law.name)
        return math.nan if kept is None or not kept.tests else kept.error

    @property
    def sentence(self) -> str:
        """Which law the table supports, with the figures; or that it does not tell."""
        best, *others = self.ranked
        name = best.fit.law.name
        if not math.isfinite(best.aicc):
            return "The table has too few rows to tell laws apart by AICc."
        near = [one for one in others if one.delta_aicc <= SUBSTANTIALLY]
        weak = [one for one in others if SUBSTANTIALLY < one.delta_aicc <= CLEARLY]
        far = [one for one in others if one.delta_aicc > CLEARLY]
        if near:
            words = f"The table does not tell {_listed([best, *near])} apart"
        elif weak:
            words = f"The table leans to {name}, and does not rule out {_listed(weak, True)}"
        elif far:
            words = f"The table supports {name}"
        else:
            return f"The table can be fitted with {name} only."
        gaps = f": AICc is higher by {far[0].delta_aicc:.3g} or more for {_listed(far)}" if far else ""
        words += f"{gaps}.{self._back_tested(near or weak or far[:1])}"
        if not best.fit.known:
            words += f" {name} is not identified by it ({best.fit.why_unknown})."
        if self.supported is not best.fit:
            words += f" What follows is of {self.supported.law.name}, the usual law."
        return words

    def _back_tested(self, rivals: Sequence[RankedLaw]) -> str:
        told = []
        for one in (self.ranked[0], *rivals):
            kept = self.trust_of(one.fit.law.name)
            if kept is not None and kept.tests:
                told.append(
                    f"{one.fit.law.name} {percent(kept.error)} ({kept.covered} of {kept.n} within their "
                    f"{kept.nominal:.0%} interval)"
                )
        if not told:
            return ""
        contradicted = [one for one in rivals if self._contradicted(self.ranked[0], one)]
        but = f" The back-test prefers {_listed(contradicted)}." if contradicted else ""
        return f" Of left-out larger runs the mean error is: {', '.join(told)}.{but}"

    def grid(self) -> Grid:
        """For the terminal."""
        grid = Grid(title="laws of this table, best first", title_justify="left")
        for header in (
            "law", "free", "AICc above best", "left over", "back-test error", "in interval", "identified",
        ):  # fmt: skip
            text = header in ("law", "identified")
            grid.add_column(header, justify="left" if text else "right", no_wrap=header == "law")
        for one, kept in zip(self.ranked, self.trusts, strict=True):
            fit, tested = one.fit, kept is not None and bool(kept.tests)
            grid.add_row(
                fit.law.name,
                str(len(fit.law.parameters) - len(fit.fixed)),
                f"{one.delta_aicc:.1f}" if math.isfinite(one.delta_aicc) else "too few rows",
                percent(fit.residual_sd) if fit.objective.space == "log" else f"{fit.residual_sd:.3g}",
                percent(kept.error) if kept is not None and tested else "none",
                f"{kept.covered} of {kept.n}" if kept is not None and tested else "",
                "yes" if fit.known else f"NO: {', '.join(fit.unknown)}",
            )
        return grid

    def to_json(self) -> dict[str, Any]:
        """The `compared` entry of fit.json."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "supported": self.supported.law.name,
            "sentence": self.sentence,
            "laws": [
                {
                    "law": one.fit.law.name,
                    "aic": finite(one.aic),
                    "aicc": finite(one.aicc),
                    "bic": finite(one.bic),
                    "aicc_above_best": finite(one.delta_aicc),
                    "weight": one.weight,
                    "identified": one.fit.known,
                    "parameters": one.fit.parameters,
                    "back_test": None if kept is None or not kept.tests else kept.to_json(),
                }
                for one, kept in zip(self.ranked, self.trusts, strict=True)
            ],
            "refused": [{"law": name, "why": why} for name, why in self.refused],
        }


def compare(
    laws: Sequence[Law | str],
    columns: Mapping[str, np.ndarray],
    back_tested: bool = True,
    usual: str = "chinchilla",
    **options: Any,
) -> LawComparison:
    """Fit laws to the same rows; one that the table cannot be fitted with is listed with the reason.

    Raises:
      BadInput: laws of different targets, the same law twice, or none that can be fitted.
    """
    chosen = [get_law(law) if isinstance(law, str) else law for law in laws]
    names = [law.name for law in chosen]
    if len(set(names)) < len(names):
        raise BadInput(f"--compare {' '.join(names)}: a law is named twice")
    check_one_target(chosen)
    fits, refused = [], []
    for law in chosen:
        try:
            fits.append(fit_law(law, columns, **options))
        except BadInput as error:
            refused.append((law.name, str(error)))
    if not fits:
        raise BadInput(f"no law can be fitted: {'; '.join(f'{name}: {why}' for name, why in refused)}")
    order = ranked(fits, columns, options.get("cluster"))
    kept = {
        name: value
        for name, value in options.items()
        if name not in ("bootstrap", "wild", "table_warnings", "level")
    }
    trusts = tuple(
        trust(one.fit.law, columns, whole_fit=one.fit, **kept) if back_tested else None for one in order
    )
    return LawComparison(tuple(order), trusts, tuple(refused), usual)


def _listed(ranks: Sequence[RankedLaw], gaps: bool = False) -> str:
    names = [
        f"{one.fit.law.name} (AICc higher by {one.delta_aicc:.2g})" if gaps else one.fit.law.name
        for one in ranks
    ]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
