"""Intervals that hold the truth as often as they say, verdicts, model choice, back-tests, reconciliations."""

from statistics import NormalDist

import numpy as np
import pytest

from analysis.fit import prediction
from analysis.fit.back_test import back_test
from analysis.fit.fit import fit_law
from analysis.fit.frontier import frontier
from analysis.fit.prediction import predict_law
from analysis.fit.selection import compare_laws, sensitivity
from analysis.fit.uncertainty import percentile_levels
from analysis.laws import get_law
from bench.calibrate_fits import coverage, design
from core.errors import BadInput

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def simulated(rows=60, noise=0.005, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"params": 10 ** rng.uniform(7, 10, rows), "tokens": 10 ** rng.uniform(9, 12, rows)}
    loss = predict_law(get_law("chinchilla"), np.array([list(TRUTH.values())]), columns)[0]
    return {**columns, "loss": loss * np.exp(noise * rng.standard_normal(rows))}


@pytest.mark.parametrize("robust", ["l2", "huber"])
def test_intervals_cover_95_percent_of_1000_tables(robust):
    for kind, shares in coverage(design(rows=60), 1000, robust=robust).items():
        for name, share in shares.items():
            assert abs(share - 0.95) <= 0.025, (kind, name)


@pytest.mark.slow
@pytest.mark.parametrize("bad_row", [0.0, 5.0])
@pytest.mark.parametrize(("grid", "noise"), [(4, 0.005), (5, 0.002), (5, 0.02), (8, 0.01)])
def test_default_intervals_of_grids_hold_the_truth_with_and_without_a_bad_row(grid, noise, bad_row):
    """93% to 97% of tables, and at most two binomial standard deviations of 1,000 tables beside it.

    A bad row may make intervals wider, where there are few rows.
    """
    slack = 2 * np.sqrt(0.95 * 0.05 / 1000)
    most = 0.97 + slack + (0.01 if bad_row else 0.0)
    for kind, shares in coverage(design(grid), 1000, noise, bad_row).items():
        for name, share in shares.items():
            assert 0.93 - slack <= share <= most, (kind, name, share)


def test_intervals_of_nine_rows_do_not_collapse():
    """At a noise far above delta the fit passes through five of the nine rows: 55% of its errors held the truth."""
    for kind, shares in coverage(design(3), 1000, 0.02).items():
        for name, share in shares.items():
            assert share >= 0.93, (kind, name, share)


def test_percentiles_widen_for_few_rows():
    """Hesterberg 2015, section 3.3, with Student's quantiles of a printed table."""
    for rows, parameters, student in ((12, 5, 2.3646243), (16, 5, 2.2009852), (35, 5, 2.0422725)):
        low, high = percentile_levels(0.95, rows, parameters)
        widened = np.sqrt(rows / (rows - parameters)) * student
        assert low == pytest.approx(1 - NormalDist().cdf(widened), rel=1e-5)
        assert high == 1 - low
    low, high = percentile_levels(0.95, 10**6, 5)
    assert low == pytest.approx(0.025, abs=1e-5)
    assert high == pytest.approx(0.975, abs=1e-5)


def test_bootstraps_agree_with_the_asymptotic_error():
    columns = simulated(200)
    law = get_law("chinchilla")
    options = {"robust": "l2", "starts": np.array([list(TRUTH.values())]), "seed": 1}
    plain = fit_law(law, columns, **options)
    for extra in ({}, {"wild": True}, {"cluster": np.arange(200)}):
        drawn = fit_law(law, columns, bootstrap=600, **options, **extra)
        for name in ("E", "alpha", "beta"):
            assert drawn.standard_errors[name] == pytest.approx(plain.standard_errors[name], rel=0.25)
    low, high = plain.intervals["alpha"]
    assert low < plain.parameters["alpha"] < high
    assert high - low == pytest.approx(2 * 1.97 * plain.standard_errors["alpha"], rel=0.25)
    one = plain.predict_interval({"params": 1e11, "tokens": 1e13})
    assert one[0][0] < plain.predict({"params": 1e11, "tokens": 1e13})[0] < one[1][0]


def test_an_interval_is_the_quantile_of_draws_and_residuals_and_repeated_rows_share_it(monkeypatch):
    columns = simulated(60)
    fitted = fit_law("chinchilla", columns, robust="l2", starts=np.array([list(TRUTH.values())]), seed=2)
    params, tokens = np.array([1e9, 1e8, 1e9, 3e10]), np.array([1e11, 1e10, 1e11, 1e10])
    E, A, B, alpha, beta = fitted.draws[:1000].T[:, :, None]
    log_loss = np.log(E + A * params**-alpha + B * tokens**-beta)
    landed = (log_loss[:, None] + fitted.residual_quantiles[None, :, None]).reshape(-1, 4)
    expected = np.exp(np.quantile(landed, [0.05, 0.95], axis=0))
    for most in (1, prediction.MOST_AT_ONCE):  # one row at a time, and all at once
        monkeypatch.setattr(prediction, "MOST_AT_ONCE", most)
        found = fitted.predict_interval({"params": params, "tokens": tokens}, level=0.9)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_clusters_widen_errors_where_runs_share_their_luck():
    rng = np.random.default_rng(3)
    columns = simulated(25, 0.0)
    repeated = {name: np.repeat(values, 8) for name, values in columns.items()}
    luck = np.repeat(0.01 * rng.standard_normal(25), 8)
    repeated["loss"] = repeated["loss"] * np.exp(luck + 0.001 * rng.standard_normal(200))
    options = {"robust": "l2", "starts": np.array([list(TRUTH.values())]), "bootstrap": 300}
    alone = fit_law("chinchilla", repeated, **options)
    together = fit_law("chinchilla", repeated, cluster=np.repeat(np.arange(25), 8), **options)
    assert together.standard_errors["alpha"] > 1.8 * alone.standard_errors["alpha"]


