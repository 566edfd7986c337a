"""Strengths from pairwise wins: closed forms, scipy, planted truths, ties, and wins without a finite answer."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.leaderboard.board import board
from analysis.leaderboard.bradley_terry import has_finite_strengths, is_connected, solve
from core.errors import BadInput


def test_two_runs_differ_by_the_logit_of_the_win_share():
    for wins in (0.5, 3, 41.5, 99):
        (strengths,) = solve(np.array([[[0, wins], [100 - wins, 0]]])).nats_BM
        assert strengths[0] - strengths[1] == pytest.approx(math.log(wins / (100 - wins)), abs=1e-9)
        assert strengths.sum() == pytest.approx(0, abs=1e-12)


def test_strengths_are_those_of_a_general_optimizer():
    chance = np.random.default_rng(0)
    wins = chance.integers(1, 60, (5, 6, 6)).astype(float)
    found = solve(wins)
    assert not found.separated_B.any()
    for table, strengths in zip(wins, found.nats_BM, strict=True):
        rest = table * (1 - np.eye(6))

        def loss(own, rest=rest):
            return (rest * np.logaddexp(0, -(own[:, None] - own[None]))).sum()

        best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(strengths, best - best.mean(), atol=1e-5)


def test_expected_wins_give_the_planted_strengths_back():
    planted = np.array([-1.5, -0.2, 0.1, 0.6, 1.0])
    share = 1 / (1 + np.exp(planted[None] - planted[:, None]))
    np.testing.assert_allclose(solve(1000 * share[None]).nats_BM[0], planted, atol=1e-9)


def test_strengths_that_are_infinite_are_kept_finite_and_this_is_said():
    wins = np.array([[0, 10, 10], [0, 0, 6], [0, 4, 0]], float)  # the first never loses
    assert is_connected(wins) and not has_finite_strengths(wins)
    found = solve(wins[None])
    assert found.separated_B[0] and np.isfinite(found.nats_BM).all() and found.nats_BM[0].argmax() == 0
    added = wins + 0.5 * (1 - np.eye(3))
    np.testing.assert_allclose(found.nats_BM, solve(added[None]).nats_BM, atol=1e-9)
    apart = np.kron(np.eye(2), [[0, 1], [1, 0]])
    assert not is_connected(apart)


def drawn(chance, planted, items):
    """Scores with P(i beats j) as Bradley and Terry have it: Gumbel noise, whose differences are logistic."""
    return planted[:, None] + chance.gumbel(size=(len(planted), items))


def ranked(scores, draws=300, seed=0, **flags):
    labels = [f"r{place}" for place in range(len(scores))]
    values = scores.mean(1).tolist()
    keywords = {"rises": True, **flags}
    return board("x", labels, scores, np.ones(scores.shape[1]), values, draws=draws, seed=seed, **keywords)


@pytest.mark.slow
def test_intervals_hold_the_planted_strengths():
    planted = np.array([0.0, 0.0, 0.8, 1.6])
    truth, trials, held, equal, order = planted - planted.mean(), 150, 0, 0, 0
    for trial in range(trials):
        found = ranked(drawn(np.random.default_rng(trial), planted, 200), draws=200, seed=trial)
        by_label = {standing.label: standing for standing in found.standings}
        for place, value in enumerate(truth):
            low, high = by_label[f"r{place}"].strength_interval
            held += low <= value <= high
        equal += by_label["r0"].rank == by_label["r1"].rank
        order += by_label["r3"].rank == 1 and by_label["r2"].rank == 2
    assert 0.915 < held / trials / 4 < 0.98  # 95% of 600, two of its standard errors and the bootstrap's own
    assert equal / trials > 0.9 and order / trials > 0.95


def test_equal_runs_share_a_rank_and_ranks_follow_strengths():
    chance = np.random.default_rng(4)
    scores = drawn(chance, np.array([0.0, 0.0, 2.0, -2.0]), 400)
    found = ranked(scores)
    assert found.standings[0].label == "r2"
    assert [standing.rank for standing in found.standings] == [1, 2, 2, 4]
    for one, other in itertools.pairwise(found.standings):
        assert one.strength >= other.strength and one.rank <= other.rank
    fewer = ranked(-scores, rises=False)
    assert fewer.standings[0].label == "r2" and fewer.standings[0].strength == found.standings[0].strength


def test_identical_runs_tie_on_every_item():
    scores = np.tile(np.random.default_rng(0).random(50), (3, 1))
    found = ranked(scores)
    assert found.tied == 1.0 and {standing.rank for standing in found.standings} == {1}
    assert all(
        standing.strength == pytest.approx(0) and standing.win_share == 0.5 for standing in found.standings
    )


def test_what_is_hard_for_all_cancels():
    """Two runs that are apart by little on items that are apart by much: paired, they are told apart."""
    chance = np.random.default_rng(1)
    hard = chance.normal(0, 5, 300)
    scores = np.stack([hard, hard + 0.1 + 0.05 * chance.normal(size=300)])
    found = ranked(scores)
    assert [standing.rank for standing in found.standings] == [1, 2]
    low, high = found.standings[0].interval
    assert high - low > 0.5  # though each mean by itself is hardly known


def test_the_mean_of_a_loss_weighs_sequences_by_their_tokens():
    scores = np.array([[1.0, 2.0, 4.0], [1.5, 2.5, 3.0]])
    weights = np.array([1.0, 1.0, 8.0])
    values = (scores @ weights / 10).tolist()
    found = board("loss", ["a", "b"], scores, weights, values, rises=False, draws=400)
    by_label = {standing.label: standing for standing in found.standings}
    assert by_label["a"].win_share == pytest.approx(2 / 3) and by_label["a"].value == pytest.approx(3.5)
    assert by_label["a"].interval[0] == pytest.approx(1.0) and by_label["a"].interval[1] == pytest.approx(4.0)


def test_one_run_or_one_item_is_no_comparison():
    for shape in ((1, 9), (2, 1)):
        with pytest.raises(BadInput, match="at least 2 of each"):
            ranked(np.zeros(shape))
