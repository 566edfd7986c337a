"""The laws by name. A new law is one new file here: import it below and add it to the tuple."""

from analysis.laws.base import Law, Parameter, Term, exponent, positive, power_sum, real
from analysis.laws.chinchilla import chinchilla
from errors import BadInput

__all__ = ["LAWS", "Law", "Parameter", "Term", "exponent", "get_law", "positive", "power_sum", "real"]

LAWS: dict[str, Law] = {law.name: law for law in (chinchilla,)}


def get_law(name: str) -> Law:
    """The law of that name.

    Raises:
      BadInput: there is none; the message lists the names.
    """
    if name not in LAWS:
        raise BadInput(f"law {name!r} is unknown; the laws are {', '.join(sorted(LAWS))}")
    return LAWS[name]