def test_a_parameter_that_the_table_says_nothing_about_is_not_identified():
    columns = simulated(40, 0.01)
    columns["tokens"] = 10 ** np.random.default_rng(9).uniform(10, 10.3, 40)
    columns["loss"] = columns["loss"][0] * (columns["params"] / columns["params"][0]) ** -0.05
    columns["loss"] = columns["loss"] * np.exp(0.01 * np.random.default_rng(8).standard_normal(40))
    fit = fit_law("chinchilla", columns, robust="l2")
    assert not (fit.identified["B"] and fit.identified["beta"])
    assert any("not identified" in warning for warning in fit.warnings)


def test_the_law_that_made_the_table_is_chosen():
    ranked = compare_laws(["power_params", "power_params_floor", "chinchilla"], simulated(80), robust="l2")
    assert ranked[0].fit.law.name == "chinchilla"
    assert ranked[0].weight > 0.99
    assert ranked[1].delta_aicc > 10
    # AIC of normal residuals, by hand
    fit = ranked[0].fit
    likelihood = -40 * (np.log(2 * np.pi * fit.value / 80) + 1)
    assert ranked[0].aic == pytest.approx(12 - 2 * likelihood, rel=1e-12)
    with pytest.raises(BadInput, match="targets"):
        compare_laws(["chinchilla", "error_from_loss"], simulated())


def test_back_test_predicts_the_largest_runs():
    starts = np.array([list(TRUTH.values())])
    tests = back_test("chinchilla", simulated(150), cutoffs=(0.5, 0.8), robust="l2", starts=starts)
    assert [test.actual.size for test in tests] == [75, 30]
    for test in tests:
        assert test.coverage >= 0.85
        assert test.relative_error < 0.01
        assert test.flops.min() > test.cutoff
    with pytest.raises(BadInput, match="cutoff"):
        back_test("chinchilla", simulated(150), cutoffs=(1e40,))


def test_sensitivity_lists_every_choice():
    columns = simulated(60)
    columns["flops"] = 7 * columns["params"] * columns["tokens"]
    columns["params_total"] = columns["params"] * 1.2
    tried = sensitivity("chinchilla", columns, starts=np.array([list(TRUTH.values())]))
    assert {"as asked", "l1 on log", "l2 on value", "N = params_total", "D = flops / 6N"} <= set(tried.labels)
    low, high = tried.spans["alpha"]
    assert low <= tried.fits[0].parameters["alpha"] <= high
    assert tried.to_json()["spans"]["alpha"] == [low, high]


def test_frontier_is_the_numerical_optimum():
    optimum = frontier(TRUTH, 1e23)
    params = np.exp(np.linspace(-0.01, 0.01, 2001)) * float(optimum.params)
    tokens = 1e23 / 6 / params
    loss = predict_law(
        get_law("chinchilla"), np.array([list(TRUTH.values())]), {"params": params, "tokens": tokens}
    )[0]
    assert params[loss.argmin()] == pytest.approx(float(optimum.params), rel=2e-5)
    assert loss.min() == pytest.approx(float(optimum.loss), rel=1e-9)


@pytest.mark.parametrize(
    ("coefficients", "exponent"),
    [((1.8172, 482.01, 2085.43, 0.3478, 0.3658), 0.78), ((1.6934, 406.4, 410.7, 0.3392, 0.2849), 0.74)],
)
def test_kaplan_and_chinchilla_reconciled(coefficients, exponent):
    """Pearce and Song 2024, arXiv 2406.12907: a law in total parameters whose optimum grows as C^0.5 looks like C^0.78
    (the Epoch fit) or C^0.74 (Hoffmann's own) to one who counts non-embedding parameters of small models.

    Their set-up: total = N + 47491 N^(1/3), twenty sizes from 10^2.9 to 10^9.2, non-embedding budgets from 10^12.95 to
    10^20.7; the best size at each budget, then a line through the logarithms.
    """
    sizes, budgets = np.logspace(2.9, 9.2, 20), np.logspace(12.95, 20.7, 100)
    table = {
        "params": np.repeat(sizes + 47491 * sizes ** (1 / 3), budgets.size),
        "tokens": (budgets / (6 * sizes[:, None])).reshape(-1),
    }
    loss = predict_law(get_law("chinchilla"), np.array([coefficients]), table)[0].reshape(
        sizes.size, budgets.size
    )
    best = sizes[loss.argmin(axis=0)]
    assert np.polyfit(np.log(budgets), np.log(best), 1)[0] == pytest.approx(exponent, abs=0.005)
