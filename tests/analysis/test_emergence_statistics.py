"""Pieces of the emergence test against independent computations: scipy, closed forms, brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize

from analysis.emergence import breaks, effect, metric, noise, presence, seeds, truths
from analysis.emergence.collapse import loss_collapse
from analysis.emergence.hypotheses import minimum_p, p_values, upper_p
from analysis.emergence.settings import Settings
from analysis.emergence.shapes import TEN_TO_NINETY
from analysis.emergence.statistics import evaluate

PLAN = truths.design(12, 4.0, 1)


def test_presence_is_the_exact_binomial_tail():
    for successes, items, chance in (
        (60, 200, Fraction(1, 4)),
        (3, 10, Fraction(0)),
        (0, 5, Fraction(3, 10)),
        (10, 10, Fraction(1, 2)),
        (900, 3000, Fraction(1, 4)),
    ):
        terms = (
            math.comb(items, k) * chance**k * (1 - chance) ** (items - k) for k in range(successes, items + 1)
        )
        seen = presence.presence(np.array([0.0, successes]), np.array([items, items]), float(chance))
        assert seen.p == pytest.approx(float(sum(terms)), rel=1e-9)


def test_forecast_errors_are_recursive_residuals_of_weighted_lines():
    rng = np.random.default_rng(0)
    x, y, variance = np.sort(rng.uniform(0, 4, 9)), rng.normal(size=9), rng.uniform(0.5, 2, 9)
    found = np.asarray(breaks.forecast_errors(x, y[None], variance[None]))[0]
    for k in range(breaks.FIRST_FORECAST, 9):
        design = np.stack([np.ones(k), x[:k]], axis=1) / np.sqrt(variance[:k, None])
        beta, *_ = np.linalg.lstsq(design, y[:k] / np.sqrt(variance[:k]), rcond=None)
        row = np.array([1.0, x[k]])
        error = np.sqrt(variance[k] + row @ np.linalg.inv(design.T @ design) @ row)
        assert found[k - breaks.FIRST_FORECAST] == pytest.approx((y[k] - row @ beta) / error, rel=1e-3)


def test_bend_is_the_largest_hinge_t_of_a_regression():
    rng = np.random.default_rng(1)
    x, y, variance = np.linspace(0, 3, 8), rng.normal(size=8), rng.uniform(0.5, 2, 8)
    largest = -np.inf
    for knot in x[1:-1]:
        columns = np.stack([np.ones(8), x, np.maximum(x - knot, 0)], axis=1) / np.sqrt(variance[:, None])
        covariance = np.linalg.inv(columns.T @ columns)
        beta = covariance @ columns.T @ (y / np.sqrt(variance))
        largest = max(largest, beta[2] / np.sqrt(covariance[2, 2]))
    found = breaks.break_statistics(x, y[None], variance[None])
    assert float(found.bend_B[0]) == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize(("width", "name"), [(0.6, "sharp"), (2.6, "sharp_null")])
def test_a_logistic_fit_reaches_the_optimum_of_a_general_solver(width, name):
    rng = np.random.default_rng(5)
    share = 1.0 / (1.0 + np.exp(-TEN_TO_NINETY * (PLAN.x_K - 8.2) / width))
    correct = rng.binomial(200, 0.25 + 0.6 * share).astype(float)
    fit = getattr(evaluate(PLAN, correct[None], Settings(), "params"), name)
    adjusted = (correct + 2) / 204
    weight = 200 / (adjusted * (1 - adjusted))
    low, high = (0.09, 2.0) if name == "sharp" else (2.0, 16.0)

    def loss(p):
        curve = p[0] + (p[1] - p[0]) / (1.0 + np.exp(-TEN_TO_NINETY * (PLAN.x_K - p[2]) / p[3]))
        return float(np.sum(weight * (correct / 200 - curve) ** 2))

    box = [(0.25, 1.0), (0.0, 1.0), (5.0, 11.0), (low, high)]
    starts = [[0.25, 0.85, middle, min(max(width, low), high)] for middle in (7.5, 8.0, 8.5)]
    best = min(scipy.optimize.minimize(loss, start, bounds=box, method="L-BFGS-B").fun for start in starts)
    assert float(fit.chi2_B[0]) <= best * 1.002 + 1e-6
    assert float(fit.chi2_B[0]) == pytest.approx(loss(fit.parameters_BP[0]), rel=1e-6)


@pytest.mark.parametrize(("row", "scale"), [(1.0, 1.0), (3.0, 3.0), (1.0, 4.0)])
def test_beta_binomial_draws_have_the_promised_mean_and_variance(row, scale):
    plan = truths.design(3, 2.0, 4)
    size = 20_000
    over = noise.Overdispersion(np.full(size, row), np.full(size, scale))
    mean = np.array([0.25, 0.5, 0.9])
    drawn = noise.draw(plan, np.repeat(mean[None], size, axis=0), over, np.random.default_rng(0))
    pooled = drawn @ plan.gather_RK / plan.n_K
    assert pooled.mean(axis=0) == pytest.approx(mean, abs=0.004)
    assert pooled.var(axis=0) == pytest.approx(scale * mean * (1 - mean) / plan.n_K, rel=0.08)


def test_overdispersion_is_floored_at_one_and_found_between_seeds():
    plan = truths.design(8, 4.0, 3)
    mean = np.repeat(truths.line(plan.x_K)[None], 300, axis=0)
    for factor in (1.0, 4.0):
        over = noise.Overdispersion(np.full(300, factor), np.full(300, factor))
        found = evaluate(
            plan, noise.draw(plan, mean, over, np.random.default_rng(1)), Settings(), "params"
        ).over
        assert found.row_B.min() >= 1.0
        assert np.mean(found.row_B) == pytest.approx(factor, rel=0.2)


def test_shares_and_big_bench_numbers_of_known_curves():
    x = np.linspace(6.0, 10.0, 12)
    straight = effect.big_bench(truths.line(x))
    assert straight["breakthroughness"] == pytest.approx(11.0)
    assert straight["linearity"] == pytest.approx(11.0)
    assert effect.largest_share(x, truths.line(x), np.ones(12), 1.0) == pytest.approx(0.25)
    jump = np.where(x > 8.0, 0.8, 0.2)
    assert effect.largest_share(x, jump, np.ones(12), 1.0) == pytest.approx(1.0)
    assert effect.largest_share(x, jump[::-1], np.ones(12), 1.0) is None


def test_p_values_count_replicates_and_the_smallest_p_is_corrected():
    null = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert upper_p(np.array([2.5]), null) == pytest.approx([3 / 5])
    beyond = minimum_p([np.array([9.0]), np.array([9.0])], [null, null[:, ::-1]])
    assert beyond == pytest.approx([1 / 5])
    rng = np.random.default_rng(0)
    observed, replicates = rng.normal(size=(3, 1500)), rng.normal(size=(3, 1500, 499))
    p = minimum_p(list(observed), list(replicates))
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.018)


def _break_p(x, loss):
    found = metric.check("nll", x, loss, 0)
    assert found is not None
    return found.p


def test_power_law_loss_does_not_break_and_a_kink_does():
    rng = np.random.default_rng(3)
    x = np.linspace(6.0, 10.0, 12)
    noises = np.exp(0.02 * rng.standard_normal((200, 12)))
    for irreducible in (0.0, 0.5):
        p = [_break_p(x, (irreducible + 2.0 * 10 ** (-0.3 * (x - 6))) * e) for e in noises]
        assert np.mean(np.array(p) <= 0.05) <= 0.08
    kink = np.where(x < 8.0, 2.0, 2.0 * 10 ** (-0.5 * (x - 8.0)))
    assert all(_break_p(x, kink * e) <= 0.01 for e in noises[:20])
    assert _break_p(x, 2.0 * 10 ** (-0.3 * (x - 6))) > 0.01  # a law without noise is no break
    assert metric.check("nll", x[:3], x[:3], 0) is None


def test_two_kinds_of_seeds_are_told_from_one():
    rng = np.random.default_rng(0)
    n = np.full(10, 200.0)
    two = np.array([12, 8, 10, 14, 9, 190, 188, 195, 191, 193], dtype=float)
    assert seeds.bimodality(two, n, rng) <= 0.01
    one = [seeds.bimodality(rng.binomial(200, 0.5, 10).astype(float), n, rng) for _ in range(20)]
    assert np.mean(np.array(one) <= 0.05) <= 0.2
    few = seeds.seed_report(PLAN.x_K, PLAN.scale_R, np.full(12, 50.0), PLAN.n_R, 0.25, rng)
    assert few["bimodality"] is None
    assert "1 seed" in few["note"]


def test_success_intervals_are_wilson_scores():
    """Wilson 1927: the shares that lie 1.96 of their own standard errors from 3 of 8."""
    scale, rng = np.repeat([0, 1], 8), np.random.default_rng(0)
    correct = np.array([10.0] * 8 + [190.0] * 3 + [10.0] * 5)
    report = seeds.seed_report(np.array([6.0, 7.0]), scale, correct, np.full(16, 200.0), 0.0, rng)
    row = report["success"][1]
    assert (row["share"], row["seeds"]) == (3 / 8, 8)
    for end in row["interval"]:
        assert abs(3 / 8 - end) / np.sqrt(end * (1 - end) / 8) == pytest.approx(1.959963984540054, rel=1e-9)


def test_scale_given_loss_is_seen_only_where_it_adds():
    rng = np.random.default_rng(4)
    scale, loss = rng.uniform(6, 9, 40), rng.uniform(2, 4, 40)
    n = np.full(40, 500.0)
    by_loss = rng.binomial(500, 1 / (1 + np.exp(-2 * (3 - loss)))).astype(float)
    by_both = rng.binomial(500, 1 / (1 + np.exp(-2 * (3 - loss) - (scale - 7.5)))).astype(float)
    assert loss_collapse(loss, scale, by_loss, n, rng)["p"] > 0.05
    assert loss_collapse(loss, scale, by_both, n, rng)["p"] <= 0.001
    assert loss_collapse(10.0 - scale, scale, by_loss, n, rng)["p"] is None
    assert loss_collapse(None, scale, by_loss, n, rng)["p"] is None


def test_rows_of_a_family_that_move_together_are_no_evidence():
    """A late jump of all rows of one family out of four: many items, but only one family says so."""
    scale = np.tile(np.arange(8), 4)
    family = np.repeat(list("abcd"), 8)
    plan = noise.Design(np.linspace(6.0, 9.5, 8), scale, np.full(32, 400.0), 0.25)
    mean = np.where((family == "a") & (scale >= 6), 0.5, 0.3)
    correct = np.random.default_rng(0).binomial(400, mean).astype(float)[None]
    observed = evaluate(plan, correct, Settings(), "params")
    rng = np.random.default_rng(1)
    found = p_values(plan, correct, observed, Settings(), "params", rng, stages=(499,), family_R=family)
    naive = p_values(plan, correct, observed, Settings(), "params", np.random.default_rng(1), stages=(499,))
    assert found.delayed_onset_D[0] >= max(naive.delayed_onset_D[0], 0.05)


@pytest.mark.parametrize(
    ("curve", "over", "delayed", "sharp"),
    [
        (truths.line, 1.0, (0.0, 0.12), (0.0, 0.12)),
        (truths.line, 3.0, (0.0, 0.12), (0.0, 0.12)),
        (truths.rise(3.0), 1.0, (0.0, 0.12), (0.0, 0.12)),
        (truths.hinge, 1.0, (0.93, 1.0), (0.0, 1.0)),
        (truths.step(2.0 / 3.0), 1.0, (0.90, 1.0), (0.72, 1.0)),
        (truths.rise(1.0), 1.0, (0.93, 1.0), (0.97, 1.0)),
    ],
)
def test_sizes_and_power_on_known_truths(curve, over, delayed, sharp):
    """150 data sets each; the full table is `python -m analysis.emergence --calibrate`."""
    size = 150
    flat = np.full(size, over)
    rng = np.random.default_rng(11)
    mean = np.repeat(curve(PLAN.x_K)[None], size, axis=0)
    correct = noise.draw(PLAN, mean, noise.Overdispersion(flat, flat), rng)
    found = p_values(
        PLAN,
        correct,
        evaluate(PLAN, correct, Settings(), "params"),
        Settings(),
        "params",
        rng,
        stages=(99, 199),
    )
    assert delayed[0] <= np.mean(found.delayed_onset_D <= 0.05) <= delayed[1]
    assert sharp[0] <= np.mean(found.sharp_D <= 0.05) <= sharp[1]
