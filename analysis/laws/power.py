"""One-variable power laws, with and without an irreducible loss (Kaplan et al. 2020, arXiv 2001.08361)."""

from analysis.laws.base import Law, Term, power_sum, spread_starts


def power_law(column: str, floor: bool) -> Law:
    """L = A / column^alpha, or E + A / column^alpha with `floor`."""
    term = Term("A", ((column, "alpha", -1.0),))
    terms = (Term("E"), term) if floor else (term,)
    return power_sum(
        name=f"power_{column}{'_floor' if floor else ''}",
        inputs=(column,),
        terms=terms,
        grid=spread_starts(
            terms, exponents=(0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5), shares=(0.02, 0.3, 0.6, 0.9)
        ),
        source="Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.1 to 1.3"
        + ("; floor as in Henighan et al. 2020, arXiv 2010.14701, eq. 1.1" if floor else ""),
        text=f"L = {'E + ' if floor else ''}A / {column}^alpha",
    )


power_params, power_params_floor = power_law("params", False), power_law("params", True)
power_tokens, power_tokens_floor = power_law("tokens", False), power_law("tokens", True)
power_flops, power_flops_floor = power_law("flops", False), power_law("flops", True)
