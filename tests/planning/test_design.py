"""The design of grids: derivatives and variances against independent ones, the search against brute force, and the
expected interval against the project's own fit of simulated tables."""

import itertools

import numpy as np
import pytest

from analysis.fit.frontier import frontier
from bench import design_study
from core.errors import BadInput
from planning.design import (
    NOISE,
    PARAMETERS,
    Prior,
    ScaledLaws,
    draw_laws,
    expect,
    laws_of_fit,
    laws_with,
    losses,
    standard_deviations,
)
from planning.grids import Candidates, Grid, candidates, isoflop_grid, ladder
from planning.search import Limits, Search, best_grid, choose

BUDGET, TARGET = 1e18, 1e21
LAWS = draw_laws(8, BUDGET, Prior(), 0)


def one(laws, index=0):
    return {name: laws[name][index : index + 1] for name in PARAMETERS}


def test_laws_have_the_optimum_and_the_floor_that_they_were_asked_for():
    laws = laws_with(np.array([0.3]), np.array([0.4]), np.array([25.0]), np.array([0.3]), 1e19)
    best = frontier({name: values[:, None] for name, values in laws.items()}, np.array([1e19]))
    assert best.tokens[0, 0] / best.params[0, 0] == pytest.approx(25.0)
    assert 1 - laws["E"][0] / best.loss[0, 0] == pytest.approx(0.3)


def test_derivatives_are_those_of_finite_differences():
    params, tokens = np.array([1e7, 3e8]), np.array([4e9, 1e9])
    scaled = ScaledLaws.at(one(LAWS), params, tokens)

    def natural(step):
        """The law moved by `step` in the scaled's coordinates (log E, log a, log b, alpha, beta)."""
        law = {name: values[0] for name, values in one(LAWS).items()}
        alpha, beta = law["alpha"] + step[3], law["beta"] + step[4]
        log_a = np.log(law["A"]) - law["alpha"] * scaled.log_params + step[1]
        log_b = np.log(law["B"]) - law["beta"] * scaled.log_tokens + step[2]
        return {
            "E": np.array([law["E"] * np.exp(step[0])]), "A": np.array([np.exp(log_a + alpha * scaled.log_params)]),
            "B": np.array([np.exp(log_b + beta * scaled.log_tokens)]), "alpha": np.array([alpha]),
            "beta": np.array([beta]),
        }  # fmt: skip

    def answers(law):
        best = frontier({name: values[0] for name, values in law.items()}, TARGET)
        return np.array(
            [*np.log(losses(law, params, tokens)[0]), np.log(best.loss), np.log(best.params), law["alpha"][0]]
        )

    wanted = scaled.wanted(TARGET)
    ours = np.concatenate(
        [scaled.rows(params, tokens)[0], wanted["forecast"], wanted["params_opt"], wanted["alpha"]]
    )
    for place in range(5):
        step = 1e-5 * np.eye(5)[place]
        numeric = (answers(natural(step)) - answers(natural(-step))) / 2e-5
        np.testing.assert_allclose(ours[:, place], numeric, rtol=2e-6, atol=1e-9)


def test_variances_are_those_of_the_linear_model():
    rng = np.random.default_rng(0)
    rows, wanted = rng.standard_normal((1, 12, 5)), rng.standard_normal((1, 5))
    clusters, rho, noise = np.repeat([0, 1, 2], 4), 0.4, 0.01
    covariance = noise**2 * ((1 - rho) * np.eye(12) + rho * (clusters[:, None] == clusters[None, :]))
    estimator = np.linalg.pinv(rows[0])
    literal = wanted[0] @ estimator @ covariance @ estimator.T @ wanted[0]
    found = standard_deviations(rows, {"x": wanted}, noise, clusters, rho)["x"]
    assert found[0] == pytest.approx(np.sqrt(literal))


