"""Over- and under-predicted rows may weigh unlike, and a floor may have either sign."""

import json

import numpy as np
import pytest
from scipy.optimize import linprog

from analysis.fit.command import main
from analysis.fit.estimation import estimation_of
from analysis.fit.fit import Fit, fit_law
from analysis.fit.least_absolute import linear_least_absolute
from analysis.fit.objectives import FitObjective
from analysis.fit.solver import solve
from analysis.laws import get_law
from core.errors import BadInput

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def grid(noise=None, shift: float = 0.0) -> dict[str, np.ndarray]:
    params, tokens = (
        side.ravel() for side in np.meshgrid(np.geomspace(1e7, 3e9, 8), np.geomspace(3e8, 1e11, 8))
    )
    loss = TRUTH["E"] + TRUTH["A"] / params ** TRUTH["alpha"] + TRUTH["B"] / tokens ** TRUTH["beta"]
    return {"params": params, "tokens": tokens, "loss": loss * (1 if noise is None else np.exp(noise)) + shift}


def test_the_objective_weighs_the_sides():
    residuals = np.array([-2.0, 1.0])  # observed less predicted: the first is predicted too high
    assert FitObjective("l1", asymmetry=10).value(residuals) == 21
    assert FitObjective("l2", asymmetry=10).value(residuals) == 41
    assert FitObjective("huber", 1.0, asymmetry=10).value(residuals) == 10 * 1.5 + 0.5
    for wrong in (0.0, -1.0, np.nan, np.inf, 1e9):
        with pytest.raises(BadInput, match="asymmetry"):
            FitObjective(asymmetry=wrong)


def test_the_absolute_step_is_a_quantile_regression():
    """The linear program of Koenker and Bassett 1978, written out, has the same optimum."""
    rng = np.random.default_rng(0)
    matrix, right, ratio = rng.normal(size=(40, 3)), rng.normal(size=40), 9.0
    mine = linear_least_absolute(matrix, right, np.ones(40), ratio)
    eye = np.eye(40)
    program = linprog(
        np.concatenate([np.zeros(3), np.ones(40), np.full(40, ratio)]),
        A_eq=np.hstack([matrix, eye, -eye]),
        b_eq=right,
        bounds=[(None, None)] * 3 + [(0, None)] * 80,
    )
    np.testing.assert_allclose(mine, program.x[:3], atol=1e-7)


@pytest.mark.parametrize("name", ["chinchilla", "kaplan"])
@pytest.mark.parametrize("robust", ["huber", "l2"])
def test_the_solver_ends_at_a_minimum(name, robust):
    """Of the objective in NumPy: no small step lowers it."""
    law, rng = get_law(name), np.random.default_rng(1)
    table = grid(rng.exponential(0.02, 64))
    objective = FitObjective(robust, 1e-2, asymmetry=7.0)
    estimation = estimation_of(law, table, objective, {})
    starts = estimation.centred(np.array([[law.planted[name] for name in law.names]]))
    point = solve(estimation.problem, starts, estimation.box).point[0]
    least = estimation.reported(point)
    for step in rng.normal(size=(300, point.size)) * 10 ** rng.uniform(-6, -2, (300, 1)):
        assert estimation.reported(point + step) >= least * (1 - 1e-10)


@pytest.mark.slow
def test_one_sided_errors_leave_the_lower_edge():
    """Errors that only raise a loss: at an asymmetry of 50 the law is the edge they rise from.

    Weight 10 with absolute errors is the published choice (see analysis/fit/objectives.py).
    """
    table = grid(np.random.default_rng(2).exponential(0.03, 64))
    plain = fit_law("chinchilla", table, robust="l1", profile=False)
    edge = fit_law("chinchilla", table, robust="l1", asymmetry=50.0, profile=False)
    clean = grid()
    assert np.median(plain.predict(clean) / clean["loss"]) > 1.015
    assert np.median(edge.predict(clean) / clean["loss"]) < 1.004
    below = np.mean(table["loss"] < edge.predict(table) - 1e-9)
    assert below <= 1 / 51 + 5 / 64
    again = Fit.from_json(json.loads(json.dumps(edge.to_json())))
    assert again.objective == edge.objective
    with pytest.raises(BadInput, match="--wild"):
        fit_law("chinchilla", table, asymmetry=2.0, bootstrap=10, wild=True)


@pytest.mark.long
def test_asymmetric_intervals_hold_the_exponents():
    """80 tables of skewed errors, expectiles: the noise adds one factor, so that exponents keep their truth."""
    held = []
    starts = np.array([[TRUTH[name] for name in get_law("chinchilla").names]])
    for seed in range(80):
        table = grid(np.random.default_rng(seed).gamma(2.0, 0.002, 64))
        fit = fit_law("chinchilla", table, robust="l2", asymmetry=5.0, starts=starts, profile=False)
        held.append(
            [fit.intervals[name][0] < TRUTH[name] < fit.intervals[name][1] for name in ("alpha", "beta")]
        )
    assert 0.88 <= np.mean(held) <= 1.0


@pytest.mark.slow
def test_a_floor_of_either_sign(tmp_path, capsys):
    """A loss of which 3 was taken off, all positive: with --signed-floor the floor is 3 lower, without it is at 0."""
    table = grid(np.random.default_rng(3).normal(0, 1e-4, 64), shift=-2.0)
    table["loss"] -= min(0.0, table["loss"].min() - 0.02)
    shift = table["loss"][0] - grid()["loss"][0]
    assert (table["loss"] > 0).all()
    path = tmp_path / "table.csv"
    rows = zip(table["params"], table["tokens"], table["loss"], strict=True)
    path.write_text("params,tokens,loss\n" + "".join(f"{n:.0f},{d:.0f},{loss:.9f}\n" for n, d, loss in rows))
    main(
        [
            str(path),
            "--space",
            "linear",
            "--robust",
            "l2",
            "--signed-floor",
            "--out",
            str(tmp_path / "fit.json"),
        ]
    )
    fit = Fit.from_json(json.loads((tmp_path / "fit.json").read_text()))
    assert fit.parameters["E"] == pytest.approx(TRUTH["E"] + shift, abs=0.02)
    assert fit.parameters["E"] < 0
    assert fit.intervals["E"][0] - 2e-3 < TRUTH["E"] + shift < fit.intervals["E"][1] + 2e-3
    capsys.readouterr()
    main([str(path), "--space", "linear", "--robust", "l2"])
    assert "--signed-floor" in capsys.readouterr().out
    for arguments, word in ((["--signed-floor"], "--space linear"), (["--asymmetry", "0"], "asymmetry")):
        with pytest.raises(SystemExit) as caught:
            main([str(path), *arguments])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1
