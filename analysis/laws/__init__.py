"""The laws by name. A new law is one new file here: import it below and add it to the tuple."""

from analysis.laws.accuracy_from_bits import accuracy_from_bits
from analysis.laws.base import Law, Parameter, Term, exponent, positive, power_sum, real
from analysis.laws.broken import bnsl1, bnsl2, bnsl3
from analysis.laws.chinchilla import chinchilla
from analysis.laws.data_constrained import data_constrained
from analysis.laws.error_from_loss import error_from_loss
from analysis.laws.kaplan import kaplan
from analysis.laws.overtrained import overtrained
from analysis.laws.power import (
    power_flops,
    power_flops_floor,
    power_params,
    power_params_floor,
    power_tokens,
    power_tokens_floor,
)
from analysis.laws.width_depth import width_depth
from core.errors import BadInput

__all__ = ["LAWS", "Law", "Parameter", "Term", "exponent", "get_law", "positive", "power_sum", "real"]

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        chinchilla,
        kaplan,
        power_params,
        power_params_floor,
        power_tokens,
        power_tokens_floor,
        power_flops,
        power_flops_floor,
        overtrained,
        data_constrained,
        width_depth,
        bnsl1,
        bnsl2,
        bnsl3,
        error_from_loss,
        accuracy_from_bits,
    )
}


def get_law(name: str) -> Law:
    """The law of that name.

    Raises:
      BadInput: there is none; the message lists the names.
    """
    if name not in LAWS:
        raise BadInput(f"law {name!r} is unknown; the laws are {', '.join(sorted(LAWS))}")
    return LAWS[name]