def test_a_grid_that_cannot_tell_the_exponents_apart_says_so():
    params = np.geomspace(1e7, 1e9, 12)
    one_ratio = expect(LAWS, params, np.full(12, 1e10), TARGET)
    assert one_ratio.to_json()["half_width_90"]["beta"] is None
    few = expect(LAWS, params[:4], np.geomspace(1e9, 1e10, 4), TARGET)
    assert few.to_json()["half_width_90"]["forecast"] is None


def test_the_plain_grid_is_hoffmanns():
    grid = isoflop_grid(BUDGET)
    flops = 6 * grid.params * grid.tokens
    assert grid.flops() == pytest.approx(BUDGET)
    levels = np.unique(np.round(np.log10(flops), 6))
    np.testing.assert_allclose(np.diff(levels), 0.5, atol=1e-5)
    top = flops > flops.max() * 0.99
    assert top.sum() == 6
    middle = np.exp(np.mean(np.log(grid.tokens[top] / grid.params[top])))
    assert middle == pytest.approx(20.0)
    assert grid.params[top].max() / grid.params[top].min() == pytest.approx(8.0)


def test_branches_of_a_trunk_are_paid_once():
    grid = Grid(np.array([1e6, 1e6, 2e6]), np.array([1e8, 2e8, 1e8]), np.array([0, 0, 0]), trunks=True)
    # a trunk to 0.8 of the longest, and a fifth of each branch
    assert grid.flops() == pytest.approx(6e6 * (1.6e8 + 0.2e8 + 0.4e8) + 12e6 * (0.8e8 + 0.2e8))
    assert Grid(grid.params, grid.tokens, grid.seeds).flops() == pytest.approx(6e6 * 3e8 + 12e6 * 1e8)


def pool_of(budget=BUDGET) -> Candidates:
    return candidates(ladder(budget), budget)


@pytest.mark.parametrize("trunks", [False, True])
def test_what_the_search_believes_is_what_a_grid_costs_and_gives(trunks):
    """Its shortcuts (rank-one updates, cost of one more branch) against computing every grid from scratch."""
    pool, rng = pool_of(), np.random.default_rng(1)
    rho = 0.5 if trunks else 0.0
    scaled = ScaledLaws.at(LAWS, pool.params, pool.tokens)
    search = Search(
        pool, scaled.rows(pool.params, pool.tokens), scaled.forecast(TARGET), Limits(BUDGET, 12, 2, trunks, rho)
    )
    design = [(int(place), 0) for place in rng.choice(pool.params.size, 9, replace=False)]
    after, added = search.after_adding(design, 0), search.added_flops(design, 0)
    for candidate in rng.choice(pool.params.size, 6, replace=False).tolist():
        if (candidate, 0) in design:
            continue
        grid = search.grid([*design, (candidate, 0)])
        here = ScaledLaws(LAWS, scaled.log_params, scaled.log_tokens)
        sd = standard_deviations(
            here.rows(grid.params, grid.tokens), {"f": here.forecast(TARGET)}, 1.0, grid.clusters, rho
        )["f"]
        assert after[candidate] == pytest.approx(np.mean(np.log(sd)), abs=1e-4)
        each = dict(zip(pool.params.tolist(), pool.flops_per_token.tolist(), strict=True))
        assert search.flops(design) + added[candidate] == pytest.approx(grid.flops(each))


def test_the_search_finds_what_trying_every_grid_finds():
    params = np.repeat([1e7, 4e7, 1.6e8], 3)
    tokens = np.tile([1e8, 4e8, 1.6e9], 3)
    pool = Candidates(params, tokens, 6 * params)
    scaled = ScaledLaws.at(LAWS, params, tokens)
    limits = Limits(float(pool.flops.sum()) * 0.6, 6)
    search = Search(pool, scaled.rows(params, tokens), scaled.forecast(TARGET), limits)
    found = best_grid(search)
    chosen = {(n, d) for n, d in zip(found.params.tolist(), found.tokens.tolist(), strict=True)}
    value = search.objective([(i, 0) for i in range(9) if (params[i], tokens[i]) in chosen])
    every = [
        search.objective([(i, 0) for i in some])
        for count in (5, 6)
        for some in itertools.combinations(range(9), count)
        if pool.flops[list(some)].sum() <= limits.flops
    ]
    assert value == pytest.approx(min(every), abs=1e-6)


