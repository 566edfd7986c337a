"""One-variable power laws, with and without an irreducible loss (Kaplan et al. 2020, arXiv 2001.08361)."""

from analysis.laws.base import Law, Term, power_sum, spread_starts


def power_law(column: str, planted: tuple[float, ...]) -> Law:
    """L = A / column^alpha planted as (A, alpha), or E + A / column^alpha as (E, A, alpha)."""
    floor = len(planted) == 3
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
        planted=dict(zip(("E", "A", "alpha") if floor else ("A", "alpha"), planted, strict=True)),
    )


power_params, power_params_floor = power_law("params", (20.0, 0.12)), power_law("params", (1.7, 400.0, 0.34))
power_tokens, power_tokens_floor = power_law("tokens", (30.0, 0.1)), power_law("tokens", (1.5, 900.0, 0.3))
power_flops, power_flops_floor = power_law("flops", (100.0, 0.08)), power_law("flops", (1.6, 1500.0, 0.16))
