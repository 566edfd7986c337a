"""Accuracy that falls with scale is called so beyond noise, and rarely where it does not fall."""

import numpy as np
import pytest

from analysis.emergence.inverse import fall_before_rise, fall_p
from analysis.emergence.noise import Overdispersion, draw
from analysis.emergence.truths import design

TABLES = 2000


def share_called(plan, mean_K, over=1.0, level=0.05, seed=0):
    flat = np.full(TABLES, over)
    rng = np.random.default_rng(seed)
    correct_BR = draw(plan, np.repeat(mean_K[None], TABLES, axis=0), Overdispersion(np.ones(TABLES), flat), rng)
    return np.mean([fall_p(plan, correct_R) <= level for correct_R in correct_BR])


@pytest.mark.parametrize("over", [1.0, 3.0])
@pytest.mark.parametrize(("scales", "seeds"), [(5, 1), (8, 1), (12, 1), (12, 3)])
@pytest.mark.parametrize("accuracy", [0.05, 0.25, 0.5])
def test_accuracy_that_stays_is_called_at_the_level(scales, seeds, accuracy, over):
    plan = design(scales, 4.0, seeds)
    assert share_called(plan, np.full(scales, accuracy), over) <= 0.06


def test_accuracy_that_rises_is_never_called():
    plan = design(8, 4.0, 1)
    assert share_called(plan, np.linspace(0.25, 0.5, 8)) == 0.0


def test_a_fall_is_seen():
    plan = design(12, 4.0, 1)
    assert share_called(plan, np.linspace(0.5, 0.35, 12)) >= 0.95
    assert share_called(plan, np.array([0.5] * 8 + [0.45, 0.4, 0.35, 0.3])) >= 0.9


def test_a_fall_before_a_rise_is_told_with_both_turning_points():
    plan = design(10, 4.0, 1)
    plan = type(plan)(plan.x_K, plan.scale_R, np.full(10, 1000.0), 0.25)
    u_shaped = np.array([0.5, 0.45, 0.4, 0.35, 0.3, 0.3, 0.4, 0.5, 0.6, 0.7])
    top, low = fall_before_rise(plan, np.round(u_shaped * 1000))
    assert (top, low) == (0, 4)
    rng = np.random.default_rng(0)
    rising = np.linspace(0.3, 0.6, 10)
    told = sum(fall_before_rise(plan, rng.binomial(1000, rising).astype(float)) is not None for _ in range(500))
    flat = sum(
        fall_before_rise(plan, rng.binomial(1000, np.full(10, 0.3)).astype(float)) is not None
        for _ in range(500)
    )
    assert told == 0
    assert flat / 500 <= 0.02


def test_rows_of_few_families_are_not_independent():
    plan = design(6, 3.0, 4)
    family_R = np.tile(["a", "b", "c", "d"], 6)
    rng = np.random.default_rng(0)
    called = {True: 0, False: 0}
    for _ in range(400):
        slope_F = 0.03 * rng.standard_normal(4)  # families differ in how they grow
        mean_R = 0.4 + np.tile(slope_F, 6) * (plan.x_K[plan.scale_R] - plan.x_K.mean())
        correct_R = rng.binomial(plan.n_R.astype(int), mean_R).astype(float)
        called[False] += fall_p(plan, correct_R) <= 0.05
        called[True] += fall_p(plan, correct_R, family_R) <= 0.05
    assert called[True] / 400 <= 0.07
    assert called[False] > called[True]
