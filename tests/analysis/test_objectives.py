"""Objectives and the optimizer's indifference to their units; the exact L1 step against linear programming."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import huber

from analysis.fit.estimation import estimation_of
from analysis.fit.fit import fit_law
from analysis.fit.least_absolute import linear_least_absolute
from analysis.fit.objectives import FitObjective
from analysis.fit.solver import solve
from analysis.fit.uncertainty import cluster_weights, pair_weights
from analysis.laws import get_law
from bench.fits import scipy_fit
from bench.published import load_epoch
from core.errors import BadInput


@pytest.fixture(scope="module")
def epoch():
    columns = load_epoch()
    kept = np.sort(np.argsort(-columns["loss"])[5:])
    return {name: values[kept] for name, values in columns.items()}


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(1e-4, 5))
def test_huber_is_scipys(residuals, delta):
    values = np.array(residuals)
    assert FitObjective("huber", delta).value(values) == pytest.approx(
        huber(delta, values).sum(), rel=1e-12, abs=1e-300
    )


def test_names_and_deltas_are_checked():
    for arguments in (("median",), ("huber", -1.0), ("huber", np.inf), ("huber", 1e-3, "square")):
        with pytest.raises(BadInput, match="allowed"):
            FitObjective(*arguments)


@pytest.mark.parametrize("factor", [1e-6, 1 / 240, 1e6])
def test_a_constant_in_front_moves_nothing(epoch, factor):
    """Sum or mean, and an objective times 1e-6: the same parameters to nine digits."""
    law = get_law("chinchilla")
    starts = law.to_natural(law.starts(epoch)[::300])
    plain = fit_law(law, epoch, starts=starts, profile=False)
    scaled = fit_law(law, {**epoch, "weight": np.full(240, factor)}, starts=starts, profile=False)
    np.testing.assert_allclose(list(plain.parameters.values()), list(scaled.parameters.values()), rtol=1e-9)
    np.testing.assert_allclose(
        list(plain.standard_errors.values()), list(scaled.standard_errors.values()), rtol=1e-6
    )


def test_units_move_nothing(epoch):
    law = get_law("chinchilla")
    starts = law.to_natural(law.starts(epoch)[::300])
    plain = fit_law(law, epoch, starts=starts, profile=False)
    millions = fit_law(law, {**epoch, "params": epoch["params"] / 1e6}, starts=starts, profile=False)
    assert millions.parameters["alpha"] == pytest.approx(plain.parameters["alpha"], rel=1e-10)
    assert millions.parameters["A"] * 1e6 ** plain.parameters["alpha"] == pytest.approx(
        plain.parameters["A"], rel=1e-9
    )


def test_no_resample_is_worse_than_scipys(epoch):
    """L-BFGS-B with its tolerances tightened, from the same start, on 12 resamples."""
    law = get_law("chinchilla")
    estimation = estimation_of(law, epoch, FitObjective(), {})
    weights = pair_weights(240, 12, 7)
    start = np.array([0.5972, 6.1693, 7.6702, 0.3473, 0.3672])
    tables = dataclasses.replace(estimation.problem, weights=weights)
    begin = np.tile(estimation.centring.forward(start), (12, 1))
    ours = solve(tables, begin, estimation.box, anneal=False)
    theirs = np.array([scipy_fit(epoch, start, row)[1] for row in weights])
    assert np.all(ours.objective <= theirs * (1 + 1e-12))
    assert np.all(ours.converged)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_linear_least_absolute_equals_linear_programming(seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(8, 40)), int(rng.integers(1, 5))
    matrix, weights = rng.normal(size=(rows, columns)), rng.uniform(0.5, 2, rows)
    right = rng.standard_t(1.5, rows)
    ours = weights @ np.abs(right - matrix @ linear_least_absolute(matrix, right, weights))
    equality = np.hstack([matrix, np.eye(rows), -np.eye(rows)])
    bounds = [(None, None)] * columns + [(0, None)] * (2 * rows)
    program = linprog(np.r_[np.zeros(columns), weights, weights], A_eq=equality, b_eq=right, bounds=bounds)
    assert ours == pytest.approx(program.fun, rel=1e-9)


def test_resamples_are_the_published_stream_and_clusters_stay_whole():
    weights = pair_weights(240, 3, 42)
    np.random.seed(42)
    np.testing.assert_array_equal(
        weights[0], np.bincount(np.random.choice(240, 240, replace=True), minlength=240)
    )
    assert np.all(weights.sum(axis=1) == 240)
    labels = np.repeat(np.arange(10), 7)
    clustered = cluster_weights(labels, 5, 0).reshape(5, 10, 7)
    assert np.all(clustered == clustered[:, :, :1])