def test_limits_are_kept():
    for limits in (Limits(BUDGET, 12), Limits(BUDGET, 15, seeds=3), Limits(BUDGET, 12, 1, True, 0.5)):
        grid = choose(pool_of(), LAWS, TARGET, limits)
        assert len(grid) <= limits.runs
        assert grid.flops() <= BUDGET * (1 + 1e-6)
        marks = list(zip(grid.params, grid.tokens, grid.seeds, strict=True))
        assert len(set(marks)) == len(marks)
        assert grid.seeds.max() < limits.seeds


def test_next_runs_shrink_the_interval_more_than_others_of_the_same_cost():
    there = isoflop_grid(BUDGET)
    pool = pool_of()
    more = choose(pool, LAWS, TARGET, Limits(BUDGET / 3, 3), (there.params, there.tokens))
    assert len(more) == 3

    def width(extra_params, extra_tokens):
        n, d = np.append(there.params, extra_params), np.append(there.tokens, extra_tokens)
        return expect(LAWS, n, d, TARGET).median["forecast"]

    rng = np.random.default_rng(0)
    others = []
    while len(others) < 20:
        some = rng.choice(pool.params.size, 3, replace=False)
        if pool.flops[some].sum() <= BUDGET / 3:
            others.append(width(pool.params[some], pool.tokens[some]))
    assert width(more.params, more.tokens) < min(others)


def test_chosen_grids_are_narrower_in_fitted_tables_and_as_narrow_as_expected():
    """The claim in small; `python -m bench.design_study` makes it with 200 truths (docs/results/planned.md)."""
    chosen = choose(pool_of(), draw_laws(16, BUDGET, Prior(), 0), TARGET, Limits(BUDGET, 30))
    grids = {"plain": (isoflop_grid(BUDGET), 0.0), "chosen": (chosen, 0.0)}
    truths = draw_laws(24, BUDGET, Prior(), 5)
    _, row = design_study.compare(grids, truths, TARGET, NOISE, 0)
    assert row.expected_ratio > 1.3
    assert row.realised_ratio > 1.2
    assert row.realised_ratio == pytest.approx(row.expected_ratio, rel=0.3)
    assert row.coverage > 0.7


def test_fits_give_laws_and_what_is_no_fit_is_refused():
    draws = np.array([[1.8, 400.0, 2000.0, 0.34, 0.36]] * 9 + [[1.8, 400.0, 2000.0, -0.1, 0.36]] * 5)
    laws = laws_of_fit({"law": "chinchilla", "draws": draws.tolist()}, 5, 0)
    assert laws["alpha"].shape == (5,)
    assert set(laws["alpha"]) == {0.34}
    for wrong, words in (
        ({"law": "kaplan"}, "kaplan"),
        ({"law": "chinchilla", "draws": draws[:7].tolist()}, "only 7 of 7"),
        ({"law": "chinchilla", "draws": None}, "only 0 of 0"),
        ({"law": "chinchilla", "draws": [[1, 2]]}, "cannot be read"),
        ({"law": "chinchilla"}, "cannot be read"),
    ):
        with pytest.raises(BadInput, match=words):
            laws_of_fit(wrong, 5, 0)


def test_impossible_grids_are_refused():
    with pytest.raises(BadInput, match="--budget"):
        candidates({1e9: 6e9}, 1e12)
    with pytest.raises(BadInput, match="pays for"):
        choose(pool_of(), LAWS, TARGET, Limits(BUDGET / 300, 30))
    with pytest.raises(BadInput, match="target"):
        expect(LAWS, np.array([1e7]), np.array([1e9]), -1.0)


@pytest.mark.parametrize(
    "flag", [("--truths", "1"), ("--target", "1e10"), ("--noise", "0"), ("--budget", "nan")]
)
def test_the_study_refuses_in_one_line(capsys, flag):
    with pytest.raises(SystemExit) as stopped:
        design_study.main(flag)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert flag[0] in said
